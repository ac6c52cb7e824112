"""Figures of the case study: the sentence says what was drawn, and what is drawn is what was given."""

import numpy as np
import pytest

from finetune_utils.betting import plots
from finetune_utils.betting.scoring import Bin
from finetune_utils.evaluation import Interval

BINS = [Bin(40, 0.25, 0.5, 0.125, 0.375), Bin(60, 0.75, 0.75, 0.625, 0.875)]


def told(shown):
    """The one figure, and its sentence, which must be part of the alt text."""
    ((figure, alt, sentence),) = shown
    assert sentence in alt
    assert len(alt) > len(sentence)
    return figure, sentence


def test_a_rung_stands_at_its_score_with_the_interval_of_its_distance(shown):
    rungs = {"home rate": (0.25, Interval(0, 0, 0)), "Elo": (0.21, Interval(-0.04, -0.05, -0.03))}
    plots.ladder(rungs, "home rate", tuned=("Elo",))
    figure, sentence = told(shown)
    assert sentence == "Brier scores: home rate 0.2500, Elo 0.2100."
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["home rate", "Elo"]
    bars = [line.get_xdata() for line in ax.lines if len(set(line.get_ydata())) == 1 and len(line.get_xdata()) == 2]
    assert [pytest.approx([0.2, 0.22])] == [list(bar) for bar in bars]


def test_bins_outside_their_band_are_counted(shown):
    plots.reliability({"Elo": BINS, "model": BINS[1:]})
    figure, sentence = told(shown)
    assert sentence.startswith("Elo: 1 of 2 bins lie inside the band; model: 1 of 1 bins")
    assert [ax.get_title() for ax in figure.axes] == ["Elo", "model"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["40", "60"]


def test_right_and_wrong_games_are_apart(shown):
    plots.right_and_wrong([0.875, 0.25, 0.625, 0.75], [1, 0, 0, 1])
    figure, sentence = told(shown)
    assert "won, 3 games, on average 0.792" in sentence
    assert "lost, 1 games, on average 0.625" in sentence
    assert "the surer one in 100% of pairs" in sentence
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert (sum(h for h in heights if h > 0), sum(h for h in heights if h < 0)) == (3, -1)


@pytest.mark.parametrize("y", [[1, 1], [0, 0]])
def test_a_forecaster_who_was_always_right_or_never_is_drawn_too(shown, y):
    plots.right_and_wrong([0.75, 0.875], y)
    assert "pairs" not in told(shown)[1]


def test_round_numbers_are_counted(shown):
    plots.heaping({"taught": [0.62, 0.63, 0.65, 0.70], "stated": [0.65, 0.65, 0.7, 0.29]})
    figure, sentence = told(shown)
    assert "taught 4 distinct numbers, 50% of them multiples of 0.05" in sentence
    assert "stated 3 distinct numbers, 75% of them" in sentence
    heights = [round(bar.get_height()) for bar in figure.axes[1].patches]
    assert (heights[65], heights[70], heights[29], sum(heights)) == (2, 1, 1, 4)


def test_the_likeliest_number_and_the_marks_are_told(shown):
    chances = np.zeros(100)
    chances[[62, 70]] = 0.75, 0.25
    plots.digit_bars(chances, {"stated": 0.62, "mean": 0.64})
    figure, sentence = told(shown)
    assert sentence == "The likeliest number is 0.62; stated 0.62, mean 0.64."
    assert [text.get_text() for text in figure.axes[0].texts] == ["stated 0.62", "mean 0.64"]


def test_widths_are_told_near_one_half_and_at_the_ends(shown):
    plots.widths([0.5, 0.9], [0.375, 0.875], [0.625, 1.0])
    assert told(shown)[1] == "The ranges are 0.19 wide on average: 0.25 near one half and 0.12 at the ends."


def test_widths_of_one_kind_only_are_told_too(shown):
    plots.widths([0.5], [0.375], [0.625])
    assert told(shown)[1] == "The ranges are 0.25 wide on average."


def test_coverage_is_drawn_with_its_interval_even_when_it_is_poor(shown):
    plots.coverage({"stated": (Interval(0.25, 0.125, 0.375), 10.0), "repaired": (Interval(0.8, 0.75, 0.85), 35.5)})
    figure, sentence = told(shown)
    assert "stated 25.0% with 10.0 points; repaired 80.0% with 35.5 points" in sentence
    assert figure.axes[0].get_xlim()[0] < 0.125


def test_the_leakage_lab_shows_score_and_reliability_of_each_model(shown):
    plots.leakage_lab({"no leak": (0.25, BINS), "leak": (0.125, BINS[1:])})
    figure, sentence = told(shown)
    assert (
        sentence
        == "Brier scores: no leak 0.250 (1 of 2 bins inside the band), leak 0.125 (1 of 1 bins inside the band)."
    )
    assert [bar.get_height() for bar in figure.axes[0].patches] == [0.25, 0.125]
    assert len(figure.axes) == 3


def test_ruin_is_told_and_drawn_above_the_floor_of_the_picture(shown):
    paths = np.array([[1, 0.5, 1e-9], [1, 2.0, 4.0], [1, 0.5, 0.05]])
    plots.bankroll_paths({"full Kelly": paths, "half": np.ones((2, 3))}, drawn=2)
    figure, sentence = told(shown)
    assert "full Kelly: median 0.05, 67% lost nine tenths, 33% gained" in sentence
    assert "half: median 1, 0% lost nine tenths, 0% gained" in sentence
    left = figure.axes[0]
    assert len(left.lines) == 2 + 2  # two paths, the median, the start
    assert min(line.get_ydata().min() for line in left.lines[:2]) == pytest.approx(1e-4)


def test_a_ruined_median_is_not_written_as_a_power_of_ten(shown):
    plots.bankroll_paths({"full Kelly": np.array([[1, 1e-9], [1, 1e-8]])})
    assert "median below 0.0001" in told(shown)[1]
