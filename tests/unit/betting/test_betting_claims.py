"""What lesson 07 says of forecasts, without a language model: on the dev season, as in the lesson."""

import numpy as np
import pytest

from finetune_utils.betting.baselines import FULL, fit_regression, ladder
from finetune_utils.betting.features import LEAKS, feature_table, judged
from finetune_utils.betting.games import DEV, TRAIN
from finetune_utils.betting.questions import RANGE
from finetune_utils.betting.scoring import brier, calibration_line
from finetune_utils.betting.stakes import VIG, bankroll, growth, kelly, price, value_bets


@pytest.fixture(scope="module")
def seasons(games, settings):
    """Training and dev games with the leaky columns."""
    table = feature_table(games, settings, leaks=tuple(LEAKS))
    return judged(table, TRAIN), judged(table, DEV)


def test_the_rungs_stand_in_order(seasons, settings):
    train, dev = seasons
    scores = [brier(rung(dev), dev["home_won"]) for rung in ladder(train, settings).values()]
    assert scores == sorted(scores, reverse=True)
    assert 0.2 < scores[-1] < 0.2105


def test_a_leak_looks_good_and_calibrated(seasons):
    train, dev = seasons
    p = fit_regression(train, (*FULL, "leak_unshifted_form"))(dev)
    assert brier(p, dev["home_won"]) <= 0.16
    assert 0.8 < calibration_line(p, dev["home_won"])[0] < 1.2


def test_shuffled_outcomes_teach_nothing_on_average_but_one_shuffle_can_be_lucky(seasons):
    train, dev = seasons
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(20):
        wrong = train.assign(home_won=rng.permutation(train["home_won"].to_numpy()))
        scores.append(brier(fit_regression(wrong)(dev), dev["home_won"]))
    assert np.mean(scores) >= 0.245
    assert min(scores) < 0.245


def test_rounding_a_good_forecast_makes_it_worse_than_a_coin(seasons):
    train, dev = seasons
    p = fit_regression(train)(dev)
    assert brier((p > 0.5).astype(float), dev["home_won"]) > 0.25


def test_a_bettor_against_a_right_price_loses_the_vig_however_choosy_he_is(seasons):
    """And Kelly's stakes ruin him: the full ones almost surely, a tenth of them slowly."""
    train, dev = seasons
    p = fit_regression(train)(dev)
    rng = np.random.default_rng(0)
    returns, ends = {0.0: [], 0.1: []}, {1.0: [], 0.1: []}
    for _ in range(150):
        moved = np.log(p / (1 - p)) + rng.normal(0, RANGE / 1.645, len(p))
        fair = np.clip(1 / (1 + np.exp(-moved)), 0.05, 0.95)
        won = (rng.random(len(p)) < fair).astype(int)
        for minimum in returns:
            returns[minimum].append(value_bets(p, *price(fair, VIG), won, minimum).roi)
        for times in ends:
            ends[times].append(bankroll(p, *price(fair, VIG), won, times)[-1])
    for minimum in returns:
        assert np.mean(returns[minimum]) == pytest.approx(-VIG / (1 + VIG), abs=0.015)
    assert np.median(ends[1.0]) < 0.01 < np.median(ends[0.1]) < 1


def test_kelly_at_a_wrong_belief_shrinks_the_bankroll():
    odds = float(price([0.5], VIG)[0][0])
    share = float(kelly(0.56, odds))
    assert growth(0.56, odds, share) > 0 > growth(0.53, odds, share) > growth(0.5, odds, share)
