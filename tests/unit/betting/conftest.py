"""The shipped games, read once."""

import datetime

import pytest

from finetune_utils.betting.elo import EloSettings
from finetune_utils.betting.features import feature_table
from finetune_utils.betting.games import Game, load_games


@pytest.fixture(scope="session")
def games():
    return load_games()


@pytest.fixture(scope="session")
def settings():
    return EloSettings(home_edge=50, carry_over=0.7)


@pytest.fixture(scope="session")
def table(games, settings):
    """Features of all games. Tests must not change it."""
    return feature_table(games, settings)


@pytest.fixture
def game():
    """Make a game on a day of November 2022: `game(3, "AAA", "BBB", 101, 99)`."""

    def make(day, home, away, home_points=101, away_points=99, neutral=False, season=2023):
        date = datetime.date(season - 1, 11, day)
        return Game(date, season, home, away, home_points, away_points, neutral)

    return make
