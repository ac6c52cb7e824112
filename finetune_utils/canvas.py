"""The frame of every figure: one style, alt text, a small PNG, and a live picture while training runs."""

from __future__ import annotations

import io
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from .hardware import under_run
from .progress import in_notebook

# Two tones that stay apart for color-blind readers and in gray; a third for what is only context.
BEFORE, AFTER, CONTEXT = "#7a7a7a", "#1f5aa6", "#c7c7c7"
ACCENT = "#c8102e"


def new_figure(width: float = 6.5, height: float = 3.5, columns: int = 1, rows: int = 1) -> tuple[Figure, Any]:
    """A figure in the course's style: no frame, light grid, readable labels."""
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), dpi=100, layout="constrained")
    for ax in figure.axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25, linewidth=0.6)
        ax.set_axisbelow(True)
    return figure, axes


def small_png(figure: Figure) -> bytes:
    """The figure as a PNG with a palette of 32 colors: a third of the size. Rare colors, such as that of a thin line, stay."""
    raw, small = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="png")
    image = Image.open(raw).convert("RGB").quantize(32, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    image.save(small, "png", optimize=True)
    return small.getvalue()


def show(figure: Figure, alt: str, sentence: str) -> None:
    """Display `figure` as a small PNG with alt text, close it, and print the sentence that reads it."""
    from IPython.display import display

    picture = small_png(figure)
    plt.close(figure)
    text = {"image/png": picture, "text/plain": f"[figure: {alt}]"}
    display(text, raw=True, metadata={"image/png": {"alt": alt}})
    print(sentence)


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
