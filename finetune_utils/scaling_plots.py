"""Figures of scaling up: losses of several processes against one, memory by model size, accuracy by width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .canvas import ACCENT, AFTER, BEFORE, CONTEXT, new_figure, show
from .cards import RESERVE, Card
from .memory import MemoryEstimate

_METHODS = {
    "full": (ACCENT, "-", "D"),
    "lora": (AFTER, "-", "o"),
    "qlora": (AFTER, "--", "s"),
    "inference": (BEFORE, ":", "^"),
}
_NAMES = {"full": "full", "lora": "LoRA", "qlora": "QLoRA", "inference": "answering"}


def losses_of_two_runs(one: Sequence[float], two: Sequence[float], names: tuple[str, str]) -> None:
    """Two loss curves over each other, and their gap relative to the loss."""
    figure, (left, right) = new_figure(width=7.5, height=3.2, columns=2)
    steps = range(1, len(one) + 1)
    left.plot(steps, one, color=CONTEXT, linewidth=6, solid_capstyle="round")
    left.plot(steps, two, color=AFTER, linewidth=1.5, marker="o", markersize=3)
    left.annotate(
        f"wide gray: {names[0]}\nthin blue: {names[1]}", (0.97, 0.95), xycoords="axes fraction", ha="right", va="top"
    )
    left.set(xlabel="optimizer step", ylabel="loss (nats per token)")
    gaps = [abs(a - b) / abs(a) for a, b in zip(one, two, strict=True)]
    right.semilogy(steps, [max(gap, 1e-9) for gap in gaps], "o-", color=AFTER, markersize=3)
    right.axhline(1e-4, color=BEFORE, linestyle="--")
    right.annotate("allowed", (len(gaps), 1e-4), xytext=(0, 4), textcoords="offset points", ha="right", color=BEFORE)
    right.set(
        xlabel="optimizer step", ylabel="gap relative to the loss\n(0 is drawn at the bottom)", ylim=(5e-10, 1e-3)
    )
    sentence = (
        f"After {len(one)} steps the losses are {one[-1]:.4f} ({names[0]}) and {two[-1]:.4f} ({names[1]}); the largest gap is "
        f"{max(gaps):.1e} of the loss."
    )
    show(figure, f"Two loss curves that lie on each other, and their relative gap by step. {sentence}", sentence)


def memory_by_size(
    table: Mapping[str, Mapping[str, MemoryEstimate]], sizes: Mapping[str, float], cards: Sequence[Card]
) -> None:
    """Estimated peak memory against model size, one line a method, with the room that cards have.

    `sizes` gives the parameters of each model of the table, in billions.
    """
    figure, ax = new_figure(width=7.5, height=4.2)
    for method, (color, line, mark) in _METHODS.items():
        gigabytes = [table[name][method].total / 1e9 for name in sizes]
        ax.loglog(list(sizes.values()), gigabytes, line, color=color, marker=mark, markersize=4)
        end = (list(sizes.values())[-1], gigabytes[-1])
        down = {"inference": -8, "qlora": -9}.get(method, 0)  # beside LoRA, and on the line of a card
        ax.annotate(_NAMES[method], end, xytext=(6, down), textcoords="offset points", va="center", color=color)
    rooms: dict[float, list[str]] = {}
    for card in cards:
        rooms.setdefault(card.memory * (1 - RESERVE) / 1e9, []).append(card.name)
    for room, names in rooms.items():
        ax.axhline(room, color=CONTEXT, linewidth=1)
        ax.annotate(f"{', '.join(names)}: room for {room:.0f} GB", (min(sizes.values()), room), xytext=(0, 3),
                    textcoords="offset points", color="#555555", fontsize=9)  # fmt: skip
    ax.set(xlabel="parameters (billions)", ylabel="estimated peak memory (GB)", xlim=(None, 2.2 * max(sizes.values())))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    biggest = list(sizes)[-1]
    parts = ", ".join(f"{_NAMES[m]} {table[biggest][m].total / 1e9:,.0f} GB" for m in _METHODS)
    sentence = f"For {biggest} the estimates are: {parts}."
    show(figure, f"Line plot of memory against model size on two logarithmic axes, four methods. {sentence}", sentence)


def accuracy_by_width(rows: Sequence[Mapping[str, Any]]) -> None:
    """Accuracy against the width of a toy model, one line a task, with the range over seeds.

    Each row has `task`, `width`, `accuracy`, `low` and `high`.
    """
    figure, ax = new_figure()
    styles = {
        "form": (BEFORE, "^", "one form"),
        "rule": (AFTER, "o", "one rule, new pairs"),
        "facts": (ACCENT, "D", "many facts"),
    }
    parts = []
    for number, (task, (color, mark, name)) in enumerate(styles.items()):
        points = [row for row in rows if row["task"] == task]
        shift = 1 + 0.04 * (number - 1)  # ranges that coincide stay readable
        widths = [shift * row["width"] for row in points]
        ax.plot(widths, [100 * row["accuracy"] for row in points], marker=mark, color=color, label=name)
        ax.vlines(widths, [100 * row["low"] for row in points], [100 * row["high"] for row in points], color=color)
        parts.append(f"{name} {points[0]['accuracy']:.0%} to {points[-1]['accuracy']:.0%}")
    ax.set_xscale("log", base=2)
    ax.set_xticks(sorted({row["width"] for row in rows}), [str(w) for w in sorted({row["width"] for row in rows})])
    ax.set(xlabel="width of the toy model", ylabel="right answers (%)", ylim=(-3, 105))
    ax.legend(loc="lower right")
    sentence = f"From the narrowest to the widest model: {'; '.join(parts)} right."
    show(figure, f"Line plot of accuracy against width for three tasks, with ranges over seeds. {sentence}", sentence)
