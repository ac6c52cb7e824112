"""Figures of lessons: what is drawn can be read, and what does not fit is named."""

from finetune_utils import plots
from finetune_utils.evaluation import Interval


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_point_far_above_the_others_is_named_and_does_not_press_them_together(shown):
    rows = [{"rate": 10.0**-i, "nll": value} for i, value in enumerate((16.5, 4.5, 4.0, 4.25))]
    plots.sweep(rows, x="rate", y="nll", xlabel="rate")
    figure, alt, sentence = shown[0]
    low, high = figure.axes[0].get_ylim()
    assert low < 4.0 < 4.5 < high < 5.5
    assert "16.5 \u2191" in texts(figure)
    assert "Best at 0.01 (4.00)" in sentence
    assert "16.50 at 1" in sentence
    assert sentence in alt


def test_a_sweep_without_such_a_point_shows_all_of_them(shown):
    plots.sweep([{"rate": 10.0**-i, "nll": v} for i, v in enumerate((7.0, 4.5, 4.0))], x="rate", y="nll", xlabel="rate")
    figure = shown[0][0]
    low, high = figure.axes[0].get_ylim()
    assert low < 4.0 < 7.0 < high
    assert texts(figure) == ["best: 0.01"]


def test_labels_of_a_small_change_do_not_lie_on_each_other(shown):
    plots.before_after({"a": (4.85, 4.8, Interval(-0.05, -0.06, -0.04)), "b": (4.75, 1.5, Interval(-3.25, -3.5, -3.0))})
    figure = shown[0][0]
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 4
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
