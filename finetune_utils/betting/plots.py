"""Figures of forecasts: the ladder, reliability, right and wrong, stated numbers, intervals, leaks, bankrolls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..canvas import ACCENT, AFTER, BEFORE, CONTEXT, new_figure, show
from ..evaluation import Interval
from .scoring import Bin, auroc

PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # behind a label that crosses lines


def ladder(rungs: Mapping[str, tuple[float, Interval]], reference: str, tuned: Sequence[str] = ()) -> None:
    """Brier score of every forecaster, from the top down, with the paired interval of its distance to a reference.

    Args:
        rungs: name to (Brier score, interval of it minus the reference's Brier score on the same games).
        reference: the name that the others are compared with; its own interval is not drawn.
        tuned: names to be drawn as results, the others are drawn as context.
    """
    figure, ax = new_figure(height=1.1 + 0.36 * len(rungs))
    zero, told = rungs[reference][0], []
    ax.axvline(zero, color=BEFORE, linewidth=1, linestyle="--")
    for place, (name, (score, change)) in enumerate(rungs.items()):
        color, mark = (AFTER, "D") if name in tuned else (BEFORE, "o")
        if name != reference:
            ax.plot([zero + change.low, zero + change.high], [place, place], color=color, marker="|", markersize=9)
        ax.plot(score, place, mark, color=color)
        ax.annotate(f"{score:.4f}", (1.02, place), xycoords=("axes fraction", "data"), va="center", color=color)
        told.append(f"{name} {score:.4f}")
    ax.set_yticks(range(len(rungs)), list(rungs))
    ax.set_ylim(len(rungs) - 0.4, -0.6)
    ax.set_xlabel(f"Brier score (lower is better)\nbars: 95 % interval of the distance to the {reference} (dashed)")
    ax.margins(x=0.06)
    sentence = f"Brier scores: {', '.join(told)}."
    show(figure, f"Dot plot of Brier scores with paired 95 % intervals. {sentence}", sentence)


def reliability(panels: Mapping[str, Sequence[Bin]]) -> None:
    """Stated probability against what happened, one panel a forecaster, with the simulated 90 % band of a perfect one."""
    figure, axes = new_figure(width=2.9 * len(panels) + 0.4, height=3.3, columns=len(panels))
    told = []
    for ax, (name, bins) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        inside = draw_reliability(ax, bins)
        ax.set_title(name, fontsize=10)
        told.append(f"{name}: {inside} of {len(bins)} bins lie inside the band")
    np.atleast_1d(axes)[0].set_ylabel("share of games won")
    figure.supxlabel("stated probability (numbers: games in the bin)", fontsize=10)
    sentence = f"{'; '.join(told)}. A perfect forecaster would leave it in about one bin of ten."
    show(figure, f"Reliability diagrams with bands that a perfect forecaster would give. {sentence}", sentence)


def draw_reliability(ax: Any, bins: Sequence[Bin], color: str = AFTER, counts: bool = True) -> int:
    """Draw one reliability diagram into `ax`, with the games of each bin, and return how many bins lie inside their band."""
    ax.plot([0, 1], [0, 1], color=CONTEXT, linewidth=1, linestyle="--")
    for number, part in enumerate(bins):
        ax.plot([part.stated] * 2, [part.low, part.high], color=CONTEXT, linewidth=7, solid_capstyle="butt")
        if counts:
            height = 0.02 + 0.05 * (number % 2)  # neighbors may stand close together
            ax.annotate(str(part.count), (part.stated, height), fontsize=6, ha="center", color=BEFORE)
    ax.plot([b.stated for b in bins], [b.observed for b in bins], "o-", color=color, markersize=4, linewidth=1)
    ax.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    return sum(part.low - 1e-9 <= part.observed <= part.high + 1e-9 for part in bins)


def right_and_wrong(p: Sequence[float], y: Sequence[int]) -> None:
    """How sure the forecaster was of the likelier side, where that side won and where it lost."""
    p, y = np.asarray(p, float), np.asarray(y, int)
    sure, right = np.maximum(p, 1 - p), (p > 0.5) == (y == 1)
    figure, ax = new_figure(height=3.2)
    edges, told = np.linspace(0.5, 1, 21), []
    for sign, chosen, color, name in ((1, right, AFTER, "right"), (-1, ~right, ACCENT, "wrong")):
        counts = np.histogram(sure[chosen], edges)[0]
        hatch = "" if sign == 1 else "///"
        ax.bar(edges[:-1], sign * counts, 0.024, align="edge", color=color, hatch=hatch, edgecolor="white", linewidth=0)
        mean = float(sure[chosen].mean()) if chosen.any() else float("nan")
        text = f"{name}: {int(chosen.sum())} games" + (f", mean {mean:.3f}" if chosen.any() else "")
        ax.annotate(text, (0.98, 0.92 if sign == 1 else 0.06), xycoords="axes fraction", ha="right", color=color)
        told.append(f"where the likelier side {'won' if sign == 1 else 'lost'}, {int(chosen.sum())} games" +
                    (f", on average {mean:.3f}" if chosen.any() else ""))  # fmt: skip
    ax.axhline(0, color="black", linewidth=0.8)
    ax.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    ax.set(xlabel="stated probability of the likelier side", ylabel="games", xlim=(0.5, 1))
    ax.margins(y=0.15)
    apart = f" A right game was the surer one in {auroc(sure, right):.0%} of pairs." if 0 < right.sum() < len(p) else ""
    sentence = f"Confidence: {'; '.join(told)}.{apart}"
    show(figure, f"Histograms of confidence, right above and wrong below the axis. {sentence}", sentence)


def heaping(panels: Mapping[str, Sequence[float]]) -> None:
    """How often each hundredth was stated, one panel a source; multiples of 0.05 are drawn darker."""
    figure, axes = new_figure(height=1.0 + 1.5 * len(panels), rows=len(panels))
    told = []
    for ax, (name, values) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        cents = np.round(100 * np.asarray(values, float)).astype(int)
        counts = np.bincount(cents, minlength=101)
        place = np.arange(101)
        ax.bar(place / 100, counts, 0.008, color=np.where(place % 5 == 0, AFTER, CONTEXT))
        share, distinct = float((cents % 5 == 0).mean()), int((counts > 0).sum())
        ax.annotate(f"{name}\n{distinct} distinct numbers\n{share:.0%} multiples of 0.05", (0.01, 0.95),
                    xycoords="axes fraction", va="top", fontsize=8)  # fmt: skip
        ax.set(xlim=(0, 1), ylabel="games")
        told.append(f"{name} {distinct} distinct numbers, {share:.0%} of them multiples of 0.05")
    np.atleast_1d(axes)[-1].set_xlabel("stated probability (dark: multiples of 0.05)")
    sentence = f"{'; '.join(told)}. Without heaping about one number in five is a multiple of 0.05."
    show(figure, f"Bar charts of how often each hundredth was stated. {sentence}", sentence)


def digit_bars(chances: Sequence[float], marks: Mapping[str, float], title: str = "") -> None:
    """The model's distribution over 0.00 to 0.99 for one question, with single numbers marked by name.

    Args:
        chances: 100 probabilities, of 0.00, 0.01 and so on.
        marks: name to value, drawn as labeled vertical lines.
    """
    figure, ax = new_figure(height=2.9)
    ax.bar(np.arange(100) / 100, chances, 0.008, color=CONTEXT)
    top = float(np.max(chances))
    colors, lines = (AFTER, ACCENT, "black"), ("-", "--", ":")
    for number, (name, value) in enumerate(marks.items()):
        color = colors[number % 3]
        ax.axvline(value, color=color, linestyle=lines[number % 3], linewidth=1.5)
        height, left = top * (1.3 - 0.17 * number), np.mean(list(marks.values())) > 0.5
        ax.annotate(f"{name} {value:.2f}", (value, height), xytext=(0.03 if left else 0.97, height),
                    ha="left" if left else "right", va="center", color=color, fontsize=9,
                    arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.7})  # fmt: skip
    ax.set(xlabel="stated probability", ylabel="probability of\nsaying this number", xlim=(0, 1), ylim=(0, 1.42 * top))
    ax.set_title(title, fontsize=9)
    parts = [f"{name} {value:.2f}" for name, value in marks.items()]
    sentence = f"The likeliest number is {int(np.argmax(chances)) / 100:.2f}; {', '.join(parts)}."
    show(figure, f"Bar chart of a distribution over stated numbers. {sentence}", sentence)


def widths(p: Sequence[float], low: Sequence[float], high: Sequence[float]) -> None:
    """Width of each stated range of prices against its probability, with the rule that it was taught."""
    p, width = np.asarray(p, float), np.asarray(high, float) - np.asarray(low, float)
    figure, ax = new_figure(height=3.2)
    ax.plot(p, width, "o", color=AFTER, alpha=0.25, markersize=4, markeredgewidth=0)
    x = np.linspace(0.03, 0.97, 95)
    rules = ((0.7, "--", "logit \u00b1 0.7"), (1.0, ":", "logit \u00b1 1.0 (early and late in a season)"))
    for reach, style, name in rules:
        ends = [1 / (1 + np.exp(-(np.log(x / (1 - x)) + sign * reach))) for sign in (1, -1)]
        ax.plot(x, ends[0] - ends[1], color="black", linewidth=1, linestyle=style, label=name)
    ax.legend(loc="lower center", fontsize=8)
    ax.set(xlabel="stated probability", ylabel="width of the stated range", xlim=(0, 1), ylim=(0, 0.56))
    sentence = (f"The ranges are {width.mean():.2f} wide on average: {np.median(width[np.abs(p - 0.5) < 0.1]):.2f} near "
                f"one half and {np.median(width[np.abs(p - 0.5) >= 0.25]):.2f} at the ends."
                if (np.abs(p - 0.5) < 0.1).any() and (np.abs(p - 0.5) >= 0.25).any()
                else f"The ranges are {width.mean():.2f} wide on average.")  # fmt: skip
    show(figure, f"Scatter plot of interval width against probability. {sentence}", sentence)


def coverage(found: Mapping[str, tuple[Interval, float]], aim: float = 0.8) -> None:
    """Coverage of margin intervals: name to (share of outcomes inside with its interval, mean width in points)."""
    figure, ax = new_figure(height=1.3 + 0.45 * len(found))
    ax.axvline(aim, color=ACCENT, linewidth=1, linestyle="--")
    told = []
    for place, (name, (share, width)) in enumerate(found.items()):
        ax.plot([share.low, share.high], [place, place], color=AFTER, marker="|", markersize=10)
        ax.plot(share.estimate, place, "D", color=AFTER)
        ax.annotate(f"{share.estimate:.0%}, {width:.0f} points wide", (share.estimate, place), xytext=(0, 7),
                    textcoords="offset points", ha="center", fontsize=9, bbox=PAPER)  # fmt: skip
        told.append(f"{name} {share.estimate:.1%} with {width:.1f} points")
    ax.set_yticks(range(len(found)), list(found))
    ax.set(ylim=(len(found) - 0.5, -0.8), xlabel=f"outcomes inside (95 % interval; dashed: {aim:.0%})")
    ax.set_xlim(min(0.6, min(share.low for share, _ in found.values()) - 0.02), 1)
    sentence = f"Coverage (asked: {aim:.0%}) and mean width: {'; '.join(told)}."
    show(figure, f"Dot plot of coverage. {sentence}", sentence)


def leakage_lab(found: Mapping[str, tuple[float, Sequence[Bin]]]) -> None:
    """Brier score of each set of columns on the left, its reliability on the right: name to (Brier, bins)."""
    figure, axes = new_figure(width=2.0 * (len(found) + 1) + 1.5, height=3.2, columns=len(found) + 1)
    names, inside = list(found), []
    scores = [score for score, _ in found.values()]
    colors = [BEFORE] + [ACCENT] * (len(found) - 1)
    axes[0].bar(range(len(found)), scores, 0.6, color=colors)
    for place, score in enumerate(scores):
        axes[0].annotate(f"{score:.3f}", (place, score), xytext=(0, 3), textcoords="offset points", ha="center",
                         fontsize=8, color=colors[place])  # fmt: skip
    axes[0].set_xticks(range(len(found)), [str(i + 1) for i in range(len(found))])
    axes[0].set(ylabel="Brier score", ylim=(0, 0.29))
    axes[0].set_title("how good it looks", fontsize=9)
    for place, (ax, (name, (_, bins))) in enumerate(zip(axes[1:], found.items(), strict=True)):
        inside.append(draw_reliability(ax, bins, colors[place], counts=False))
        ax.set_title(f"{place + 1}: {name}", fontsize=9)
    axes[1].set_ylabel("share of games won")
    figure.supxlabel("right: stated probability", fontsize=9)
    parts = [f"{name} {score:.3f} ({hits} of {len(bins)} bins inside the band)"
             for name, hits, (score, bins) in zip(names, inside, found.values(), strict=True)]  # fmt: skip
    sentence = f"Brier scores: {', '.join(parts)}."
    show(figure, f"Bar chart of Brier scores beside one reliability diagram a model. {sentence}", sentence)


def bankroll_paths(panels: Mapping[str, np.ndarray], drawn: int = 8) -> None:
    """Bankrolls over a season, one panel a rule: arrays (seasons, bets + 1) that start at 1, on a log scale."""
    figure, axes = new_figure(width=2.9 * len(panels) + 0.8, height=3.4, columns=len(panels))
    told = []
    for ax, (name, paths) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        shown = np.maximum(paths, 1e-4)
        bets = np.arange(shown.shape[1])[:: max(1, shown.shape[1] // 60)]  # coarse lines keep the notebook small
        for path in shown[:drawn]:
            ax.plot(bets, path[bets], color=CONTEXT, linewidth=0.5)
        middle, final = np.median(shown, axis=0), paths[:, -1]
        ax.plot(middle, color=AFTER, linewidth=2)
        ax.axhline(1, color="black", linewidth=0.8, linestyle="--")
        end = float(np.median(final))
        text = f"{end:.2g}" if end >= 1e-4 else "below 0.0001"
        ax.annotate(f"median {text}", (0.97, 0.04), xycoords="axes fraction", ha="right", color=AFTER, bbox=PAPER)
        ax.set(yscale="log", ylim=(1e-4, 100))
        ax.set_title(name, fontsize=10)
        told.append(f"{name}: median {text}, {(final < 0.1).mean():.0%} lost nine tenths, "
                    f"{(final > 1).mean():.0%} gained")  # fmt: skip
    np.atleast_1d(axes)[0].set_ylabel("bankroll (log scale, start 1)")
    figure.supxlabel("games of the season", fontsize=10)
    sentence = f"After the season, {'; '.join(told)}."
    show(figure, f"Line plots of simulated bankrolls, one panel a rule for the stake. {sentence}", sentence)
