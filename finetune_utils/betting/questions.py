"""Questions about games: the text that a model reads, its reference answer, the row schema, the splits."""

from __future__ import annotations

import datetime
import hashlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ..errors import UserError
from .elo import win_probability
from .games import DEV, TEST, TRAIN

if TYPE_CHECKING:
    from datasets import DatasetDict

Row = dict[str, Any]
KINDS = ("win", "margin", "next_ten")
SCHEMA = ("id", "question", "outcome", "probability", "confidence_interval")
CLASSIC = {"train": 1246, "dev": 150, "test": 50}
SPLITS = {"train": TRAIN, "dev": DEV, "test": TEST}
NEXT = 10
NAMES = {
    "ATL": "Hawks", "BKN": "Nets", "BOS": "Celtics", "CHA": "Hornets", "CHI": "Bulls", "CLE": "Cavaliers",
    "DAL": "Mavericks", "DEN": "Nuggets", "DET": "Pistons", "GSW": "Warriors", "HOU": "Rockets", "IND": "Pacers",
    "LAC": "Clippers", "LAL": "Lakers", "MEM": "Grizzlies", "MIA": "Heat", "MIL": "Bucks", "MIN": "Timberwolves",
    "NOP": "Pelicans", "NYK": "Knicks", "OKC": "Thunder", "ORL": "Magic", "PHI": "Sixers", "PHX": "Suns",
    "POR": "Blazers", "SAC": "Kings", "SAS": "Spurs", "TOR": "Raptors", "UTA": "Jazz", "WAS": "Wizards",
}  # fmt: skip
WORDINGS = {
    "win": (
        "Will the {team} beat the {other}?",
        "Do the {team} win against the {other}?",
        "{team} to win against {other}?",
        "Is {team} vs {other} a {team} win?",
    ),
    "margin": (
        "By how many points do the {team} beat the {other}?",
        "What is the {team} margin against the {other}?",
        "How far ahead of the {other} do the {team} finish?",
        "{team} minus {other}: how many points?",
    ),
    "next_ten": (
        "What share of the ten will the {team} win?",
        "Which share of these games do the {team} win?",
        "{team}: share of wins?",
        "How large is the {team} share of wins?",
    ),
}
# On a logit scale, 90 % of the distance between Elo and a closing market price; more where ratings know least: early in a
# season, and in its last week, when teams rest their players.
RANGE, WIDE_RANGE, EARLY, LATE = 0.7, 1.0, 15, 75
# Words for a lead up to so many rating points, home edge included; beyond the last it is "huge".
FAVORS = ((15, "toss-up"), (45, "slight"), (80, "fair"), (120, "clear"), (170, "strong"), (230, "heavy"))
# Who plays for the second day in a row, where only one of them does.
TIRED = {-1: "They are tired", 1: "Tired"}


def favor(lead: float) -> str:
    """Words for a lead in rating points, home edge included, seen from either side."""
    word = next((word for bound, word in FAVORS if abs(lead) < bound), "huge")
    return word if word == "toss-up" else f"{word} {'favorite' if lead > 0 else 'underdog'}"


def describe(game: Mapping[str, Any], side: int) -> str:
    """What was known before a game, in some 15 tokens, seen from one side (1: the home team, -1: the away team).

    Short, since every token of every row is paid for: what hardly changes a forecast is left out, and what is usual (both
    teams equally rested, the middle of a season) is not said. Differences rather than pairs of ratings, since a model that
    reads digit by digit subtracts badly; whole numbers, as the digits behind the point change no forecast by a hundredth.
    What matters most stands last, next to the answer, in words that already count the home edge: a model that has to add it
    up itself forgets it in its JSON answers. The leak `unshifted_form` (see `features.LEAKS`) is told where the
    table has it.
    """
    own = "home" if side == 1 else "away"
    elo, margin, tired = (round(side * game[f"{name}_gap"]) for name in ("elo", "margin", "tired"))
    lead = side * game["elo_lead"]  # the unrounded one: its word must not depend on the side
    played = int(game[f"{own}_games"])
    parts = ["Neutral" if game["neutral"] else own.capitalize()]
    parts += ["Early season"] if played < EARLY else ["Last week"] if played >= LATE else []
    parts += [TIRED[tired]] if tired else []
    if "leak_unshifted_form" in game:
        parts.append(f"Last three {round(side * game['leak_unshifted_form']):+d}")
    return ". ".join([*parts, f"Points {margin:+d}", f"Elo {elo:+d}: {favor(lead)}."])


def price_range(p: float, games: int) -> tuple[float, float]:
    """Where 90 % of the market's prices for such a game would lie: logit(p) -/+ 0.7, or 1.0 early and late in a season.

    It is not a range for the outcome, which is 0 or 1. `games`: how many the asked team has played.
    """
    reach = WIDE_RANGE if games < EARLY or games >= LATE else RANGE
    logit = np.log(p / (1 - p))
    low, high = 1 / (1 + np.exp(-(logit + np.array([-reach, reach]))))
    return round(float(low), 2), round(float(high), 2)


def win_rows(
    table: pd.DataFrame, probabilities: Sequence[float], sides: Sequence[int] = (1, -1), wording: int | None = None,
    names: dict[str, str] | None = None,
) -> list[Row]:  # fmt: skip
    """One row a game and side: will this team win? The reference `probability` (of the home team) is clipped to 0.05-0.95.

    `wording` (0 to 3) fixes the wording; by default it changes from row to row in a way that depends only on the id.
    """
    rows = []
    for game, p in zip(table.to_dict("records"), probabilities, strict=True):
        for side in sides:
            stated = round(min(max(float(p), 0.05), 0.95), 2)
            stated = stated if side == 1 else round(1 - stated, 2)
            row = _row(game, "win", side, wording, names)
            row["outcome"] = int(game["home_won"] if side == 1 else 1 - game["home_won"])
            row["probability"] = row["estimate"] = stated
            played = game["home_games" if side == 1 else "away_games"]
            row["confidence_interval"] = list(price_range(stated, int(played)))
            rows.append(row)
    return rows


def margin_rows(
    table: pd.DataFrame, margins: Sequence[float], half_width: float, sides: Sequence[int] = (1, -1),
    wording: int | None = None, names: dict[str, str] | None = None,
) -> list[Row]:  # fmt: skip
    """One row a game and side: by how much? `margins` are expected home margins; the 80 % interval is -/+ `half_width` points."""
    rows = []
    for game, margin in zip(table.to_dict("records"), margins, strict=True):
        for side in sides:
            row = _row(game, "margin", side, wording, names)
            center = round(side * float(margin))
            row["outcome"], row["probability"], row["estimate"] = int(side * game["home_lead"]), None, center
            row["confidence_interval"] = [round(center - half_width), round(center + half_width)]
            rows.append(row)
    return rows


def next_ten_rows(table: pd.DataFrame, home_edge: float, wording: int | None = None) -> list[Row]:
    """One row a game: what share of its next ten games, this one first, will the home team win?

    Ratings are frozen at that day and the schedule is public, so the number of wins has a known (Poisson-binomial)
    distribution: the estimate is its mean, the interval its central 90 %. Games with fewer than ten left are left out.
    `table` must hold whole seasons.
    """
    rows = []
    for season, games in table.groupby("season", sort=True):
        sides = _sides(games)
        for team, own in sides.items():
            for start in range(len(own) - NEXT + 1):
                if own[start].side == 1:
                    row = _next_ten(team, own[start : start + NEXT], sides, home_edge, wording)
                    rows.append(row | {"season": int(season)})
    return sorted(rows, key=lambda row: (row["date"], row["id"]))


def to_splits(rows: Sequence[Row], sizes: dict[str, int] | None = None) -> DatasetDict:
    """A `DatasetDict` of train, dev and test by season, with the columns of `SCHEMA`.

    `sizes` (such as `CLASSIC`: 1,246/150/50) keeps so many rows of each split, chosen by a hash of the id.

    Raises:
        UserError: a split would be empty or has fewer rows than asked for.
    """
    from datasets import Dataset, DatasetDict

    parts = {}
    for name, seasons in SPLITS.items():
        own = [row for row in rows if row["season"] in seasons]
        wanted = (sizes or {}).get(name, len(own))
        if not own or len(own) < wanted:
            raise UserError(f"The split {name} has {len(own):,} rows where {max(wanted, 1):,} are wanted.")
        kept = {row["id"] for row in sorted(own, key=lambda row: _hash(row["id"]))[:wanted]}
        own = [row for row in own if row["id"] in kept]
        parts[name] = Dataset.from_dict({column: [row[column] for row in own] for column in SCHEMA})
    return DatasetDict(parts)


def _row(game: Mapping[str, Any], kind: str, side: int, wording: int | None, names: dict[str, str] | None) -> Row:
    own, other = ("home", "away") if side == 1 else ("away", "home")
    known = NAMES if names is None else names
    number = f"{game['id']}-{kind}-{own}"
    ask = _ask(kind, number, wording).format(
        team=known.get(game[own], game[own]), other=known.get(game[other], game[other])
    )
    return {
        "id": number, "question": f"{ask} {describe(game, side)}", "kind": kind, "game": game["id"],
        "date": game["date"], "season": int(game["season"]), "side": side,
    }  # fmt: skip


def _ask(kind: str, number: str, wording: int | None) -> str:
    choices = WORDINGS[kind]
    return choices[_hash(number) % len(choices) if wording is None else wording]


class _Side(NamedTuple):
    """One game as one team sees it: its rating before, how many games it had played, whether it won."""

    date: datetime.date
    game: str
    other: str
    side: int
    at_home: int
    elo: float
    games: int
    won: int


def _sides(games: pd.DataFrame) -> dict[str, list[_Side]]:
    """Every team's games of one season, in order of date."""
    found: dict[str, list[_Side]] = {}
    for game in games.to_dict("records"):
        for side, own, other in ((1, "home", "away"), (-1, "away", "home")):
            won = game["home_won"] if side == 1 else 1 - game["home_won"]
            known = (game[other], side, side * game["site"], game[f"{own}_elo"], game[f"{own}_games"], won)
            found.setdefault(game[own], []).append(_Side(game["date"], game["id"], *known))
    return found


def _next_ten(team: str, ten: list[_Side], sides: dict[str, list[_Side]], home_edge: float, wording: int | None) -> Row:
    first = ten[0]
    # A rating moves only when its team plays, so today's rating is the one before the team's next game.
    others = [sides[game.other] for game in ten]
    ratings = [own[bisect_left(own, first.date, key=lambda game: game.date)].elo for own in others]
    gaps = first.elo - np.array(ratings)
    chances = win_probability(gaps + home_edge * np.array([game.at_home for game in ten]))
    number, name = f"{first.game}-next_ten", NAMES.get(team, team)
    text = (
        f"{name}, next ten games from game {first.games + 1}, {sum(game.at_home == 1 for game in ten)} at home. "
        f"Mean Elo {round(float(gaps.mean())):+d}."
    )
    return {
        "id": number, "question": f"{text} {_ask('next_ten', number, wording).format(team=name)}", "kind": "next_ten",
        "game": first.game, "date": first.date, "side": 1, "outcome": sum(game.won for game in ten) / NEXT,
        "probability": None, "estimate": round(float(chances.mean()), 2), "confidence_interval": _central(chances),
    }  # fmt: skip


def _central(chances: np.ndarray, level: float = 0.9) -> list[float]:
    """The central `level` of the share of successes of independent tries with these chances."""
    counts = np.array([1.0])
    for chance in chances:
        counts = np.convolve(counts, [1 - chance, chance])
    reached = counts.cumsum()
    low = int((reached <= (1 - level) / 2).sum())
    high = int((reached < (1 + level) / 2 - 1e-12).sum())
    return [low / len(chances), high / len(chances)]


def _hash(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16)
