"""The ladder of forecasters that a language model has to climb: coin, home rate, record, Elo, regression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..errors import UserError
from .elo import EloSettings, win_probability

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

# Every gap is home minus away, so swapping the teams turns p into 1 - p; `site` is the home edge.
RECORD = ("site", "win_share_gap")
FULL = ("site", "elo_gap", "margin_gap", "recent_gap", "win_share_gap", "tired_gap")
Forecaster = Callable[[pd.DataFrame], np.ndarray]


def coin(table: pd.DataFrame) -> np.ndarray:
    """One half for every game."""
    return np.full(len(table), 0.5)


def fit_home_rate(train: pd.DataFrame) -> Forecaster:
    """The share of home wins in `train`, for every game with a home team; one half at a neutral site."""
    rate = _rows(train).loc[train["site"] == 1, "home_won"].mean()
    return lambda table: np.where(table["site"] == 1, rate, 0.5)


def elo_forecaster(settings: EloSettings) -> Forecaster:
    """The probability that the ratings before the game give, home edge included. Nothing is fitted here."""
    return lambda table: np.asarray(win_probability(table["elo_gap"] + settings.home_edge * table["site"]))


@dataclass(frozen=True)
class Regression:
    """A fitted regression on columns of the feature table.

    `weights` are per unit of each column: logits for a probability, points for a margin.
    """

    columns: tuple[str, ...]
    weights: np.ndarray
    spread: float = 0.0

    def score(self, table: pd.DataFrame) -> np.ndarray:
        """Weighted sum of the columns, one number a game."""
        return table[list(self.columns)].to_numpy(float) @ self.weights

    def __call__(self, table: pd.DataFrame) -> np.ndarray:
        """Probability of a home win in each game."""
        return 1 / (1 + np.exp(-self.score(table)))


def fit_regression(train: pd.DataFrame, columns: Sequence[str] = FULL) -> Regression:
    """Logistic regression of `home_won` on `columns` (scikit-learn, default penalty, columns scaled, no constant).

    Without a constant, and with gaps as columns, a game seen from the other side has exactly 1 - p.

    Raises:
        UserError: no rows, a column that is not there, or only one outcome.
    """
    from sklearn.linear_model import LogisticRegression

    return _fit(LogisticRegression(fit_intercept=False), train, columns, "home_won")


def fit_margin(train: pd.DataFrame, columns: Sequence[str] = FULL) -> Regression:
    """Least squares of `home_lead` (points) on `columns`; `spread` is the standard deviation of what is left.

    Use `.score(table)` for the expected margin. Raises as `fit_regression` does.
    """
    from sklearn.linear_model import LinearRegression

    return _fit(LinearRegression(fit_intercept=False), train, columns, "home_lead")


def cross_fit(train: pd.DataFrame, columns: Sequence[str] = FULL, fit: Callable[..., Regression] = fit_regression,
              read: Callable[[Regression, pd.DataFrame], np.ndarray] = Regression.__call__) -> np.ndarray:  # fmt: skip
    """Forecast every season of `train` with a regression fitted on the other seasons only.

    These are the soft labels that a language model is taught: no label has seen the outcome of its own game.

    Raises:
        UserError: fewer than two seasons.
    """
    seasons = sorted(train["season"].unique())
    if len(seasons) < 2:
        raise UserError(f"Fitting on the other seasons needs at least 2 seasons; found {len(seasons)}.")
    forecast = np.empty(len(train))
    for season in seasons:
        own = (train["season"] == season).to_numpy()
        forecast[own] = read(fit(train[~own], columns), train[own])
    return forecast


def ladder(train: pd.DataFrame, settings: EloSettings) -> dict[str, Forecaster]:
    """All forecasters, from the coin up, fitted on `train`: each takes a table and returns P(home win)."""
    return {
        "coin": coin,
        "home rate": fit_home_rate(train),
        "record": fit_regression(train, RECORD),
        "Elo": elo_forecaster(settings),
        "regression": fit_regression(train),
    }


def _fit(estimator: object, train: pd.DataFrame, columns: Sequence[str], target: str) -> Regression:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _rows(train)
    missing = [name for name in columns if name not in train]
    if missing:
        raise UserError(f"The table has no column {missing[0]!r}: ask feature_table for it.")
    x, y = train[list(columns)].to_numpy(float), train[target].to_numpy()
    if len(np.unique(y)) < 2:
        raise UserError(f"All {len(y)} games have the same {target}: there is nothing to fit.")
    pipeline: Pipeline = make_pipeline(StandardScaler(with_mean=False), estimator).fit(x, y)
    weights = np.ravel(pipeline[-1].coef_) / pipeline[0].scale_
    return Regression(tuple(columns), weights, float(np.std(y - x @ weights)))


def _rows(train: pd.DataFrame) -> pd.DataFrame:
    if train.empty:
        raise UserError("There are no games to fit on.")
    return train
