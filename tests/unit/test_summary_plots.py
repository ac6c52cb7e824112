"""Figures of summaries and tasks: the sentence says what was drawn, and every number of the board is written in it."""

import math

from finetune_utils import summary_plots as plots
from finetune_utils.evaluation import Interval
from finetune_utils.multitask import QUESTIONS, SUMMARIES


def ladder(value):
    return {kind: Interval(value + i / 10, value, value + 0.3) for i, kind in enumerate(plots.KINDS)}


def cells(arm, trained, change):
    row = {"arm": arm, "trained": trained, "rouge_l": 0.25, "question_nll": 4.5, "accuracy": 0.75, "neutral_nll": 3.125}
    for key in ("rouge_l", "question_nll", "accuracy", "neutral_nll"):
        row |= {f"{key}_change": change, f"{key}_change_low": change - 0.1, f"{key}_change_high": change + 0.1}
    return row


def test_the_ladder_tells_rouge_l_of_every_system(shown):
    plots.rouge_ladder({"first two turns": ladder(0.125), "tuned": ladder(0.25)})
    figure, alt, sentence = shown[0]
    assert "first two turns 0.325 [0.125, 0.425]; tuned 0.450 [0.250, 0.550]" in sentence
    assert sentence in alt
    assert len(figure.axes) == 3
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["first two turns", "tuned"]


def test_shares_are_written_into_their_bars_with_a_name_where_it_fits(shown):
    plots.shares_by_temperature({"a": 100, "b": 400}, (1, math.inf))
    figure, alt, sentence = shown[0]
    assert "T=1: a 20%, b 80%; T=inf: a 50%, b 50%" in sentence
    assert sentence in alt
    assert [text.get_text() for text in figure.axes[0].texts] == ["20%", "b 80%", "a 50%", "b 50%"]


def test_the_board_writes_every_number_and_stars_what_excludes_zero(shown):
    rows = [cells("untuned", [], 0.0), cells("one", [SUMMARIES], 0.05), cells("two", [SUMMARIES, QUESTIONS], 0.5)]
    plots.task_board(rows)
    figure, alt, sentence = shown[0]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[:4] == ["0.250", "4.50", "0.75", "3.125"]
    assert texts[4] == "0.250  (+0.05)"
    assert texts[8] == "0.250  (+0.50*)"
    assert len(texts) == 12
    assert len(figure.axes[0].patches) == 3  # one frame for each trained task
    assert "two ROUGE-L 0.250, NLL of answers 4.50, accuracy 0.75, neutral NLL 3.125" in sentence
    assert sentence in alt


def test_blue_is_better_in_every_column():
    rows = [cells("untuned", [], 0.0), cells("one", [], 0.5)]
    gains = [plots._gain(rows[1], column, rows) for column in plots.BOARD]
    assert gains == [1.0, -1.0, 1.0, -1.0]  # a higher NLL is worse
    assert plots._gain(rows[0], plots.BOARD[0], [rows[0]]) == 0.0
