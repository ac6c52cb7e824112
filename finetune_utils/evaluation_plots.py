"""Figures of evaluation: error categories, ratings with intervals, verdicts against labels, what was forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .canvas import ACCENT, AFTER, BEFORE, CONTEXT, new_figure, show

ARMS = {"untuned": "untuned", "lora": "LoRA", "full": "full fine-tuning"}


def error_categories(before: Mapping[str, int], after: Mapping[str, int], rows: int) -> None:
    """How many answers of each model have which error; categories that neither model shows are left out.

    Both map a category to a number of answers out of `rows`; `any` counts answers with at least one error.
    """
    names = [name for name in before if name != "any" and (before[name] or after[name])]
    names.sort(key=lambda name: -before[name])
    figure, ax = new_figure(height=1.3 + 0.5 * max(1, len(names)))
    for shift, counts, label, color, hatch in (
        (-0.2, before, "untuned", BEFORE, "///"),
        (0.2, after, "tuned", AFTER, ""),
    ):
        for place, name in enumerate(names):
            ax.barh(place + shift, counts[name], 0.38, color=color, hatch=hatch, edgecolor="white", linewidth=0)
            ax.annotate(f"{counts[name]} {label}", (counts[name], place + shift), xytext=(4, 0),
                        textcoords="offset points", va="center", fontsize=8, color=color)  # fmt: skip
    ax.set_yticks(range(len(names)), names)
    ax.set(xlim=(0, rows * 1.05), ylim=(len(names) - 0.4, -0.6), xlabel=f"answers with this error, of {rows}")
    ax.grid(axis="y", visible=False)
    parts = [f"{name} {before[name]} to {after[name]}" for name in names] or ["none found"]
    told = f"answers with any error {before['any']} to {after['any']} of {rows}"
    sentence = f"Untuned to tuned: {', '.join(parts)}; {told}."
    show(figure, f"Bar chart of error categories before and after training. {sentence}", sentence)


def ratings(found: Mapping[str, Any], what: str = "rating by the rule") -> None:
    """Ratings of systems on the scale of Elo with their 95 % intervals: `{system: Interval}`."""
    figure, ax = new_figure(height=1.2 + 0.5 * len(found))
    names = sorted(found, key=lambda name: -found[name].estimate)
    ax.axvline(1000, color=CONTEXT, linestyle="--", linewidth=1)
    for place, name in enumerate(names):
        x, color = found[name], AFTER if name == "tuned" else BEFORE
        ax.plot([x.low, x.high], [place, place], color=color, linewidth=1.5, marker="|", markersize=10)
        ax.plot(x.estimate, place, "D" if name == "tuned" else "o", color=color)
        ax.annotate(f"{x.estimate:.0f}", (x.estimate, place), xytext=(0, 7), textcoords="offset points",
                    ha="center", fontsize=9, color=color)  # fmt: skip
    ax.set_yticks(range(len(names)), names)
    ax.set(ylim=(len(names) - 0.5, -0.7), xlabel=f"{what} (mean 1000; 400 points are ten wins for each loss)")
    ax.margins(x=0.1)
    parts = [f"{name} {found[name].estimate:.0f} [{found[name].low:.0f}, {found[name].high:.0f}]" for name in names]
    sentence = f"{what.capitalize()}, with 95 % interval: {', '.join(parts)}."
    show(figure, f"Dot plot of ratings. {sentence}", sentence)


def judges(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Share of verdicts that equal the labels, one panel a kind of pair: `{kind: {judge: Interval}}`."""
    figure, axes = new_figure(width=8, height=2.8, columns=len(found))
    for ax, (kind, results) in zip([axes] if len(found) == 1 else axes, found.items(), strict=True):
        for place, x in enumerate(results.values()):
            color = AFTER if place == 0 else BEFORE
            ax.plot([x.low, x.high], [place, place], color=color, linewidth=1.5, marker="|", markersize=10)
            ax.plot(x.estimate, place, "D" if place == 0 else "o", color=color)
            ax.annotate(f"{x.estimate:.0%}", (x.estimate, place), xytext=(0, 6), textcoords="offset points",
                        ha="center", fontsize=8, color=color)  # fmt: skip
        first = kind == next(iter(found))
        ax.set_yticks(range(len(results)), list(results) if first else [""] * len(results))
        ax.set(xlim=(-0.12, 1.12), ylim=(len(results) - 0.5, -0.8), xticks=[0, 0.5, 1])
        ax.set_title(kind, fontsize=9)
    figure.supxlabel("share of verdicts equal to the labels, 95 % interval", fontsize=9)
    parts = [f"{' '.join(kind.split())}: " + ", ".join(f"{name} {x.estimate:.0%}" for name, x in results.items())
             for kind, results in found.items()]  # fmt: skip
    sentence = f"Verdicts equal to the labels. {'; '.join(parts)}."
    show(figure, f"Dot plots of agreement, one panel a kind of pair. {sentence}", sentence)


def forgetting(rows: Sequence[Mapping[str, Any]], live: Any = None) -> None:
    """What the arms of the study `forgetting` lost: change in NLL of neutral text, and accuracy on multiple choice.

    Args:
        rows: one an arm, with `arm`, `change`, `change_low`, `change_high`, `mcq_accuracy`, `mcq_low`, `mcq_high`.
        live: the change of a run made now, as an Interval, drawn below the others.
    """
    figure, (left, right) = new_figure(width=8, height=1.5 + 0.45 * (len(rows) + (live is not None)), columns=2)
    names, told = [ARMS.get(row["arm"], row["arm"]) for row in rows], []
    for place, row in enumerate(rows):
        color, mark = (BEFORE, "o") if row["arm"] == "untuned" else (AFTER, "D")
        change = row["change"] or 0.0  # the untuned arm is what the others are compared with
        ends = [row["change_low"] or 0.0, row["change_high"] or 0.0]
        left.plot(ends, [place, place], color=color, marker="|", markersize=10)
        left.plot(change, place, mark, color=color)
        right.plot([row["mcq_low"], row["mcq_high"]], [place, place], color=color, marker="|", markersize=10)
        right.plot(row["mcq_accuracy"], place, mark, color=color)
        told.append(f"{names[place]} {change:+.3f} and {row['mcq_accuracy']:.0%}")
    if live is not None:
        left.plot([live.low, live.high], [len(rows)] * 2, color=ACCENT, marker="|", markersize=10)
        left.plot(live.estimate, len(rows), "s", color=ACCENT)
    left.axvline(0, color=CONTEXT, linestyle="--", linewidth=1)
    right.axvline(0.25, color=ACCENT, linestyle=":", linewidth=1)
    right.annotate("chance", (0.25, -0.55), xytext=(3, 0), textcoords="offset points", fontsize=8, color=ACCENT)
    labels = names + (["now: the assistant"] if live is not None else [])
    left.set_yticks(range(len(labels)), labels)
    right.set_yticks(range(len(labels)), [""] * len(labels))
    left.set_xlabel("change in NLL of neutral text\n(nats per token; right of 0: forgotten)")
    right.set(xlabel="multiple choice answered right\n(share, 95 % interval)", xlim=(0, 1))
    for ax in (left, right):
        ax.set_ylim(len(labels) - 0.5, -0.8)
    now = f"; the assistant now {live}" if live is not None else ""
    sentence = f"Change in NLL of neutral text, and share of questions right: {'; '.join(told)}{now}."
    show(figure, f"Two dot plots with 95 % intervals, one row a way of training. {sentence}", sentence)
