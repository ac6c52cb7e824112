"""Figures of scaling up say in words what they show."""

import matplotlib
import pytest

from finetune_utils import scaling_plots as plots
from finetune_utils.cards import CARDS
from finetune_utils.memory import MemoryEstimate

matplotlib.use("Agg")


def need(total):
    return MemoryEstimate(total, 0, 0, 0, 0, 0)


def test_two_runs_are_drawn_over_each_other_with_their_gap(shown):
    plots.losses_of_two_runs([4.0, 2.0], [4.0, 2.0002], ("alone", "together"))
    ((figure, alt, sentence),) = shown
    assert "2.0000 (alone) and 2.0002 (together)" in sentence
    assert "1.0e-04" in sentence
    assert sentence in alt
    gaps = figure.axes[1].lines[0].get_ydata()
    assert list(gaps) == pytest.approx([1e-9, 1e-4])


def test_memory_is_drawn_for_every_method_with_the_room_of_the_cards(shown):
    table = {name: {"full": need(size * 18), "lora": need(size * 2), "qlora": need(size), "inference": need(size)}
             for name, size in (("small", 10**9), ("large", 10**11))}  # fmt: skip
    plots.memory_by_size(table, {"small": 1.0, "large": 100.0}, CARDS)
    ((figure, alt, sentence),) = shown
    assert "For large the estimates are: full 1,800 GB, LoRA 200 GB, QLoRA 100 GB, answering 100 GB" in sentence
    words = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "A100, H100: room for 72 GB" in words, "cards of one size share a line"
    assert "T4: room for 14 GB" in words
    assert sentence in alt


def test_tasks_are_told_apart_without_color(shown):
    rows = [{"task": task, "width": width, "accuracy": a, "low": a - 0.1, "high": a}
            for task, found in (("form", (1.0, 1.0)), ("rule", (0.5, 0.9)), ("facts", (0.1, 0.8)))
            for width, a in zip((4, 64), found, strict=True)]  # fmt: skip
    plots.accuracy_by_width(rows)
    ((figure, alt, sentence),) = shown
    assert "one rule, new pairs 50% to 90%" in sentence
    assert len({line.get_marker() for line in figure.axes[0].lines}) == 3
    legend = figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "one form",
        "one rule, new pairs",
        "many facts",
    ]
