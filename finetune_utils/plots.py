"""One function per figure: each draws, gives the picture its alt text, and prints a sentence that reads it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from .batch_plots import batch_layouts, batching_speed, row_lengths
from .canvas import ACCENT, AFTER, BEFORE, CONTEXT, LiveLoss, new_figure, show

# A point so many times the middle one is named at the edge of a figure instead of drawn to scale.
OUTLIER = 2

__all__ = ["LiveLoss", "batch_layouts", "batching_speed", "new_figure", "row_lengths", "show"]


def loss_curve(history: Sequence[dict[str, float]], label: str = "training loss") -> None:
    """Training loss by step, with its running mean, and the scores on held-out rows where there are any."""
    steps = [e["step"] for e in history if "loss" in e]
    losses = [e["loss"] for e in history if "loss" in e]
    window = max(1, len(losses) // 10)
    smooth = [sum(losses[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(losses))]
    scored = [(e["step"], e["eval_nll"]) for e in history if "eval_nll" in e]
    figure, ax = new_figure()
    ax.plot(steps, losses, color=CONTEXT, linewidth=1)
    ax.plot(steps, smooth, color=AFTER, linewidth=2)
    ax.annotate(label, (steps[-1], smooth[-1]), xytext=(-4, -14), textcoords="offset points", ha="right", color=AFTER)
    ax.margins(y=0.12)  # room for the label below the last point
    if scored:
        ax.plot(*zip(*scored, strict=True), "o--", color=ACCENT, markersize=4)
        ax.annotate("dev NLL", scored[-1], xytext=(-4, 8), textcoords="offset points", ha="right", color=ACCENT)
    ax.set(xlabel="optimizer step", ylabel="NLL (nats per token)")
    last = f"; dev NLL ends at {scored[-1][1]:.2f}" if scored else ""
    sentence = f"The loss falls from {losses[0]:.2f} to {smooth[-1]:.2f} nats per token in {steps[-1]} steps{last}."
    show(figure, f"Line plot of the loss over {steps[-1]} optimizer steps. {sentence}", sentence)


def before_after(results: dict[str, tuple[float, float, Any]]) -> None:
    """NLL before and after for each test set, with the 95 % interval of the change drawn at the end point.

    `results` maps a name to (before, after, interval of after minus before).
    """
    figure, ax = new_figure(height=1.2 + 0.7 * len(results))
    names = list(results)
    for place, name in enumerate(names):
        before, after, change = results[name]
        ax.plot([before, after], [place, place], color=CONTEXT, linewidth=3, zorder=1)
        low, high = before + change.low, before + change.high
        ax.plot([low, high], [place, place], color=AFTER, linewidth=1.5, marker="|", markersize=12, zorder=2)
        ax.plot(before, place, "o", color=BEFORE, zorder=3)
        ax.plot(after, place, "D", color=AFTER, zorder=3)
        ax.annotate(f"untuned {before:.2f}", (before, place), xytext=(0, 9), textcoords="offset points", ha="center")
        # Below, so that a small change does not write one label over the other.
        ax.annotate(f"tuned {after:.2f}", (after, place), xytext=(0, -18), textcoords="offset points", ha="center")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.6)
    ax.set(xlabel="NLL (nats per token, lower is better)\nbars: 95 % interval of the change")
    ax.margins(x=0.15)
    parts = [f"{name}: {b:.2f} to {a:.2f} (change {c})" for name, (b, a, c) in results.items()]
    sentence = "NLL " + "; ".join(parts) + "."
    show(figure, f"Dot plot of NLL before and after training. {sentence}", sentence)


def sweep(
    rows: Sequence[dict[str, float]], x: str, y: str, xlabel: str, ylabel: str = "dev NLL (nats per token)"
) -> None:
    """A measured value against a setting on a logarithmic axis, the best point marked."""
    xs, ys = [row[x] for row in rows], [row[y] for row in rows]
    best = min(range(len(ys)), key=ys.__getitem__)
    figure, ax = new_figure()
    ax.plot(xs, ys, "o-", color=AFTER)
    ax.set_xscale("log")
    ax.plot(xs[best], ys[best], "D", color=ACCENT, markersize=9)
    ax.margins(y=0.2)
    ceiling = OUTLIER * sorted(ys)[len(ys) // 2]
    if max(ys) > ceiling:  # a point far above would press all others into one line
        usual = [value for value in ys if value <= ceiling]
        room = (max(usual) - min(usual)) or 1.0
        ax.set_ylim(min(usual) - 0.35 * room, max(usual) + 0.6 * room)
        for place, value in zip(xs, ys, strict=True):
            if value > ceiling:
                ax.annotate(
                    f"{value:.1f} \u2191", (place, 0.93), xycoords=("data", "axes fraction"), ha="right", color=AFTER
                )
    ax.annotate(f"best: {xs[best]:g}", (xs[best], ys[best]), xytext=(0, -20), textcoords="offset points", ha="center",
                color=ACCENT)  # fmt: skip
    ax.set(xlabel=xlabel, ylabel=ylabel)
    sentence = f"Best at {xs[best]:g} ({ys[best]:.2f}); {ys[0]:.2f} at {xs[0]:g} and {ys[-1]:.2f} at {xs[-1]:g}."
    show(figure, f"Line plot of {ylabel} against {xlabel}. {sentence}", sentence)


def threshold(wanted: Sequence[float], others: Sequence[float], shift: float, opening: str = "Let") -> None:
    """Both kinds of mistakes against the shift of a threshold: `wanted` rows missed, `others` taken; `shift` is marked."""
    span = max(2.0, abs(shift) + 1)
    shifts = [shift - span + 2 * span * i / 200 for i in range(201)]
    missed = [sum(lead + x <= 0 for lead in wanted) / len(wanted) for x in shifts]
    taken = [sum(lead + x > 0 for lead in others) / len(others) for x in shifts]
    figure, ax = new_figure()
    ax.plot(shifts, missed, color=BEFORE)
    ax.plot(shifts, taken, color=AFTER)
    ax.axvline(shift, color=ACCENT, linestyle="--")
    ax.annotate("off-topic, answered", (shifts[0], missed[0]), xytext=(14, 4), textcoords="offset points", color=BEFORE)
    ax.annotate("on-topic, turned back", (shifts[-1], taken[-1]), xytext=(-4, 4), textcoords="offset points",
                ha="right", color=AFTER)  # fmt: skip
    ax.annotate(
        f"chosen: {shift:+.2f}", (shift, ax.get_ylim()[1]), xytext=(4, -12), textcoords="offset points", color=ACCENT
    )
    ax.margins(y=0.15)
    ax.set(xlabel=f'added to the logit of "{opening}"', ylabel="share of held-out rows")
    left, right = (sum(f(lead + shift) for lead in rows) / len(rows) for f, rows in
                   ((lambda x: x <= 0, wanted), (lambda x: x > 0, others)))  # fmt: skip
    sentence = (
        f"At {shift:+.2f}, {left:.1%} of {len(wanted)} off-topic rows are answered and {right:.1%} of {len(others)} "
        "good ones turned back."
    )
    show(figure, f"Line plot of two kinds of mistakes against a shift. {sentence}", sentence)


def next_tokens(predictions: dict[str, Sequence[tuple[str, float]]]) -> None:
    """The likeliest next tokens after each text, one panel a text: `{text: [(token, probability), ...]}`."""
    figure, axes = new_figure(height=1.2 + 0.25 * max(map(len, predictions.values())), columns=len(predictions))
    for ax, (text, tokens) in zip([axes] if len(predictions) == 1 else axes, predictions.items(), strict=True):
        shares = [100 * probability for _, probability in tokens]
        ax.barh(range(len(tokens)), shares, color=[AFTER] + [CONTEXT] * (len(tokens) - 1))
        for place, share in enumerate(shares):
            ax.annotate(f"{share:.0f} %" if share >= 1 else "<1 %", (share, place), xytext=(3, 0),
                        textcoords="offset points", va="center")  # fmt: skip
        ax.set_yticks(range(len(tokens)), [repr(token) for token, _ in tokens])
        ax.set(xlim=(0, 100), xlabel="probability (%)")
        ax.set_title(textwrap.fill(f'"{text} ..."', 30), fontsize=9, loc="left")
        ax.invert_yaxis()
    parts = [f'after "{text}" {tokens[0][0]!r} gets {tokens[0][1]:.0%}' for text, tokens in predictions.items()]
    sentence = "The likeliest next token: " + "; ".join(parts) + "."
    show(figure, f"Bar charts of next-token probabilities. {sentence}", sentence)


def compare_ways(panels: dict[str, dict[str, Any]], baselines: dict[str, float] | None = None) -> None:
    """Shares between 0 and 1 with their intervals, ways as rows: `{panel: {way: Interval}}`.

    `baselines` gives some panels a dashed line: what chance or another answer would reach there.
    """
    ways = list(next(iter(panels.values())))
    figure, axes = new_figure(height=1.2 + 0.36 * len(ways), columns=len(panels))
    for ax, (title, results) in zip([axes] if len(panels) == 1 else axes, panels.items(), strict=True):
        for place, way in enumerate(ways):
            x, color = results[way], AFTER if way == ways[-1] else BEFORE
            ax.plot([x.low, x.high], [place, place], color=color, linewidth=1.5, marker="|")
            ax.plot(x.estimate, place, "D" if way == ways[-1] else "o", color=color)
        if title in (baselines or {}):
            ax.axvline(baselines[title], color=ACCENT, linestyle="--", linewidth=1)
            ax.annotate("baseline", (baselines[title], -0.42), xytext=(3, 0), textcoords="offset points",
                        color=ACCENT, fontsize=8, va="center")  # fmt: skip
        ax.set_yticks(range(len(ways)), ways if ax is axes[0] else [""] * len(ways))
        top = 1.0 if max(x.high for x in results.values()) > 0.5 else 0.5
        ax.set(xlim=(-0.05 * top, 1.05 * top), ylim=(len(ways) - 0.5, -0.65), xticks=[0, top / 2, top])
        ax.set_title(title, fontsize=9)
    figure.supxlabel("share or overlap, from 0 (none) to 1 (all), with 95 % interval", fontsize=9)
    parts = [f"{title.replace(chr(10), ' ')}: " + ", ".join(f"{way} {x.estimate:.2f}" for way, x in results.items())
             for title, results in panels.items()]  # fmt: skip
    sentence = "; ".join(parts) + "."
    show(figure, f"Dot plots with 95 % intervals, one row a way of asking. {sentence}", sentence)


def running_costs(options: dict[str, tuple[float, float]], requests: float, meet: float | None) -> None:
    """Total cost against the number of requests: `{option: (upfront, per request)}`, `meet` marks the break-even."""
    figure, ax = new_figure()
    totals = {name: upfront + each * requests for name, (upfront, each) in options.items()}
    gap, height = 0.07 * max(totals.values()), -1.0
    styles = dict(zip(options, ((BEFORE, "--"), (ACCENT, ":"), (AFTER, "-")), strict=False))
    for name in sorted(totals, key=totals.__getitem__):
        color, line = styles[name]
        ax.plot([0, requests / 1000], [options[name][0], totals[name]], color=color, linestyle=line, linewidth=2)
        height = max(totals[name], height + gap)  # labels of lines that end together must not overlap
        ax.annotate(name, (requests / 1000, totals[name]), xytext=(1.02, height), textcoords=("axes fraction", "data"),
                    va="center", color=color)  # fmt: skip
    if meet is not None and meet < requests:
        upfront, each = list(options.values())[-1]
        ax.plot(meet / 1000, upfront + each * meet, "D", color=AFTER)
        ax.annotate(f"break-even: {meet:,.0f} requests", (meet / 1000, upfront + each * meet), xytext=(0, -12),
                    textcoords="offset points", va="top")  # fmt: skip
    ax.set(
        xlabel="requests (thousands)", ylabel="total cost (your currency)", xlim=(0, requests / 1000), ylim=(0, None)
    )
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    parts = ", ".join(f"{name} {total:,.0f}" for name, total in totals.items())
    where = "they do not meet here" if meet is None or meet >= requests else f"the break-even is at {meet:,.0f}"
    sentence = f"After {requests:,.0f} requests the totals are: {parts}; {where}."
    show(figure, f"Line plot of total cost against requests. {sentence}", sentence)


def length_histogram(texts: dict[str, Sequence[str]], what: str = "question") -> None:
    """How many texts have which length in words, one panel for each set."""
    lengths = {name: [len(text.split()) for text in group] for name, group in texts.items()}
    longest = max(max(group) for group in lengths.values())
    figure, axes = new_figure(height=2.8, columns=len(lengths))
    for ax, (name, group) in zip(axes, lengths.items(), strict=True):
        ax.hist(group, bins=range(1, longest + 2), align="left", color=AFTER, edgecolor="white", linewidth=0.5)
        ax.set(title=f"{name} ({len(group)})", xlabel=f"words in a {what}", ylabel=f"{what}s")
    top = max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set_ylim(0, top)
    parts = [f"{name} {min(group)} to {max(group)} words" for name, group in lengths.items()]
    sentence = f"{what.capitalize()} lengths: {', '.join(parts)}."
    show(figure, f"Histograms of {what} lengths, one a set. {sentence}", sentence)


def learning_curve(rows: Sequence[dict[str, Any]], others: dict[str, dict[str, Any]]) -> None:
    """Change in NLL against the number of training rows, on unseen facts and on reworded known ones.

    `rows` are the points of the curve; `others` are runs that share the number of rows of one point and are drawn to
    the right of it. All hold `rows` and, for `unseen` and `reworded`, `_change`, `_low` and `_high`.
    """
    figure, axes = new_figure(width=8, height=3.8, columns=2)
    panels = {"unseen": "facts nobody trained on", "reworded": "new wordings of trained facts"}
    sizes, places = [row["rows"] for row in rows], list(range(len(rows)))
    apart = [len(rows) + 0.5 + 1.5 * i for i in range(len(others))]
    size = next(iter(others.values()))["rows"]
    for ax, (name, title) in zip(axes, panels.items(), strict=True):
        ax.axhline(0, color=BEFORE, linewidth=1, linestyle=":")
        ax.annotate("untuned", (0, 0), xytext=(0, 3), textcoords="offset points", color=BEFORE, fontsize=8)
        change = [row[f"{name}_change"] for row in rows]
        ax.errorbar(places, change, _spans(rows, name), fmt="o-", color=AFTER, capsize=3)
        same = sizes.index(size)
        ax.plot([same, apart[-1] + 0.4], [change[same]] * 2, "--", color=AFTER, linewidth=0.8)
        found = list(others.values())
        spans = _spans(found, name)
        ax.errorbar(apart, [row[f"{name}_change"] for row in found], spans, fmt="D", color=ACCENT, capsize=3)
        ax.set_xticks(places + apart, [*map(str, sizes), *(textwrap.fill(label, 8) for label in others)], fontsize=8)
        ax.set(title=title, xlabel=f"training rows, each read once; red: {size} rows")
    axes[0].set_ylabel("change in NLL (nats per token)")
    low, high = min(ax.get_ylim()[0] for ax in axes), max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set_ylim(low, high)
    first, last = rows[0], rows[-1]
    told = [f"{title} {first[f'{n}_change']:+.2f} to {last[f'{n}_change']:+.2f}" for n, title in panels.items()]
    sentence = f"Change in NLL against the untuned model from {sizes[0]} to {sizes[-1]} rows, nats per token: {'; '.join(told)}."
    show(
        figure,
        f"Two plots with 95 % intervals over the number of training rows, {len(others)} runs beside. {sentence}",
        sentence,
    )


def _spans(rows: Sequence[dict[str, Any]], name: str) -> list[list[float]]:
    """Lengths of the interval below and above each change, as `errorbar` wants them."""
    below = [row[f"{name}_change"] - row[f"{name}_low"] for row in rows]
    return [below, [row[f"{name}_high"] - row[f"{name}_change"] for row in rows]]


def promise_and_truth(rows: Sequence[dict[str, Any]]) -> None:
    """What each split promised (its held-out rows) and what the same model did on facts nobody saw.

    Each row has `split` and, for `held_out` and `unseen`, `_change`, `_low` and `_high`.
    """
    figure, ax = new_figure(height=2.8)
    styles = {"held_out": ("promised", ACCENT, "o", -0.14, 8), "unseen": ("found", AFTER, "D", 0.14, -15)}
    for place, row in enumerate(rows):
        for name, (label, color, mark, shift, above) in styles.items():
            x, y = row[f"{name}_change"], place + shift
            ax.errorbar([x], [y], xerr=_spans([row], name), fmt=mark, color=color, capsize=3)
            ax.annotate(f"{label} {x:+.2f}", (x, y), xytext=(0, above), textcoords="offset points", ha="center",
                        fontsize=9, color=color)  # fmt: skip
    ax.set_yticks(range(len(rows)), [row["split"] for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.margins(x=0.2)
    ax.set(xlabel="change in NLL against the untuned model (nats per token)")
    ax.set_title("promised by the split's held-out rows, found on facts nobody saw", fontsize=10)
    parts = [f"{r['split']} promised {r['held_out_change']:+.2f} and gave {r['unseen_change']:+.2f}" for r in rows]
    sentence = f"Change in NLL, nats per token: {'; '.join(parts)}."
    show(figure, f"Dot plot with 95 % intervals, two points for each way to split. {sentence}", sentence)
