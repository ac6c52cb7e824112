"""Figures of batching: what the sentence says is what was drawn, and every picture has its alt text."""

import pytest

from finetune_utils import batch_plots as plots


def test_a_limit_cuts_only_longer_rows(shown):
    plots.row_lengths([3, 5, 5, 7, 9], limit=5)
    figure, alt, sentence = shown[0]
    assert sentence == "Rows have 3 to 9 tokens, half of them at most 5; a limit of 5 cuts 2 of 5 (40%)."
    assert sentence in alt
    bars = figure.axes[0].patches
    assert sum(bar.get_height() for bar in bars) == 5
    assert sum(bar.get_height() for bar in bars if bar.get_hatch()) == 2


@pytest.mark.parametrize("lengths", [[4], [4, 4], [1, 400]])
def test_lengths_may_be_few_or_far_apart(shown, lengths):
    plots.row_lengths(lengths, limit=96)
    assert sum(bar.get_height() for bar in shown[0][0].axes[0].patches) == len(lengths)


def test_layouts_count_their_padding(shown):
    rows = [(2, 1), (3, 6)]  # 3 and 9 tokens
    plots.batch_layouts({"fixed": (rows, 20), "dynamic": (rows, None)}, packed=rows)
    figure, alt, sentence = shown[0]
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[0] == "fixed: 2 x 20 positions, 70% padding"
    assert titles[1] == "dynamic: 2 x 9 positions, 33% padding"
    assert titles[2] == "packed: 1 x 12 positions, no padding"
    assert sentence == "Padding: fixed 70%, dynamic 33%, packed 0%."
    assert sentence in alt


def test_the_fastest_turns_are_compared(shown):
    plots.batching_speed({"fixed": [2.0, 1.0], "dynamic": [8.0, 12.0]})
    sentence = "Rows/s in the fastest turn (in the slowest): fixed 2.0 (1.0); dynamic 12.0 (8.0), 6.0 x."
    assert shown[0][2] == sentence
