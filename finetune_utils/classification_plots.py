"""Figures of classification: macro-F1 with intervals, confusion matrices, losses on train and dev posts, learning rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from .canvas import ACCENT, AFTER, BEFORE, CONTEXT, new_figure, show
from .evaluation import Interval

_ARMS = {"lora": ("LoRA", AFTER, "o"), "full": ("full fine-tuning", ACCENT, "D")}


def macro_f1_ladder(
    found: Mapping[str, Interval], chance: float, trained: Sequence[str] = (), what: str = "test"
) -> None:
    """Macro-F1 of every classifier with its 95 % interval, from the worst to the best.

    Args:
        chance: macro-F1 of guessing, drawn as a dotted line.
        trained: names whose model weights were trained; they get another mark and color.
    """
    figure, ax = new_figure(width=7, height=1.2 + 0.42 * len(found))
    names = sorted(found, key=lambda name: found[name].estimate)
    for place, name in enumerate(names):
        x, color = found[name], AFTER if name in trained else BEFORE
        ax.plot([x.low, x.high], [place, place], color=color, linewidth=1.5, marker="|", markersize=10)
        ax.plot(x.estimate, place, "D" if name in trained else "o", color=color)
        ax.annotate(f"{x.estimate:.2f}", (x.estimate, place), xytext=(0, 6), textcoords="offset points",
                    ha="center", fontsize=9, color=color,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # fmt: skip
    ax.axvline(chance, color=ACCENT, linestyle=":", linewidth=1, zorder=1)
    ax.annotate(
        "guessing", (chance, len(names) - 0.5), xytext=(3, 0), textcoords="offset points", fontsize=8, color=ACCENT
    )
    ax.set_yticks(range(len(names)), names)
    ax.set(ylim=(-0.5, len(names)), xlim=(0, 1), xlabel=f"macro-F1 on {what} posts, 95 % interval")
    parts = [f"{name} {found[name].estimate:.2f} [{found[name].low:.2f}, {found[name].high:.2f}]" for name in names]
    sentence = f"Macro-F1, from the worst to the best: {', '.join(parts)}."
    show(figure, f"Dot plot with 95 % intervals, one line a classifier. {sentence}", sentence)


def confusion_matrices(found: Mapping[str, np.ndarray], labels: Sequence[str]) -> None:
    """One confusion matrix a classifier: counts in the cells, shaded by their share of the true class."""
    figure, axes = new_figure(width=2.9 * len(found) + 0.6, height=3.1, columns=len(found))
    told = []
    for number, (ax, (name, counts)) in enumerate(zip([axes] if len(found) == 1 else axes, found.items(), strict=True)):
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for i, j in np.ndindex(*counts.shape):
            color = "white" if share[i, j] > 0.5 else "black"
            weight = "bold" if i == j else "normal"
            ax.annotate(f"{counts[i, j]}", (j, i), ha="center", va="center", color=color, fontweight=weight)
        ax.grid(visible=False)
        ax.set_xticks(range(len(labels)), labels, fontsize=8)
        ax.set_yticks(range(len(labels)), labels if number == 0 else [""] * len(labels), fontsize=8)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("predicted")
        if number == 0:
            ax.set_ylabel("true label")
        told.append(f"{name} {np.trace(counts)} of {counts.sum()} right")
    sentence = f"On the diagonal: {'; '.join(told)}."
    show(figure, f"Confusion matrices, true labels as rows and predicted ones as columns. {sentence}", sentence)


def train_and_dev_loss(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Loss on training and on dev posts by epoch, one panel a run.

    Each run has `epoch`, `train` (mean loss of the epoch's steps) and `dev`, in nats a post; the lowest dev loss is marked.
    """
    figure, axes = new_figure(width=2.7 * len(curves) + 0.8, height=3.1, columns=len(curves))
    top = 1.08 * max(max(*run["train"], *run["dev"]) for run in curves.values())
    told = []
    for number, (ax, (name, run)) in enumerate(zip([axes] if len(curves) == 1 else axes, curves.items(), strict=True)):
        ax.axhline(np.log(3), color=CONTEXT, linestyle=":", linewidth=1, label="guessing")
        ax.plot(run["epoch"], run["train"], "s--", color=BEFORE, markersize=4, label="train")
        ax.plot(run["epoch"], run["dev"], "o-", color=AFTER, markersize=4, label="dev")
        best = int(np.argmin(run["dev"]))
        ax.plot(run["epoch"][best], run["dev"][best], "o", color=ACCENT, markersize=9, fillstyle="none")
        ax.set(xlabel="epoch", ylim=(0, top))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        ax.set_title(name, fontsize=10)
        if number == 0:
            ax.set_ylabel("loss (nats per post)")
            ax.legend(loc="best", fontsize=8)
        told.append(
            f"{name}: train {run['train'][0]:.2f} to {run['train'][-1]:.2f}, dev lowest {run['dev'][best]:.2f} after epoch "
            f"{run['epoch'][best]:g}, at the end {run['dev'][-1]:.2f}"
        )
    sentence = "; ".join(told) + "."
    show(figure, f"Loss curves on train and dev posts, one panel a run; dotted: guessing. {sentence}", sentence)


def learning_rates(rows: Sequence[Mapping[str, Any]]) -> None:
    """Dev loss and dev macro-F1 against the learning rate, one line for LoRA and one for full fine-tuning.

    Each row has `arm` (`lora` or `full`), `rate`, `dev_loss`, `dev_f1`, `dev_f1_low` and `dev_f1_high`.
    """
    figure, (left, right) = new_figure(width=8, height=3.4, columns=2)
    told = []
    for arm, (label, color, mark) in _ARMS.items():
        points = sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["rate"])
        if not points:
            continue
        rates = [row["rate"] for row in points]
        losses = [row["dev_loss"] for row in points]
        low = int(np.argmin(losses))
        left.plot(rates, losses, marker=mark, color=color, label=label)
        f1 = np.array([row["dev_f1"] for row in points])
        spans = [f1 - [row["dev_f1_low"] for row in points], [row["dev_f1_high"] for row in points] - f1]
        right.errorbar(rates, f1, spans, marker=mark, color=color, capsize=3, label=label)
        best = points[low]
        told.append(
            f"{label} lowest dev loss {best['dev_loss']:.2f} at {best['rate']:g} (macro-F1 {best['dev_f1']:.2f})"
        )
    left.axhline(np.log(3), color=CONTEXT, linestyle=":", linewidth=1)
    left.annotate("guessing", (1, np.log(3)), xycoords=("axes fraction", "data"), xytext=(0, 3), ha="right",
                  textcoords="offset points", fontsize=8, color=BEFORE)  # fmt: skip
    left.margins(x=0.15, y=0.15)
    for ax, name in (
        (left, "dev loss after the last epoch\n(nats per post)"),
        (right, "dev macro-F1, 95 % interval"),
    ):
        ax.set(xscale="log", xlabel="learning rate", ylabel=name)
        ax.legend(loc="best", fontsize=8)
    sentence = f"{'; '.join(told)}."
    show(figure, f"Two plots over the learning rate, loss and macro-F1 on dev posts. {sentence}", sentence)
