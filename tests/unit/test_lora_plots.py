"""Figures of adapters: the sentence says what was drawn, and nothing that is drawn hides a point."""

from finetune_utils import lora_plots as plots


def arm(rank, learned, forgot, memory=1e9):
    ends = {"dev_change": learned / 2, "reworded_change": learned, "change": forgot}
    row = {"rank": rank, "seconds": 60.0, "memory": memory, "memory_estimate": 1.5 * memory}
    for name, value in ends.items():
        row |= {name: value, f"{name}_low": value - 0.25, f"{name}_high": value + 0.25}
    return row


ROWS = [arm(1, -0.5, 0.0), arm(64, -1.5, 0.125), arm("full", -2.0, 0.5, 3e9)]


def test_quality_time_and_memory_are_told_for_every_rank(shown):
    plots.quality_by_rank(ROWS)
    figure, alt, sentence = shown[0]
    assert "1 -0.25, 60 s, 1.0 GB (estimate 1.5)" in sentence
    assert "full -1.00, 60 s, 3.0 GB (estimate 4.5)" in sentence
    assert sentence in alt
    quality, seconds, memory = figure.axes
    assert [text.get_text() for text in quality.get_xticklabels()] == ["1", "64", "full"]
    low, high = quality.get_ylim()
    assert low < -1.25 < 0.0 < high
    assert [bar.get_height() for bar in seconds.patches] == [60.0] * 3
    assert [bar.get_height() for bar in memory.patches] == [1.0, 1.0, 3.0]
    assert memory.get_ylim()[1] > 4.5  # the estimate is on the picture


def test_learning_and_forgetting_are_told_with_their_signs(shown):
    plots.learned_and_forgot(ROWS)
    figure, alt, sentence = shown[0]
    assert "r=64 learned -1.50 and forgot +0.12" in sentence or "r=64 learned -1.50 and forgot +0.13" in sentence
    assert "full learned -2.00 and forgot +0.50" in sentence
    assert sentence in alt
    assert [text.get_text() for text in figure.axes[0].texts] == ["untuned", "r=1", "r=64", "full"]


def test_the_matrix_that_moved_most_is_named(shown):
    plots.updates_by_layer({"q": [0.01, 0.02], "down": [0.03, 0.005]})
    _, alt, sentence = shown[0]
    assert "The largest update is 3.0 % of its matrix (down, layer 0), the smallest 0.5 %" in sentence
    assert "on average down moved most (1.8 %)" in sentence or "on average down moved most (1.7 %)" in sentence
    assert sentence in alt


def test_the_gaps_between_levels_are_measured(shown):
    plots.rounding_to_levels([0.0, 0.5, -1.0], [-1.0, -0.25, 0.0, 1.0], "a matrix")
    figure, alt, sentence = shown[0]
    assert sentence.startswith("4 levels from -1 to 1: the gaps are 0.25 wide")
    assert "up to 1.00" in sentence
    assert sentence in alt
    assert len(figure.axes[0].lines) == 4
