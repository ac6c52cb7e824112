"""Scores of stated probabilities and intervals: proper scores, calibration with its noise, coverage."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..evaluation import Interval, mean_difference

CLIP = 0.01  # a log loss without it is infinite for one certain and wrong forecast


def squared_errors(p: Sequence[float], y: Sequence[int]) -> np.ndarray:
    """(p - y)^2 of every forecast; their mean is the Brier score (Brier 1950).

    Raises:
        UserError: different lengths, no rows, a probability outside [0, 1], or an outcome that is not 0 or 1.
    """
    p, y = check(p, y)
    return (p - y) ** 2


def brier(p: Sequence[float], y: Sequence[int]) -> float:
    """Mean squared error of the probabilities: 0 is perfect, 0.25 what a coin gets. Raises as `squared_errors`."""
    return float(squared_errors(p, y).mean())


def log_loss(p: Sequence[float], y: Sequence[int], clip: float = CLIP) -> tuple[float, int]:
    """Mean -log of the probability of what happened, in nats, and how many forecasts were moved into [clip, 1 - clip].

    Raises as `squared_errors`.
    """
    p, y = check(p, y)
    kept = np.clip(p, clip, 1 - clip)
    return float(-np.log(np.where(y == 1, kept, 1 - kept)).mean()), int((kept != p).sum())


def accuracy(p: Sequence[float], y: Sequence[int]) -> float:
    """Share of games whose likelier side won; a forecast of exactly 0.5 counts as half right."""
    p, y = check(p, y)
    return float(np.where(p == 0.5, 0.5, (p > 0.5) == (y == 1)).mean())


def skill(p: Sequence[float], y: Sequence[int], reference: Sequence[float]) -> float:
    """1 - Brier / Brier of the reference: 0 is no better than it, 1 is perfect."""
    return 1 - brier(p, y) / brier(reference, y)


def auroc(score: Sequence[float], y: Sequence[int]) -> float:
    """Probability that a random case with y = 1 has the higher score than one with y = 0 (ties count half).

    Raises:
        UserError: only one kind of outcome.
    """
    score, y = np.asarray(score, float), np.asarray(y)
    high, low = score[y == 1], np.sort(score[y == 0])
    if not len(high) or not len(low):
        raise UserError("AUROC needs both outcomes; found only one.")
    below = np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")
    return float(below.mean() / (2 * len(low)))


def paired_brier(
    p: Sequence[float], reference: Sequence[float], y: Sequence[int], days: Sequence[Hashable], seed: int = 0
) -> Interval:
    """Brier of `p` minus Brier of `reference` on the same games, resampled by day: below 0, `p` is better."""
    return mean_difference(squared_errors(reference, y), squared_errors(p, y), days, seed)


@dataclass(frozen=True)
class Bin:
    """One bar of a reliability diagram; `low` and `high` hold 90 % of what a perfect forecaster would show there."""

    count: int
    stated: float
    observed: float
    low: float
    high: float


def reliability(p: Sequence[float], y: Sequence[int], bins: int = 10, draws: int = 1000, seed: int = 0) -> list[Bin]:
    """Mean stated probability and observed share in bins of equal width (empty bins left out), with null bands.

    The band is simulated: outcomes are drawn from the stated probabilities themselves, so a perfectly calibrated
    forecaster falls outside in one bin of ten.
    """
    p, y = check(p, y)
    drawn = np.random.default_rng(seed).random((draws, len(p))) < p
    found = []
    for chosen in _members(p, bins):
        low, high = np.percentile(drawn[:, chosen].mean(axis=1), [5, 95])
        found.append(Bin(len(chosen), float(p[chosen].mean()), float(y[chosen].mean()), float(low), float(high)))
    return found


def ece(p: Sequence[float], y: Sequence[int], bins: int = 10) -> float:
    """Expected calibration error: |stated - observed| averaged over equal-width bins, weighted by their size.

    Biased upward: even a perfect forecaster scores above 0 on a finite sample; see `ece_null`.
    """
    p, y = check(p, y)
    return float(sum(abs((p[chosen] - y[chosen]).sum()) for chosen in _members(p, bins)) / len(p))


def ece_null(p: Sequence[float], bins: int = 10, draws: int = 1000, seed: int = 0) -> tuple[float, float, float]:
    """Mean and 5 % and 95 % points of the ECE that these forecasts would get if every one of them were exactly true."""
    p = check(p, np.zeros(len(p)))[0]
    gaps = p - (np.random.default_rng(seed).random((draws, len(p))) < p)
    null = sum(np.abs(gaps[:, chosen].sum(axis=1)) for chosen in _members(p, bins)) / len(p)
    low, high = np.percentile(null, [5, 95])
    return float(null.mean()), float(low), float(high)


def calibration_line(p: Sequence[float], y: Sequence[int], clip: float = CLIP) -> tuple[float, float]:
    """Slope and intercept of the outcome's logit on the stated logit (Cox 1958): (1, 0) is calibrated.

    A slope below 1 means overconfident, an intercept above 0 that the event happened more often than stated. Maximum
    likelihood by Newton's method, no penalty.

    Raises:
        UserError: all forecasts are equal, or the forecasts separate the outcomes perfectly.
    """
    p, y = check(p, y)
    x = np.log(np.clip(p, clip, 1 - clip) / (1 - np.clip(p, clip, 1 - clip)))
    if np.ptp(x) < 1e-9:
        raise UserError("All forecasts are equal: there is no calibration line through one point.")
    design, weights = np.column_stack([x, np.ones_like(x)]), np.zeros(2)
    for _ in range(50):
        fitted = 1 / (1 + np.exp(-np.clip(design @ weights, -500, 500)))
        hessian = (design.T * (fitted * (1 - fitted))) @ design
        if np.linalg.det(hessian) < 1e-12:
            raise UserError("The forecasts separate the outcomes perfectly: the calibration line has no end.")
        step = np.linalg.solve(hessian, design.T @ (y - fitted))
        weights = weights + step
        if np.abs(step).max() < 1e-10:
            break
    return float(weights[0]), float(weights[1])


def coverage(low: Sequence[float], high: Sequence[float], y: Sequence[float]) -> float:
    """Share of outcomes inside their interval, ends included."""
    low, high, y = _interval(low, high, y)
    return float(((low <= y) & (y <= high)).mean())


def interval_score(low: Sequence[float], high: Sequence[float], y: Sequence[float], level: float = 0.8) -> float:
    """Winkler's score (1972): mean width plus 2 / (1 - level) x the distance by which an outcome is missed. Lower is better.

    Raises:
        UserError: a lower end above its upper end, different lengths, or a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise UserError(f"level is {level}: it must lie between 0 and 1, such as 0.8.")
    low, high, y = _interval(low, high, y)
    missed = np.maximum(low - y, 0) + np.maximum(y - high, 0)
    return float((high - low + 2 / (1 - level) * missed).mean())


def conformal_half_width(residuals: Sequence[float], level: float = 0.8) -> float:
    """Half width that covers a new outcome with probability `level` at least, from residuals of unseen cases.

    Split conformal prediction (Lei et al. 2018): the ceil((n + 1) level)-th smallest absolute residual, valid when
    the new cases are like those that gave the residuals.

    Raises:
        UserError: too few residuals for this level.
    """
    sizes = np.sort(np.abs(np.asarray(residuals, float)))
    rank = math.ceil((len(sizes) + 1) * level - 1e-9)
    if not 0 < level < 1 or rank > len(sizes) or not len(sizes):
        raise UserError(f"{len(sizes)} residuals are too few for a level of {level}.")
    return float(sizes[rank - 1])


def check(p: Sequence[float], y: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and outcomes as arrays of equal length, after making sure that they are such.

    Raises:
        UserError: names the first row that is wrong.
    """
    p, y = np.asarray(p, float), np.asarray(y, float)
    if p.shape != y.shape or p.ndim != 1 or not len(p):
        raise UserError(f"{p.size} forecasts for {y.size} outcomes: give one of each a game, and at least one game.")
    bad = np.flatnonzero(~((p >= 0) & (p <= 1)))
    if len(bad):
        raise UserError(f"Forecast {bad[0] + 1} is {p[bad[0]]:g}: a probability lies between 0 and 1.")
    bad = np.flatnonzero((y != 0) & (y != 1))
    if len(bad):
        raise UserError(f"Outcome {bad[0] + 1} is {y[bad[0]]:g}: it must be 0 or 1.")
    return p, y


def _members(p: np.ndarray, bins: int) -> list[np.ndarray]:
    """Row numbers of each non-empty bin; 1.0 belongs to the last one."""
    index = np.minimum((p * bins).astype(int), bins - 1)
    return [np.flatnonzero(index == i) for i in range(bins) if (index == i).any()]


def _interval(
    low: Sequence[float], high: Sequence[float], y: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low, high, y = (np.asarray(values, float) for values in (low, high, y))
    if not len(low) == len(high) == len(y) or not len(y):
        raise UserError(
            f"{len(low)} lower ends, {len(high)} upper ends and {len(y)} outcomes: give one of each a case."
        )
    bad = np.flatnonzero(~(low <= high))
    if len(bad):
        raise UserError(f"Interval {bad[0] + 1} runs from {low[bad[0]]:g} to {high[bad[0]]:g}: its ends are swapped.")
    return low, high, y
