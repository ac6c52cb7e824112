"""The frame of every figure: the stored picture is small and loses no color that carries meaning."""

import io

import matplotlib
import numpy as np
from PIL import Image

from finetune_utils.canvas import ACCENT, AFTER, new_figure, small_png

matplotlib.use("Agg")


def test_a_picture_is_small_and_keeps_the_color_of_a_thin_line():
    figure, ax = new_figure()
    ax.plot(np.sin(np.linspace(0, 60, 400)), color=AFTER)
    ax.plot([5, 9], [0, 0], color=ACCENT, linewidth=1)
    raw = io.BytesIO()
    figure.savefig(raw, format="png")
    small = small_png(figure)
    assert len(small) < len(raw.getvalue()) / 2
    picture = np.asarray(Image.open(io.BytesIO(small)).convert("RGB"), int)
    for color in (AFTER, ACCENT):
        wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert np.abs(picture - wanted).sum(axis=2).min() < 60, color
