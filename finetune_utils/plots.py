"""One function per figure: each draws, gives the picture its alt text, and prints a sentence that reads it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from .hardware import under_run
from .progress import in_notebook

# Two tones that stay apart for color-blind readers and in gray; a third for what is only context.
BEFORE, AFTER, CONTEXT = "#7a7a7a", "#1f5aa6", "#c7c7c7"
ACCENT = "#c8102e"


def new_figure(width: float = 6.5, height: float = 3.5, columns: int = 1) -> tuple[Figure, Any]:
    """A figure in the course's style: no frame, light grid, readable labels."""
    figure, axes = plt.subplots(1, columns, figsize=(width, height), dpi=100, layout="constrained")
    for ax in [axes] if columns == 1 else axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25, linewidth=0.6)
        ax.set_axisbelow(True)
    return figure, axes


def show(figure: Figure, alt: str, sentence: str) -> None:
    """Display `figure` as a small PNG with alt text, close it, and print the sentence that reads it."""
    from IPython.display import display

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    text = {"image/png": buffer.getvalue(), "text/plain": f"[figure: {alt}]"}
    display(text, raw=True, metadata={"image/png": {"alt": alt}})
    print(sentence)


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
    if scored:
        ax.plot(*zip(*scored, strict=True), "o--", color=ACCENT, markersize=4)
        ax.annotate("dev NLL", scored[-1], xytext=(-4, 8), textcoords="offset points", ha="right", color=ACCENT)
    ax.set(xlabel="optimizer step", ylabel="NLL (nats per token)")
    last = f"; dev NLL ends at {scored[-1][1]:.2f}" if scored else ""
    sentence = f"The loss falls from {losses[0]:.2f} to {smooth[-1]:.2f} nats per token in {steps[-1]} steps{last}."
    show(figure, f"Line plot of the loss over {steps[-1]} optimizer steps. {sentence}", sentence)


class LiveLoss:
    """Pass it as `on_step`: redraws the loss while training runs in an open notebook; silent in a headless run."""

    def __init__(self, every: int = 5) -> None:
        self.every, self.losses, self.handle = every, [], None
        self.active = in_notebook() and not under_run()

    def __call__(self, entry: dict[str, float]) -> None:
        """Record one step and redraw every few steps."""
        self.losses.append(entry["loss"])
        if not self.active or len(self.losses) % self.every:
            return
        from IPython.display import display

        figure, ax = new_figure(height=2.2)
        ax.plot(range(1, len(self.losses) + 1), self.losses, color=AFTER)
        ax.set(xlabel="optimizer step", ylabel="loss (nats per token)")
        plt.close(figure)
        if self.handle is None:
            self.handle = display(figure, display_id=True)
        else:
            self.handle.update(figure)

    def close(self) -> None:
        """Remove the live picture; the full curve is drawn by `loss_curve`."""
        if self.handle is not None:
            from IPython.display import HTML

            self.handle.update(HTML(""))


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
        ax.annotate(f"tuned {after:.2f}", (after, place), xytext=(0, 9), textcoords="offset points", ha="center")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.6)
    ax.set(xlabel="NLL (nats per token; lower is better), bars: 95 % interval of the change")
    ax.margins(x=0.15)
    parts = [f"{name}: {b:.2f} to {a:.2f} (change {c})" for name, (b, a, c) in results.items()]
    sentence = "NLL " + "; ".join(parts) + "."
    show(figure, f"Dot plot of NLL before and after training. {sentence}", sentence)


def sweep(rows: Sequence[dict[str, float]], x: str, y: str, xlabel: str, ylabel: str = "dev NLL (nats per token)") -> None:
    """A measured value against a setting on a logarithmic axis, the best point marked."""
    xs, ys = [row[x] for row in rows], [row[y] for row in rows]
    best = min(range(len(ys)), key=ys.__getitem__)
    figure, ax = new_figure()
    ax.plot(xs, ys, "o-", color=AFTER)
    ax.set_xscale("log")
    ax.plot(xs[best], ys[best], "D", color=ACCENT, markersize=9)
    ax.annotate(f"best: {xs[best]:g}", (xs[best], ys[best]), xytext=(0, 12), textcoords="offset points", ha="center",
                color=ACCENT)  # fmt: skip
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.margins(y=0.15)
    sentence = f"Best at {xs[best]:g} ({ys[best]:.2f}); {ys[0]:.2f} at {xs[0]:g} and {ys[-1]:.2f} at {xs[-1]:g}."
    show(figure, f"Line plot of {ylabel} against {xlabel}. {sentence}", sentence)
