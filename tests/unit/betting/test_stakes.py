"""Prices, value bets and Kelly stakes, worked by hand."""

import math

import numpy as np
import pytest

from finetune_utils.betting.stakes import bankroll, expected_value, growth, kelly, price, remove_vig, value_bets
from finetune_utils.errors import UserError


def test_a_price_keeps_the_bookmakers_share():
    home, away = price([0.5, 0.8], vig=0.05)
    np.testing.assert_allclose(1 / home + 1 / away, 1.05)
    assert home[0] == away[0] == pytest.approx(1 / 0.525)
    np.testing.assert_allclose(remove_vig(home, away), [0.5, 0.8])


def test_expected_value_and_kelly_by_hand():
    # At even money (2.0) and p = 0.6: profit 0.2 a unit, stake 20 % of the bankroll.
    assert expected_value(0.6, 2.0) == pytest.approx(0.2)
    assert kelly(0.6, 2.0) == pytest.approx(0.2)
    assert kelly(0.25, 5.0) == pytest.approx(0.25 / 4)
    assert kelly(0.4, 2.0) == 0


def test_the_kelly_share_grows_fastest_and_more_than_twice_of_it_shrinks():
    p, odds = 0.55, 2.0
    best = float(kelly(p, odds))
    shares = np.linspace(0, 0.5, 501)
    assert shares[np.argmax([growth(p, odds, s) for s in shares])] == pytest.approx(best, abs=1e-3)
    assert growth(p, odds, best) > 0 > growth(p, odds, 2.1 * best)
    assert growth(p, odds, 1.0) == -math.inf
    assert growth(1.0, odds, 1.0) == pytest.approx(math.log(2))


def test_value_bets_take_the_side_with_value_and_only_that():
    bets = value_bets([0.6, 0.3, 0.5], [2.0, 1.9, 1.9], [1.8, 1.9, 1.9], [1, 1, 0])
    assert bets.side.tolist() == [1, -1, 0]
    assert bets.profit.tolist() == pytest.approx([1.0, -1.0, 0.0])
    assert bets.edge.tolist() == pytest.approx([0.2, 0.33, -0.05])
    assert (bets.count, bets.roi, bets.roi_error) == (2, 0.0, pytest.approx(1.0))
    assert value_bets([0.6, 0.3, 0.5], [2.0, 1.9, 1.9], [1.8, 1.9, 1.9], [1, 1, 0], minimum=0.25).side.tolist() == [
        0,
        -1,
        0,
    ]


def test_no_bet_no_return():
    bets = value_bets([0.5], [1.9], [1.9], [1])
    assert (bets.count, bets.roi) == (0, 0.0)
    assert math.isnan(bets.roi_error)
    assert bankroll([0.5], [1.9], [1.9], [1]).tolist() == [1, 1]


def test_agreeing_with_the_bookmaker_means_never_to_bet():
    p = np.linspace(0.1, 0.9, 9)
    assert value_bets(p, *price(p), (p > 0.5).astype(int)).count == 0


def test_a_bettor_who_errs_loses_about_the_share_whatever_edge_he_sees():
    """The bookmaker knows the truth, the bettor errs by noise: what looks like value is his error."""
    rng = np.random.default_rng(8)
    true = rng.uniform(0.3, 0.7, 40_000)
    y = (rng.random(len(true)) < true).astype(int)
    belief = np.clip(true + rng.normal(0, 0.1, len(true)), 0.02, 0.98)
    for minimum in (0.0, 0.1):
        bets = value_bets(belief, *price(true, 0.045), y, minimum)
        assert bets.count > 2000
        assert bets.edge[bets.side != 0].mean() > minimum
        assert bets.roi == pytest.approx(-0.043, abs=3 * bets.roi_error)
        assert bets.roi < -2 * bets.roi_error


def test_the_bankroll_by_hand():
    # Kelly stakes 20 % each time: x 1.2 after the win, x 0.8 after the loss; a game without value changes nothing.
    path = bankroll([0.6, 0.5, 0.6, 0.4], [2.0, 1.9, 2.0, 1.5], [1.9, 1.9, 1.9, 2.0], [1, 1, 0, 1])
    assert path.tolist() == pytest.approx([1, 1.2, 1.2, 0.96, 0.96 * 0.8])
    assert bankroll([0.6], [2.0], [1.9], [0], times=9).tolist() == [1, 0]
    assert bankroll([0.6], [2.0], [1.9], [1], times=0.5).tolist() == pytest.approx([1, 1.1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: price([0.0, 0.5]), "between 0 and 1, both excluded"),
        (lambda: price([0.5], vig=-0.1), "vig is -0.1"),
        (lambda: value_bets([0.5], [1.0], [2.0], [1]), "Decimal odds must be above 1; found 1"),
        (lambda: value_bets([1.5], [2.0], [2.0], [1]), "Forecast 1 is 1.5"),
        (lambda: bankroll([0.5], [2.0], [2.0], [1], times=-1), "a stake cannot be negative"),
    ],
)
def test_what_cannot_be_bet_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()
