"""What a bettor would have got: prices with the bookmaker's share, value bets, Kelly stakes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from .scoring import check

VIG = 0.045  # a usual bookmaker's share: the implied probabilities of both sides sum to 1.045


def price(p: Sequence[float] | np.ndarray, vig: float = VIG) -> tuple[np.ndarray, np.ndarray]:
    """Decimal odds of both sides from a bookmaker who believes p and keeps a share: 1 / (p (1 + vig)), and for 1 - p.

    Raises:
        UserError: a probability of 0 or 1 or outside, or a negative share.
    """
    p = np.asarray(p, float)
    if not ((p > 0) & (p < 1)).all():
        raise UserError("A price needs probabilities between 0 and 1, both excluded.")
    if vig < 0:
        raise UserError(f"vig is {vig}: a bookmaker's share is 0 or more.")
    return 1 / (p * (1 + vig)), 1 / ((1 - p) * (1 + vig))


def remove_vig(home: np.ndarray, away: np.ndarray) -> np.ndarray:
    """P(home) behind two decimal odds: the implied probabilities, divided by their sum (the multiplicative way)."""
    home, away = np.asarray(home, float), np.asarray(away, float)
    return (1 / home) / (1 / home + 1 / away)


def expected_value(p: float | np.ndarray, odds: float | np.ndarray) -> float | np.ndarray:
    """Expected profit of a stake of 1 at decimal odds: p x odds - 1."""
    return np.asarray(p, float) * odds - 1


def kelly(p: float | np.ndarray, odds: float | np.ndarray) -> np.ndarray:
    """Share of the bankroll that grows it fastest in the long run if p is exactly true (Kelly 1956); 0 without value."""
    return np.maximum(expected_value(p, odds), 0) / (np.asarray(odds, float) - 1)


def growth(p: float, odds: float, share: float) -> float:
    """Expected log growth of the bankroll a bet when `share` of it is staked; -inf when it can lose all."""
    won = p * math.log1p(share * (odds - 1))
    if p >= 1:
        return won
    return won + (1 - p) * math.log1p(-share) if share < 1 else -math.inf


@dataclass(frozen=True)
class Bets:
    """The bets of a rule, game by game: the side (1 home, -1 away, 0 no bet), its odds, stake and profit."""

    side: np.ndarray
    odds: np.ndarray
    edge: np.ndarray
    profit: np.ndarray

    @property
    def count(self) -> int:
        """How many games were bet on."""
        return int((self.side != 0).sum())

    @property
    def roi(self) -> float:
        """Profit a unit staked, over all bets (stake 1 each); 0 without bets."""
        return float(self.profit.sum() / self.count) if self.count else 0.0

    @property
    def roi_error(self) -> float:
        """Standard error of `roi`, game by game; nan with fewer than two bets."""
        made = self.profit[self.side != 0]
        return float(made.std(ddof=1) / np.sqrt(len(made))) if len(made) > 1 else float("nan")


def value_bets(
    p: Sequence[float], home_odds: Sequence[float], away_odds: Sequence[float], y: Sequence[int], minimum: float = 0.0
) -> Bets:
    """Bet 1 on the side whose expected value under p exceeds `minimum`, where there is one.

    Raises:
        UserError: bad probabilities or outcomes, or odds that are not above 1.
    """
    p, y = check(p, y)
    odds = np.stack([_odds(home_odds), _odds(away_odds)])
    edges = expected_value(np.stack([p, 1 - p]), odds)
    best = edges.argmax(axis=0)
    rows = np.arange(len(p))
    edge, taken = edges[best, rows], odds[best, rows]
    side = np.where(edge > minimum, np.where(best == 0, 1, -1), 0)
    won = np.where(best == 0, y == 1, y == 0)
    profit = np.where(side == 0, 0.0, np.where(won, taken - 1, -1.0))
    return Bets(side, taken, edge, profit)


def bankroll(
    p: Sequence[float], home_odds: Sequence[float], away_odds: Sequence[float], y: Sequence[int], times: float = 1.0
) -> np.ndarray:
    """The bankroll before the first and after every game (games + 1,), staking `times` the Kelly share each time.

    Starts at 1. Games are taken one after the other, even those of one evening. `times` of 0.5 is "half Kelly"; a
    stake never exceeds what is there.

    Raises:
        UserError: as `value_bets`, or negative `times`.
    """
    if times < 0:
        raise UserError(f"times is {times}: a stake cannot be negative.")
    bets = value_bets(p, home_odds, away_odds, y)
    belief = np.where(bets.side >= 0, np.asarray(p, float), 1 - np.asarray(p, float))
    share = np.where(bets.side != 0, np.minimum(times * kelly(belief, bets.odds), 1.0), 0.0)
    return np.concatenate([[1.0], np.cumprod(1 + share * bets.profit)])


def _odds(values: Sequence[float]) -> np.ndarray:
    odds = np.asarray(values, float)
    if not (odds > 1).all():
        raise UserError(f"Decimal odds must be above 1; found {np.nanmin(odds):g}.")
    return odds
