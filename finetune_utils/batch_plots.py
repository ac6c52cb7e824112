"""Figures of batches: how long rows are, what padding costs, how fast each plan is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .canvas import ACCENT, AFTER, BEFORE, CONTEXT, new_figure, show


def row_lengths(lengths: Sequence[int], limit: int) -> None:
    """How many rows have which length in tokens, and which of them a limit would cut."""
    figure, ax = new_figure(height=2.8)
    width = max(1, round((max(lengths) - min(lengths)) / 30))
    border = limit + 0.5  # no bar stands on both sides of it
    first = border - width * math.ceil((border - min(lengths)) / width)
    edges = [first + i * width for i in range(math.ceil((max(lengths) + 1 - first) / width) + 1)]
    _, _, bars = ax.hist(lengths, bins=edges, color=AFTER, edgecolor="white", linewidth=0.4)
    for left, patch in zip(edges, bars, strict=False):
        if left >= border:
            patch.set(facecolor=ACCENT, hatch="///")
    ax.axvline(border, color=ACCENT, linestyle="--", linewidth=1)
    ax.yaxis.get_major_locator().set_params(integer=True)
    cut = sum(length > limit for length in lengths)
    ax.annotate(f"limit {limit}: {cut:,} rows cut", (border, 1), xycoords=("data", "axes fraction"), xytext=(5, -12),
                textcoords="offset points", color=ACCENT)  # fmt: skip
    ax.set(xlabel="length of a row (tokens, prompt and answer)", ylabel="rows")
    ax.margins(y=0.2)
    middle = sorted(lengths)[len(lengths) // 2]
    sentence = (
        f"Rows have {min(lengths)} to {max(lengths)} tokens, half of them at most {middle}; "
        f"a limit of {limit} cuts {cut:,} of {len(lengths):,} ({cut / len(lengths):.0%})."
    )
    show(figure, f"Histogram of row lengths with a line at {limit} tokens. {sentence}", sentence)


def batch_layouts(
    batches: dict[str, tuple[Sequence[tuple[int, int]], int | None]], packed: Sequence[tuple[int, int]]
) -> None:
    """Batches as pictures: prompt, answer and padding of each row.

    `batches` maps a plan to its rows as (prompt tokens, answer tokens) and its width (None: the longest row); the rows of
    `packed` are drawn one behind the other.
    """
    figure, axes = new_figure(height=4.6, rows=len(batches) + 1)
    padding, ends = {}, [sum(map(sum, packed))]
    for ax, (name, (rows, width)) in zip(axes, batches.items(), strict=False):
        width = width or max(map(sum, rows))
        ends.append(width)
        for place, (prompt, answer) in enumerate(rows):
            _draw_row(ax, place, [(0, prompt, answer)], width)
        padding[name] = 1 - sum(map(sum, rows)) / (width * len(rows))
        ax.set_title(f"{name}: {len(rows)} x {width} positions, {padding[name]:.0%} padding", fontsize=9, loc="left")
    starts = [sum(map(sum, packed[:i])) for i in range(len(packed))]
    _draw_row(axes[-1], 0, [(start, *row) for start, row in zip(starts, packed, strict=True)], ends[0])
    axes[-1].set_title(f"packed: 1 x {ends[0]} positions, no padding", fontsize=9, loc="left")
    for ax in axes:
        ax.set(xlim=(0, max(ends)), ylim=(len(packed) - 0.4, -0.6), yticks=[])
        ax.grid(False)
        ax.label_outer()
    axes[-1].set_xlabel("position (light: prompt, dark: answer, hatched: padding)")
    sentence = "Padding: " + ", ".join(f"{name} {share:.0%}" for name, share in padding.items()) + ", packed 0%."
    show(figure, f"One batch of each plan, drawn row by row. {sentence}", sentence)


def _draw_row(ax: Any, place: int, parts: Sequence[tuple[int, int, int]], width: int) -> None:
    """Draw (start, prompt tokens, answer tokens) parts and the padding up to `width`."""
    for start, prompt, answer in parts:
        ax.broken_barh([(start, prompt)], (place - 0.4, 0.8), facecolor="#a9c4e4", edgecolor="white", linewidth=0.5)
        ax.broken_barh([(start + prompt, answer)], (place - 0.4, 0.8), facecolor=AFTER)
    end = sum(parts[-1])
    ax.broken_barh(
        [(end, width - end)], (place - 0.4, 0.8), facecolor="white", edgecolor=CONTEXT, hatch="////", linewidth=0
    )


def batching_speed(speed: dict[str, Sequence[float]]) -> None:
    """Rows per second of each plan. The bar is the fastest turn, since a busy machine can only slow a plan down."""
    figure, ax = new_figure(height=0.9 + 0.4 * len(speed))
    first, told = max(next(iter(speed.values()))), []
    for place, (name, turns) in enumerate(speed.items()):
        ax.barh(place, max(turns), height=0.6, color=AFTER if place else BEFORE)
        ax.plot(turns, [place] * len(turns), "o", color="black", markerfacecolor="white", markersize=4)
        ax.annotate(f"{max(turns):.1f}", (max(turns), place), xytext=(8, 0), textcoords="offset points", va="center")
        ratio = f", {max(turns) / first:.1f} x" if place else ""
        told.append(f"{name} {max(turns):.1f} ({min(turns):.1f}){ratio}")
    ax.set_yticks(range(len(speed)), list(speed))
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set(xlabel="rows per second, forward pass (dots: single turns)")
    ax.margins(x=0.12)
    sentence = f"Rows/s in the fastest turn (in the slowest): {'; '.join(told)}."
    show(figure, f"Bar chart of rows per second by plan. {sentence}", sentence)
