"""Game results: load them from a CSV file and check every line."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data import DATA_DIR
from ..errors import UserError

COLUMNS = ("date", "season", "home", "away", "home_points", "away_points", "neutral")
# A season is named by the year in which it ends. Choices are made on DEV; TEST is scored once.
TRAIN, DEV, TEST = (2021, 2023), (2024,), (2025,)


@dataclass(frozen=True)
class Game:
    """One finished game.

    Attributes:
        season: the year in which the season ends (2025 for 2024-25).
        home: code of the home team; at a neutral site the team that the source lists first.
        neutral: True where the source says that nobody played at home.
    """

    date: datetime.date
    season: int
    home: str
    away: str
    home_points: int
    away_points: int
    neutral: bool = False

    @property
    def id(self) -> str:
        """Date and home team: no team plays twice on one day."""
        return f"{self.date.isoformat()}-{self.home}"

    @property
    def margin(self) -> int:
        """Points by which the home team won; negative when it lost."""
        return self.home_points - self.away_points

    @property
    def home_won(self) -> int:
        """1 when the home team won, else 0 (there are no draws)."""
        return int(self.margin > 0)


def load_games(path: str | Path = DATA_DIR / "nba_games.csv") -> list[Game]:
    """Read games from a CSV file with the columns of `COLUMNS`, in order of date.

    Raises:
        UserError: missing or empty file, wrong columns, a value that cannot be, dates out of order, or a team that
            plays twice on one day; file and line are named.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError.at(path, found="no such file", do="give the path of a CSV file of games")
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except UnicodeDecodeError:
        raise UserError.at(path, found="text that is not UTF-8", do="save the file as UTF-8") from None
    if not lines or tuple(lines[0]) != COLUMNS:
        found = f"the columns {','.join(lines[0])}" if lines else "an empty file"
        raise UserError.at(path, 1, found=found, expected=",".join(COLUMNS))
    games: list[Game] = []
    for number, values in enumerate(lines[1:], start=2):
        try:
            games.append(_game(values))
        except ValueError as error:
            raise UserError.at(path, number, found=str(error), do="correct the line or take it out") from None
    if not games:
        raise UserError.at(path, found="no game", expected="one a line below the columns")
    check_games(games, path)
    return games


def check_games(games: Sequence[Game], source: str | Path = "games") -> None:
    """Check what no single line shows: the order of dates and seasons, and one game a team a day.

    Raises:
        UserError: names the line, counted with the header as line 1.
    """
    playing: set[str] = set()
    for number, game in enumerate(games, start=2):
        before = games[number - 3] if number > 2 else game
        if game.date < before.date or game.season < before.season:
            raise UserError.at(
                source, number, found=f"{game.date} (season {game.season}) after {before.date} "
                f"(season {before.season})", expected="games in order of date", do="sort the file by date",
            )  # fmt: skip
        if game.date > before.date:
            playing = set()
        twice = playing & {game.home, game.away}
        if twice:
            raise UserError.at(source, number, found=f"a second game of {twice.pop()} on {game.date}", do="take it out")
        playing |= {game.home, game.away}


def of_seasons(games: Iterable[Game], seasons: Sequence[int]) -> list[Game]:
    """The games of these seasons, in their order."""
    return [game for game in games if game.season in seasons]


def _game(values: Sequence[str]) -> Game:
    if len(values) != len(COLUMNS):
        raise ValueError(f"{len(values)} values where the columns are {len(COLUMNS)}")
    date, season, home, away, home_points, away_points, neutral = (value.strip() for value in values)
    try:
        day = datetime.date.fromisoformat(date)
    except ValueError:
        raise ValueError(f"the date {date!r}, which is not written YYYY-MM-DD") from None
    numbers = {"season": season, "home_points": home_points, "away_points": away_points}
    for name, value in numbers.items():
        if not (value.isascii() and value.isdigit()):
            raise ValueError(f"{name} {value!r}, which is not a whole number")
    if day.year not in (int(season) - 1, int(season)):
        raise ValueError(f"season {season} for {date} (a season is named by the year in which it ends)")
    if not home or not away or home == away:
        raise ValueError(f"{home!r} against {away!r}, which are not two teams")
    if home_points == away_points:
        raise ValueError(f"{home_points}:{away_points}, a draw")
    if neutral not in ("0", "1"):
        raise ValueError(f"neutral {neutral!r}, which is neither 0 nor 1")
    return Game(day, int(season), home, away, int(home_points), int(away_points), neutral == "1")
