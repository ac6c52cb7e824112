"""Figures of classification say in words what they show."""

import matplotlib
import numpy as np
import pytest

from finetune_utils import classification_plots as plots
from finetune_utils.evaluation import Interval

matplotlib.use("Agg")


def test_the_ladder_is_sorted_and_marks_what_was_trained(shown):
    found = {"LoRA": Interval(0.71, 0.65, 0.77), "counts": Interval(0.55, 0.48, 0.62)}
    plots.macro_f1_ladder(found, 0.33, trained=["LoRA"])
    ((figure, alt, sentence),) = shown
    assert "counts 0.55 [0.48, 0.62], LoRA 0.71 [0.65, 0.77]" in sentence
    assert sentence in alt
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["counts", "LoRA"]
    marks = {line.get_marker() for line in ax.lines}
    assert {"o", "D"} <= marks, "not by color alone"
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert dotted[0].get_xdata()[0] == 0.33


def test_a_matrix_shows_counts_and_shades_shares(shown):
    counts = np.array([[3, 1], [0, 12]])
    plots.confusion_matrices({"one": counts, "two": counts * 2}, ("off", "on"))
    ((figure, alt, sentence),) = shown
    assert sentence == "On the diagonal: one 15 of 16 right; two 30 of 32 right."
    assert sentence in alt
    assert [text.get_text() for text in figure.axes[0].texts] == ["3", "1", "0", "12"]
    assert np.array(figure.axes[1].images[0].get_array()).tolist() == [[0.75, 0.25], [0.0, 1.0]]


def test_a_matrix_of_one_classifier_and_an_absent_class_can_be_drawn(shown):
    plots.confusion_matrices({"only": np.array([[2, 0], [0, 0]])}, ("off", "on"))
    assert "only 2 of 2 right" in shown[0][2]


def test_the_lowest_dev_loss_is_told_and_ringed(shown):
    runs = {"good": {"epoch": [1.0, 2.0], "train": [1.0, 0.5], "dev": [0.9, 0.7]},
            "long": {"epoch": [1.0, 2.0, 3.0], "train": [1.0, 0.5, 0.1], "dev": [0.9, 0.8, 1.3]}}  # fmt: skip
    plots.train_and_dev_loss(runs)
    ((figure, alt, sentence),) = shown
    assert "long: train 1.00 to 0.10, dev lowest 0.80 after epoch 2, at the end 1.30" in sentence
    assert sentence in alt
    ring = [line for line in figure.axes[1].lines if line.get_fillstyle() == "none"]
    assert ring[0].get_xydata().tolist() == [[2.0, 0.8]]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim(), "panels are compared, so they share a scale"


@pytest.mark.parametrize("arms", [("lora",), ("lora", "full")])
def test_rates_are_drawn_for_the_arms_that_are_there(shown, arms):
    rows = [
        {"arm": arm, "rate": rate, "dev_loss": loss, "dev_f1": 0.6, "dev_f1_low": 0.5, "dev_f1_high": 0.8}
        for arm in arms for rate, loss in ((1e-3, 0.7), (1e-4, 0.9))
    ]  # fmt: skip
    plots.learning_rates(rows)
    ((figure, alt, sentence),) = shown
    assert "LoRA lowest dev loss 0.70 at 0.001 (macro-F1 0.60)" in sentence
    assert ("full fine-tuning" in sentence) == ("full" in arms)
    assert sentence in alt
    assert list(figure.axes[0].lines[0].get_xdata()) == [1e-4, 1e-3]
