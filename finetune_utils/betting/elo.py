"""Elo ratings in a screen of code: the recipe of FiveThirtyEight, with two of its constants fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import UserError
from ..pairwise import expected_score
from .games import Game, check_games


@dataclass(frozen=True)
class EloSettings:
    """The constants of the rating.

    Attributes:
        k: how far one game moves a rating, in points.
        home_edge: what playing at home is worth, in points; 0 at a neutral site.
        carry_over: share of a team's distance from the mean that survives a summer.
        mean: the rating of an average team.
    """

    k: float = 20.0
    home_edge: float = 60.0
    carry_over: float = 0.75
    mean: float = 1505.0


def win_probability(difference: float | np.ndarray) -> float | np.ndarray:
    """Probability that the stronger side wins, given a rating difference (home edge included) in points."""
    return expected_score(difference, 0.0)


def rate_games(games: Sequence[Game], settings: EloSettings = EloSettings()) -> np.ndarray:
    """Ratings before each game: an array (games, 2) of home and away. Games come in order of date.

    A game moves both ratings by k x multiplier x (result - expectation); the multiplier grows with the margin and
    shrinks when the favorite wins, so that strong teams are not paid twice. A season that is missing between two
    others counts as one more summer. Recipe: FiveThirtyEight, as told at stats.stackexchange.com/q/168047.

    Raises:
        UserError: games out of order.
    """
    check_games(games)
    ratings: dict[str, float] = {}
    before: list[tuple[float, float]] = []
    for i, game in enumerate(games):
        summers = game.season - games[i - 1].season if i else 0
        if summers:
            kept = settings.carry_over**summers
            ratings = {team: settings.mean + kept * (rating - settings.mean) for team, rating in ratings.items()}
        home, away = ratings.get(game.home, settings.mean), ratings.get(game.away, settings.mean)
        before.append((home, away))
        difference = home - away + (0 if game.neutral else settings.home_edge)
        surprise = game.home_won - win_probability(difference)
        lead = difference if game.home_won else -difference  # winner minus loser
        step = settings.k * (abs(game.margin) + 3) ** 0.8 / (7.5 + 0.006 * lead) * surprise
        ratings[game.home], ratings[game.away] = home + step, away - step
    return np.array(before).reshape(-1, 2)


def elo_probabilities(games: Sequence[Game], settings: EloSettings) -> np.ndarray:
    """Probability of a home win in each game (games,), from the ratings before it."""
    before = rate_games(games, settings)
    edge = np.array([0.0 if game.neutral else settings.home_edge for game in games])
    return win_probability(before[:, 0] - before[:, 1] + edge)


def fit_elo(
    games: Sequence[Game],
    seasons: Sequence[int],
    home_edges: Sequence[float] = (30, 40, 50, 60, 70, 85, 100),
    carry_overs: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9),
) -> EloSettings:
    """Choose home edge and carry-over by the log loss of the games of `seasons`; later games are not looked at.

    Raises:
        UserError: no game in these seasons.
    """
    known = [game for game in games if game.season <= max(seasons, default=0)]
    judged = np.array([game.season in seasons for game in known])
    if not judged.any():
        raise UserError(f"No game of the seasons {', '.join(map(str, seasons)) or '(none)'} to fit Elo on.")
    won = np.array([game.home_won for game in known])

    def _log_loss(settings: EloSettings) -> float:
        p = elo_probabilities(known, settings)
        return -float(np.log(np.where(won == 1, p, 1 - p))[judged].mean())

    grid = [replace(EloSettings(), home_edge=edge, carry_over=kept) for edge in home_edges for kept in carry_overs]
    return min(grid, key=_log_loss)
