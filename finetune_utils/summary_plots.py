"""Figures of summaries and of several tasks: ROUGE with intervals, sampling shares, a board of scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from .canvas import ACCENT, AFTER, BEFORE, new_figure, show
from .evaluation import Interval
from .multitask import QUESTIONS, SENTIMENT, SUMMARIES, sampling_shares

KINDS = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
# Column of the board: key, title, format, whether more is better, the task that trains it.
BOARD = (
    ("rouge_l", "summaries\nROUGE-L", "{:.3f}", True, SUMMARIES),
    ("question_nll", "questions\nNLL of answers", "{:.2f}", False, QUESTIONS),
    ("accuracy", "sentiment\naccuracy", "{:.2f}", True, SENTIMENT),
    ("neutral_nll", "neutral text\nNLL (forgetting)", "{:.3f}", False, ""),
)
TONES = ("#dfe8f3", "#b9cde6", "#8fb1d8")  # three shades that stay apart in gray as well


def rouge_ladder(table: Mapping[str, Mapping[str, Interval]], tuned: str = "tuned") -> None:
    """ROUGE-1, ROUGE-2 and ROUGE-L of every system with 95 % intervals, in the order given."""
    figure, axes = new_figure(width=8, height=0.42 * len(table) + 1.4, columns=3)
    names = list(table)
    for ax, (kind, title) in zip(axes, KINDS.items(), strict=True):
        for place, name in enumerate(names):
            found, color = table[name][kind], ACCENT if name == tuned else AFTER
            ax.plot([found.low, found.high], [place] * 2, color=color, marker="|", markersize=8)
            ax.plot(found.estimate, place, "D" if name == tuned else "o", color=color)
            ax.annotate(f"{found.estimate:.2f}", (found.estimate, place), xytext=(0, 6), textcoords="offset points",
                        ha="center", fontsize=8, color=color)  # fmt: skip
        ax.set(xlabel=f"{title}, mean F1", xlim=(0, None), ylim=(len(names) - 0.5, -0.7))
        ax.set_yticks(range(len(names)), names if ax is axes[0] else [""] * len(names))
    parts = [f"{name} {row['rougeL'].estimate:.3f} [{row['rougeL'].low:.3f}, {row['rougeL'].high:.3f}]"
             for name, row in table.items()]  # fmt: skip
    sentence = f"ROUGE-L with 95 % intervals: {'; '.join(parts)}."
    show(figure, f"Three panels with one dot and interval a system. {sentence}", sentence)


def shares_by_temperature(sizes: Mapping[str, int], temperatures: Sequence[float] = (1, 2, 4, math.inf)) -> None:
    """The share of the batches that each task gets, one bar a temperature."""
    figure, ax = new_figure(height=0.4 * len(temperatures) + 1.3)
    ax.grid(False)
    parts = []
    for place, temperature in enumerate(temperatures):
        left, shares = 0.0, sampling_shares(sizes, temperature)
        for tone, (name, share) in zip(TONES, shares.items(), strict=False):
            ax.barh(place, share, left=left, height=0.7, color=tone, edgecolor="white")
            label = f"{name} {share:.0%}" if share > 0.2 else f"{share:.0%}"
            ax.text(left + share / 2, place, label, ha="center", va="center", fontsize=9)
            left += share
        parts.append(f"T={temperature:g}: " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items()))
    labels = [f"T = {t:g}" if math.isfinite(t) else "T infinite" for t in temperatures]
    ax.set_yticks(range(len(temperatures)), labels)
    ax.set(xlabel="share of the batches", xlim=(0, 1), ylim=(len(temperatures) - 0.5, -0.5))
    sentence = f"Sampling shares by temperature. {'; '.join(parts)}."
    show(figure, f"Stacked bars, one a temperature. {sentence}", sentence)


def task_board(rows: Sequence[Mapping[str, Any]]) -> None:
    """Every run scored on every task: the numbers, on a ground that says how far a cell is better or worse than untuned.

    Each row has `arm`, `trained` (tasks), and the columns of `BOARD` with their `_change`, `_change_low` and `_change_high`. A
    frame marks tasks that the run was trained on; a star marks changes whose interval excludes 0.
    """
    figure, ax = new_figure(width=8, height=0.5 * len(rows) + 1.3)
    ax.grid(False)
    tint = np.array([[_gain(row, column, rows) for column in BOARD] for row in rows])
    tint = np.round(3 * tint) / 3  # few tones survive the small palette
    ax.imshow(tint, cmap="RdBu", vmin=-1.3, vmax=1.3, aspect="auto")
    ax.spines[["left", "bottom"]].set_visible(False)
    for y, row in enumerate(rows):
        for x, (key, _, form, _, task) in enumerate(BOARD):
            text, low, high = form.format(row[key]), row[f"{key}_change_low"], row[f"{key}_change_high"]
            if row["trained"]:
                text += f"  ({row[f'{key}_change']:+.2f}{'*' if low > 0 or high < 0 else ''})"
            ink = "white" if abs(tint[y, x]) > 0.9 else "black"
            ax.text(x, y, text, ha="center", va="center", fontsize=9, color=ink)
            if task in row["trained"]:
                ax.add_patch(Rectangle((x - 0.48, y - 0.45), 0.96, 0.9, fill=False, edgecolor="black", linewidth=1.6))
    ax.set_xticks(range(len(BOARD)), [title for _, title, *_ in BOARD])
    ax.set_yticks(range(len(rows)), [row["arm"] for row in rows])
    ax.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    ax.set_xlabel(
        "in brackets: change against untuned (* interval excludes 0); framed: trained on; blue better, red worse"
    )
    ax.xaxis.label.set(fontsize=8, color=BEFORE)
    parts = [f"{row['arm']} ROUGE-L {row['rouge_l']:.3f}, NLL of answers {row['question_nll']:.2f}, accuracy "
             f"{row['accuracy']:.2f}, neutral NLL {row['neutral_nll']:.3f}" for row in rows]  # fmt: skip
    sentence = f"Scores by run: {'; '.join(parts)}."
    show(figure, f"Table with colored cells. {sentence}", sentence)


def _gain(row: Mapping[str, Any], column: tuple[str, str, str, bool, str], rows: Sequence[Mapping[str, Any]]) -> float:
    """How much better (above 0) a cell is than untuned, as a share of the largest change in its column; 0 if not shown."""
    key, more = f"{column[0]}_change", column[3]
    if row[f"{key}_low"] <= 0 <= row[f"{key}_high"]:
        return 0.0  # no color for what its interval does not show
    largest = max(abs(other[key]) for other in rows) or 1.0
    return (row[key] if more else -row[key]) / largest
