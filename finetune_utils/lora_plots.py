"""Figures of adapters: quality and cost by rank, learned against forgotten, where the weights moved, 4-bit levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .canvas import ACCENT, AFTER, BEFORE, CONTEXT, new_figure, show


def quality_by_rank(rows: Sequence[Mapping[str, Any]]) -> None:
    """Quality, seconds and memory of LoRA by rank, with full fine-tuning at the right end.

    Each row has `rank` (a number or "full"), `dev_change` with `_low` and `_high`, `seconds`, and `memory` and
    `memory_estimate` in bytes.
    """
    figure, axes = new_figure(width=8, height=3.4, columns=3)
    names, places = [str(row["rank"]) for row in rows], range(len(rows))
    colors = [ACCENT if name == "full" else AFTER for name in names]
    change = [row["dev_change"] for row in rows]
    for place, row, color in zip(places, rows, colors, strict=True):
        mark = "D" if row["rank"] == "full" else "o"
        axes[0].plot(
            [place] * 2, [row["dev_change_low"], row["dev_change_high"]], color=color, marker="_", markersize=8
        )
        axes[0].plot(place, row["dev_change"], mark, color=color)
    axes[0].set(title="quality on dev rows", ylabel="change in NLL (nats per token)\nlower is better")
    axes[1].bar(places, [row["seconds"] for row in rows], color=colors, width=0.6)
    axes[1].set(title="training time", ylabel="seconds")
    memory, guess = ([row[key] / 1e9 for row in rows] for key in ("memory", "memory_estimate"))
    axes[2].bar(places, memory, color=colors, width=0.6)
    axes[2].plot(places, guess, "D", color="black", markerfacecolor="white")
    axes[2].annotate("\u25c7 estimate", (0.04, 0.93), xycoords="axes fraction", fontsize=9)
    axes[2].set(title="peak memory", ylabel="GB", ylim=(0, 1.2 * max(memory + guess)))
    for ax in axes:
        ax.set_xticks(places, names)
        ax.set_xlabel("rank")
        ax.set_xlim(-0.6, len(rows) - 0.4)
        ax.title.set_fontsize(10)
    parts = [f"{n} {c:+.2f}, {row['seconds']:.0f} s, {m:.1f} GB (estimate {g:.1f})"
             for n, c, row, m, g in zip(names, change, rows, memory, guess, strict=True)]  # fmt: skip
    sentence = f"Change in dev NLL, time and memory by rank: {'; '.join(parts)}."
    show(figure, f"Three plots over the rank: quality with 95 % intervals, time, memory. {sentence}", sentence)


def learned_and_forgot(rows: Sequence[Mapping[str, Any]]) -> None:
    """What each arm learned (NLL of reworded trained facts) against what it forgot (NLL of neutral text).

    Each row has `rank`, `reworded_change` and `change` (of neutral text), both with `_low` and `_high`.
    """
    figure, ax = new_figure(height=3.8)
    ax.axhline(0, color=BEFORE, linewidth=1, linestyle=":")
    ax.axvline(0, color=BEFORE, linewidth=1, linestyle=":")
    ax.plot(0, 0, "s", color=BEFORE)
    ax.annotate("untuned", (0, 0), xytext=(-6, 6), textcoords="offset points", ha="right", color=BEFORE)
    for number, row in enumerate(rows):
        full = row["rank"] == "full"
        color, x, y = ACCENT if full else AFTER, row["reworded_change"], row["change"]
        ax.plot([row["reworded_change_low"], row["reworded_change_high"]], [y, y], color=color, linewidth=1)
        ax.plot([x, x], [row["change_low"], row["change_high"]], color=color, linewidth=1)
        ax.plot(x, y, "D" if full else "o", color=color)
        side = 1 if number % 2 else -1  # neighbors may lie close together
        ax.annotate("full" if full else f"r={row['rank']}", (x, y), xytext=(6 * side, 7 if y >= 0 else -15),
                    textcoords="offset points", ha="left" if side > 0 else "right", color=color)  # fmt: skip
    ax.margins(0.12)
    ax.set(xlabel="learned: change in NLL on new wordings of trained facts\n(nats per token, further left is better)",
           ylabel="forgotten: change in NLL on\nneutral text (nats per token)")  # fmt: skip
    parts = [f"{'full' if r['rank'] == 'full' else 'r=' + str(r['rank'])} learned {r['reworded_change']:+.2f} and "
             f"forgot {r['change']:+.2f}" for r in rows]  # fmt: skip
    sentence = f"Changes in nats per token: {'; '.join(parts)}."
    show(figure, f"Scatter plot with 95 % intervals of learning against forgetting. {sentence}", sentence)


def updates_by_layer(updates: Mapping[str, Sequence[float]]) -> None:
    """How far each weight matrix moved, relative to its size: one line of cells a kind of matrix, one column a layer."""
    figure, ax = new_figure(height=2.9)
    table = 100 * np.array(list(updates.values()))
    image = ax.imshow(table, aspect="auto", cmap="Blues", vmin=0)
    ax.set_yticks(range(len(updates)), list(updates))
    ax.set_xlabel("layer, from the input (0) to the output")
    ax.grid(False)
    figure.colorbar(image, ax=ax, label="update, % of the weights' size")
    place = np.unravel_index(int(table.argmax()), table.shape)
    means = {name: float(row.mean()) for name, row in zip(updates, table, strict=True)}
    most = max(means, key=means.__getitem__)
    sentence = (
        f"The largest update is {table.max():.1f} % of its matrix ({list(updates)[place[0]]}, layer {place[1]}), the "
        f"smallest {table.min():.1f} %; on average {most} moved most ({means[most]:.1f} %)."
    )
    show(figure, f"Heat map of the size of the update in every adapted matrix. {sentence}", sentence)


def rounding_to_levels(weights: Sequence[float], levels: Sequence[float], label: str) -> None:
    """The distribution of weights (scaled to -1 to 1) and the levels that they are rounded to."""
    figure, ax = new_figure(height=2.6)
    ax.hist(weights, bins=80, color=CONTEXT)
    for level in levels:
        ax.axvline(level, color=AFTER, linewidth=1)
    ax.set(xlabel="weight divided by the largest of its block of 64", ylabel="weights", yticks=[], xlim=(-1.03, 1.03))
    ax.set_title(label, fontsize=10)
    gaps = np.diff(np.sort(np.asarray(levels, float)))
    sentence = (
        f"{len(levels)} levels from {min(levels):g} to {max(levels):g}: the gaps are {gaps.min():.2f} wide where weights "
        f"are many and up to {gaps.max():.2f} where they are few."
    )
    show(figure, f"Histogram of scaled weights with {len(levels)} vertical lines. {sentence}", sentence)
