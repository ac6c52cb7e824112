"""What was known before each game: record, ratings, form and rest, from strictly earlier dates."""

from __future__ import annotations

import datetime
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..errors import UserError
from .elo import EloSettings, rate_games
from .games import Game

LONGEST_REST = 5  # days; the first game of a season counts as this
RECENT = 10  # games of "recent form"
MINIMUM_GAMES = 5  # forecasts are judged where both teams have played so many
# Columns that no forecaster could have had. They are computed only on request, for the lesson on leakage.
LEAKS = {
    "unshifted_form": "mean margin of the last three games, this one included: the average was not shifted by one",
    "home_points": "points of the home team in this very game",
    "season_margin": "mean margin of the whole season, games still to come included",
}


@dataclass
class _Team:
    """What one team has done so far this season."""

    games: int = 0
    wins: int = 0
    margins: int = 0
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT))
    last: datetime.date | None = None

    def describe(self, day: datetime.date, side: str) -> dict[str, float]:
        """The features of this team on a day, each name with `home_` or `away_` before it."""
        rest = LONGEST_REST if self.last is None else min((day - self.last).days - 1, LONGEST_REST)
        return {
            f"{side}_games": self.games,
            f"{side}_wins": self.wins,
            f"{side}_win_share": self.wins / self.games if self.games else 0.5,
            f"{side}_margin": self.margins / self.games if self.games else 0.0,
            f"{side}_recent": sum(self.recent) / len(self.recent) if self.games else 0.0,
            f"{side}_rest": rest,
            f"{side}_tired": int(rest == 0),
        }

    def play(self, day: datetime.date, margin: int) -> None:
        """Take in a finished game."""
        self.games, self.wins, self.margins = self.games + 1, self.wins + (margin > 0), self.margins + margin
        self.recent.append(margin)
        self.last = day


def feature_table(games: Sequence[Game], elo: EloSettings, leaks: Sequence[str] = ()) -> pd.DataFrame:
    """One row a game, in the order given: who played, what came out, and what was known before that day.

    Known before (for `home_` and `away_`): `elo` (points), `games`, `wins`, `win_share`, `margin` (mean of the season so
    far), `recent` (mean margin of the last ten games), `rest` (free days, 5 at most), `tired` (1 on the second of
    two days in a row). Columns ending in `_gap` are home minus away. `site` is 1 at home and 0 at a neutral site. `elo_lead` is
    `elo_gap` plus the home edge, which a neutral site does not have.
    What came out: `home_won`, `home_lead` (points). `leaks` adds the columns of `LEAKS` named there (`leak_...`), which
    were not known before.

    Raises:
        UserError: games out of order, or an unknown leak.
    """
    unknown = [name for name in leaks if name not in LEAKS]
    if unknown:
        raise UserError(f"Unknown leak {unknown[0]!r}: choose from {', '.join(LEAKS)}.")
    rows = []
    teams: dict[tuple[int, str], _Team] = {}
    for game, ratings in zip(games, rate_games(games, elo), strict=True):
        home, away = (teams.setdefault((game.season, team), _Team()) for team in (game.home, game.away))
        row = {
            "id": game.id, "date": game.date, "season": game.season, "home": game.home, "away": game.away,
            "neutral": game.neutral, "site": int(not game.neutral), "home_won": game.home_won, "home_lead": game.margin,
            "home_elo": ratings[0], "away_elo": ratings[1],
        }  # fmt: skip
        rows.append(row | home.describe(game.date, "home") | away.describe(game.date, "away"))
        home.play(game.date, game.margin)  # only now: the game is over
        away.play(game.date, -game.margin)
    table = pd.DataFrame(rows)
    for name in ("elo", "win_share", "margin", "recent", "tired"):
        table[f"{name}_gap"] = table[f"home_{name}"] - table[f"away_{name}"]
    table["elo_lead"] = table["elo_gap"] + elo.home_edge * table["site"]
    for name in leaks:
        table[f"leak_{name}"] = _leak(name, games)
    return table


def judged(table: pd.DataFrame, seasons: Sequence[int], minimum: int = MINIMUM_GAMES) -> pd.DataFrame:
    """The games of `seasons` in which both teams have played at least `minimum` games of that season."""
    enough = (table["home_games"] >= minimum) & (table["away_games"] >= minimum)
    return table[table["season"].isin(list(seasons)) & enough].reset_index(drop=True)


def _leak(name: str, games: Sequence[Game]) -> np.ndarray:
    if name == "home_points":
        return np.array([float(game.home_points) for game in games])
    margins: dict[tuple[int, str], list[int]] = {}
    now = []
    for game in games:
        sides = []
        for team, margin in ((game.home, game.margin), (game.away, -game.margin)):
            margins.setdefault((game.season, team), []).append(margin)
            recent = margins[game.season, team][-3:]
            sides.append(sum(recent) / len(recent))
        now.append(sides[0] - sides[1])
    if name == "unshifted_form":
        return np.array(now)
    final = {key: sum(values) / len(values) for key, values in margins.items()}
    return np.array([final[g.season, g.home] - final[g.season, g.away] for g in games])
