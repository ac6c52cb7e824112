"""Scores against scikit-learn and against cases worked by hand."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from finetune_utils.betting.scoring import (
    accuracy,
    auroc,
    brier,
    calibration_line,
    conformal_half_width,
    coverage,
    ece,
    ece_null,
    interval_score,
    log_loss,
    paired_brier,
    reliability,
    skill,
    squared_errors,
)
from finetune_utils.errors import UserError


@pytest.fixture(scope="module")
def sample():
    """Forecasts that are too sure of themselves: the true logit is 0.6 of the stated one, plus 0.2."""
    rng = np.random.default_rng(3)
    logit = rng.normal(0, 1, 4000)
    y = (rng.random(4000) < 1 / (1 + np.exp(-(0.6 * logit + 0.2)))).astype(int)
    return 1 / (1 + np.exp(-logit)), y


def test_brier_and_log_loss_equal_scikit_learn(sample):
    p, y = sample
    assert brier(p, y) == pytest.approx(brier_score_loss(y, p))
    value, clipped = log_loss(p, y, clip=1e-9)
    assert (value, clipped) == (pytest.approx(sklearn_log_loss(y, p)), 0)


def test_brier_by_hand():
    assert squared_errors([0.8, 0.3], [1, 1]).tolist() == pytest.approx([0.04, 0.49])
    assert brier([0.5] * 7, [1, 0, 1, 1, 0, 0, 1]) == 0.25


def test_log_loss_counts_what_it_clips():
    value, clipped = log_loss([0.0, 1.0, 0.995, 0.5], [1, 1, 1, 0])
    assert clipped == 3
    assert value == pytest.approx((-np.log(0.01) - 2 * np.log(0.99) - np.log(0.5)) / 4)


def test_accuracy_counts_even_odds_half():
    assert accuracy([0.5, 0.9, 0.9, 0.2], [1, 1, 0, 0]) == pytest.approx(2.5 / 4)


def test_skill_by_hand():
    y = [1, 0, 1, 1]
    assert skill([0.75, 0.25, 0.75, 0.75], y, [0.5] * 4) == pytest.approx(1 - 0.0625 / 0.25)
    assert skill([0.5] * 4, y, [0.5] * 4) == 0


def test_auroc_equals_scikit_learn_with_ties(sample):
    p, y = sample
    assert auroc(np.round(p, 1), y) == pytest.approx(roc_auc_score(y, np.round(p, 1)))
    with pytest.raises(UserError, match="needs both outcomes"):
        auroc([0.1, 0.2], [1, 1])


def test_reliability_equals_scikit_learn(sample):
    p, y = sample
    observed, stated = calibration_curve(y, p, n_bins=10)
    bins = reliability(p, y, draws=50)
    np.testing.assert_allclose([b.observed for b in bins], observed)
    np.testing.assert_allclose([b.stated for b in bins], stated)
    assert sum(b.count for b in bins) == len(p)


def test_ece_by_hand():
    # Two bins: three forecasts of 0.85 (one hit), one of 0.15 (one hit).
    assert ece([0.85, 0.85, 0.85, 0.15], [1, 0, 0, 1]) == pytest.approx(0.75 * abs(0.85 - 1 / 3) + 0.25 * 0.85)
    assert ece([1.0, 0.0], [1, 0]) == 0


def test_a_perfect_forecaster_lies_in_the_null_band_and_an_overconfident_one_does_not(sample):
    p, y = sample
    mean, low, high = ece_null(p, draws=300)
    assert 0 < low < mean < high
    true = (np.random.default_rng(11).random(len(p)) < p).astype(int)
    assert low < ece(p, true) < high
    assert ece(p, y) > 2 * high
    outside = [not b.low <= b.observed <= b.high for b in reliability(p, y, draws=300)]
    assert sum(outside) >= 6


def test_the_null_band_has_the_size_that_simulation_gave_before():
    """1,146 forecasts spread like a good model's: about 0.031, from 0.019 to 0.044."""
    p = 1 / (1 + np.exp(-np.random.default_rng(0).normal(0.2, 0.8, 1146)))
    assert ece_null(p, draws=400) == pytest.approx((0.031, 0.019, 0.044), abs=0.004)


def test_bands_narrow_with_the_number_of_games():
    def width(n):
        (b,) = reliability([0.62] * n, [1] * n)
        return b.high - b.low

    assert width(400) == pytest.approx(width(100) / 2, rel=0.15)


def test_the_calibration_line_equals_unpenalized_logistic_regression(sample):
    p, y = sample
    x = np.log(np.clip(p, 0.01, 0.99) / (1 - np.clip(p, 0.01, 0.99)))[:, None]
    model = LogisticRegression(C=1e10, tol=1e-8).fit(x, y)
    slope, intercept = calibration_line(p, y)
    assert (slope, intercept) == pytest.approx((model.coef_[0, 0], model.intercept_[0]), abs=1e-3)
    assert (slope, intercept) == pytest.approx((0.6, 0.2), abs=0.08)


def test_no_calibration_line_where_there_is_none():
    with pytest.raises(UserError, match="All forecasts are equal"):
        calibration_line([0.4, 0.4], [0, 1])
    with pytest.raises(UserError, match="separate the outcomes"):
        calibration_line([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])


def test_the_paired_difference_resamples_days():
    y = np.array([1, 0] * 20)
    better, worse = np.where(y == 1, 0.7, 0.3), np.full(40, 0.5)
    difference = paired_brier(better, worse, y, [f"day {i // 4}" for i in range(40)])
    assert difference.estimate == pytest.approx(0.09 - 0.25)
    assert difference.excludes_zero
    noisy = np.where(np.arange(40) // 4 % 2 == 0, better, 1 - better)  # whole days right, whole days wrong
    by_day = paired_brier(noisy, worse, y, [f"day {i // 4}" for i in range(40)])
    by_game = paired_brier(noisy, worse, y, range(40))
    assert by_day.high - by_day.low > 1.5 * (by_game.high - by_game.low)


def test_the_interval_score_by_hand():
    # Width 10 twice; the second outcome is missed by 3, which costs 2 / 0.2 x 3.
    assert interval_score([0, 0], [10, 10], [5, 13], level=0.8) == pytest.approx((10 + 10 + 30) / 2)
    assert coverage([0, 0, 0], [10, 10, 10], [0, 10, -1]) == pytest.approx(2 / 3)


def test_the_interval_score_is_best_at_the_true_quantiles():
    y = np.random.default_rng(2).normal(0, 10, 20_000)
    scores = {width: interval_score(np.full(len(y), -width), np.full(len(y), width), y) for width in (8, 12.8, 18)}
    assert min(scores, key=scores.get) == 12.8


def test_conformal_half_width_by_hand():
    residuals = [-9, 1, 2, -3, 4, 5, -6, 7, 8]  # n = 9: the ceil(10 x 0.8) = 8th smallest size
    assert conformal_half_width(residuals, 0.8) == 8
    assert conformal_half_width(residuals, 0.5) == 5
    with pytest.raises(UserError, match="9 residuals are too few"):
        conformal_half_width(residuals, 0.95)


def test_conformal_intervals_cover_what_they_promise():
    rng = np.random.default_rng(4)
    shares = []
    for _ in range(300):
        half = conformal_half_width(rng.standard_t(3, 99), 0.8)
        shares.append((np.abs(rng.standard_t(3, 200)) <= half).mean())
    assert np.mean(shares) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(
    ("p", "y", "message"),
    [
        ([0.5, 1.2], [1, 0], "Forecast 2 is 1.2: a probability lies between 0 and 1"),
        ([0.5, -0.1], [1, 0], "Forecast 2 is -0.1"),
        ([float("nan"), 0.5], [1, 0], "Forecast 1 is nan"),
        ([0.5, 0.5], [1, 2], "Outcome 2 is 2: it must be 0 or 1"),
        ([0.5], [1, 0], "1 forecasts for 2 outcomes"),
        ([], [], "0 forecasts for 0 outcomes"),
    ],
)
def test_what_is_no_forecast_is_refused(p, y, message):
    for score in (brier, log_loss, accuracy, ece, reliability, calibration_line):
        with pytest.raises(UserError, match=message):
            score(p, y)


def test_what_is_no_interval_is_refused():
    with pytest.raises(UserError, match="Interval 2 runs from 4 to 3: its ends are swapped"):
        coverage([0, 4], [1, 3], [0, 0])
    with pytest.raises(UserError, match="2 lower ends, 1 upper ends and 2 outcomes"):
        interval_score([0, 4], [5], [0, 0])
    with pytest.raises(UserError, match="level is 80: it must lie between 0 and 1"):
        interval_score([0], [5], [0], level=80)
