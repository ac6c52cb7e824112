"""The ladder: symmetric, fitted on training seasons only, and as good as the reference on the dev season."""

import numpy as np
import pandas as pd
import pytest

from finetune_utils.betting.baselines import (
    FULL,
    Regression,
    coin,
    cross_fit,
    fit_home_rate,
    fit_margin,
    fit_regression,
    ladder,
)
from finetune_utils.betting.features import feature_table, judged
from finetune_utils.betting.games import DEV, TRAIN
from finetune_utils.betting.scoring import brier, calibration_line, paired_brier
from finetune_utils.errors import UserError


@pytest.fixture(scope="module")
def train(table):
    return judged(table, TRAIN)


@pytest.fixture(scope="module")
def dev(table):
    return judged(table, DEV)


def swapped(table):
    """The same games, told from the other side."""
    other = table.copy()
    for name in FULL:
        other[name] = -other[name]
    return other


def test_the_ladder_on_the_dev_season_is_the_known_one(train, dev, settings):
    scores = {name: brier(forecast(dev), dev["home_won"]) for name, forecast in ladder(train, settings).items()}
    known = {"coin": 0.25, "home rate": 0.2489, "record": 0.2148, "Elo": 0.2105, "regression": 0.2086}
    assert scores == pytest.approx(known, abs=5e-4)
    assert list(scores) == sorted(scores, key=scores.get, reverse=True)


def test_no_baseline_that_plays_fair_is_too_good_to_be_true(train, dev, settings):
    for name, forecast in ladder(train, settings).items():
        assert brier(forecast(dev), dev["home_won"]) >= 0.195, f"{name}: look for a leak"


@pytest.mark.parametrize("leak", ["unshifted_form", "home_points"])
def test_a_leak_collapses_the_score_while_calibration_stays_straight(games, settings, leak):
    table = feature_table([g for g in games if g.season < 2025], settings, [leak])
    train, dev = judged(table, TRAIN), judged(table, DEV)
    if leak == "home_points":  # a column that is not a gap needs a center
        table[f"leak_{leak}"] -= train[f"leak_{leak}"].mean()
        train, dev = judged(table, TRAIN), judged(table, DEV)
    p = fit_regression(train, [*FULL, f"leak_{leak}"])(dev)
    assert brier(p, dev["home_won"]) < {"unshifted_form": 0.16, "home_points": 0.175}[leak]
    assert 0.85 < calibration_line(p, dev["home_won"])[0] < 1.15


def test_shuffled_labels_teach_nothing(train, dev):
    shuffled = train.assign(home_won=np.random.default_rng(5).permutation(train["home_won"]))
    assert brier(fit_regression(shuffled)(dev), dev["home_won"]) >= 0.245


def test_the_other_side_gets_the_rest(train, dev):
    forecast = fit_regression(train)
    np.testing.assert_allclose(forecast(dev) + forecast(swapped(dev)), 1)
    margin = fit_margin(train)
    np.testing.assert_allclose(margin.score(dev), -margin.score(swapped(dev)))


def test_weights_are_per_unit_of_the_column():
    table = pd.DataFrame({"site": [1, 1], "elo_gap": [100.0, -100.0]})
    forecast = Regression(("site", "elo_gap"), np.array([0.2, 0.01]))
    np.testing.assert_allclose(forecast(table), 1 / (1 + np.exp(-np.array([1.2, -0.8]))))


def test_the_regression_equals_scikit_learn_on_scaled_columns(train, dev):
    from sklearn.linear_model import LogisticRegression

    scale = np.array([1, *train[list(FULL[1:])].to_numpy(float).std(axis=0)])  # `site` is 1 in every training game
    model = LogisticRegression(fit_intercept=False).fit(train[list(FULL)].to_numpy(float) / scale, train["home_won"])
    expected = model.predict_proba(dev[list(FULL)].to_numpy(float) / scale)[:, 1]
    np.testing.assert_allclose(fit_regression(train)(dev), expected, atol=2e-3)


def test_the_margin_regression_is_least_squares(train):
    fitted = fit_margin(train)
    x, y = train[list(FULL)].to_numpy(float), train["home_lead"].to_numpy(float)
    np.testing.assert_allclose(fitted.weights, np.linalg.lstsq(x, y, rcond=None)[0], atol=1e-6)
    assert fitted.spread == pytest.approx(np.std(y - x @ fitted.weights))
    assert 12 < fitted.spread < 15


def test_a_soft_label_has_not_seen_its_own_season(train):
    labels = cross_fit(train)
    own = (train["season"] == 2021).to_numpy()
    turned = train.assign(home_won=np.where(own, 1 - train["home_won"], train["home_won"]))
    np.testing.assert_array_equal(cross_fit(turned)[own], labels[own])
    assert np.abs(cross_fit(turned)[~own] - labels[~own]).max() > 0.1
    np.testing.assert_allclose(labels[own], fit_regression(train[~own])(train[own]))


def test_soft_labels_are_nearly_as_good_as_a_regression_that_has_seen_the_outcome(train):
    difference = paired_brier(cross_fit(train), fit_regression(train)(train), train["home_won"], train["date"])
    assert abs(difference.estimate) < 0.002


def test_coin_and_home_rate(table, train):
    neutral = table[table["neutral"]]
    assert set(coin(neutral)) == {0.5} == set(fit_home_rate(train)(neutral))
    assert set(fit_home_rate(train)(train)) == {train["home_won"].mean()}


def test_what_cannot_be_fitted_is_refused(train):
    for fit in (fit_home_rate, fit_regression, fit_margin):
        with pytest.raises(UserError, match="no games to fit on"):
            fit(train.iloc[:0])
    with pytest.raises(UserError, match="no column 'odds'"):
        fit_regression(train, ["site", "odds"])
    with pytest.raises(UserError, match="have the same home_won"):
        fit_regression(train[train["home_won"] == 1])
    with pytest.raises(UserError, match="at least 2 seasons; found 1"):
        cross_fit(train[train["season"] == 2021])
