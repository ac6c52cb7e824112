"""The shipped games, and every kind of broken line in a file of games."""

import importlib.util
from collections import Counter

import pytest

from finetune_utils.betting.games import COLUMNS, DEV, TEST, TRAIN, load_games, of_seasons
from finetune_utils.data import DATA_DIR
from finetune_utils.errors import UserError

HEADER = ",".join(COLUMNS)
GOOD = "2022-11-01,2023,BOS,PHI,126,117,0"


def write(tmp_path, *lines, header=HEADER):
    path = tmp_path / "games.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_every_season_is_whole(games):
    assert Counter(game.season for game in games) == {2021: 1080, 2023: 1230, 2024: 1230, 2025: 1230}
    for season, each in {2021: 72, 2023: 82, 2024: 82, 2025: 82}.items():
        own = of_seasons(games, [season])
        assert set(Counter(team for g in own for team in (g.home, g.away)).values()) == {each}
        assert len({team for g in own for team in (g.home, g.away)}) == 30


def test_home_wins_are_as_often_as_known(games):
    rates = {
        s: sum(g.home_won for g in of_seasons(games, [s])) / len(of_seasons(games, [s]))
        for s in (2021, 2023, 2024, 2025)
    }
    assert {season: round(rate, 3) for season, rate in rates.items()} == {
        2021: 0.544,
        2023: 0.58,
        2024: 0.543,
        2025: 0.544,
    }


def test_no_game_stands_twice(games):
    assert len({game.id for game in games}) == len({(g.date, g.away) for g in games}) == len(games) == 4770


def test_the_five_games_at_a_neutral_site_are_kept_and_marked(games):
    marked = {(g.date.isoformat(), frozenset((g.home, g.away))) for g in games if g.neutral}
    assert marked == {
        ("2024-11-02", frozenset(("WAS", "MIA"))),
        ("2024-12-14", frozenset(("OKC", "HOU"))),
        ("2024-12-14", frozenset(("MIL", "ATL"))),
        ("2025-01-23", frozenset(("IND", "SAS"))),
        ("2025-01-25", frozenset(("SAS", "IND"))),
    }


def test_a_known_result(games):
    first = next(g for g in games if g.id == "2022-10-18-BOS")
    assert (first.away, first.home_points, first.away_points, first.margin, first.home_won) == ("PHI", 126, 117, 9, 1)


def test_train_dev_and_test_share_no_season():
    assert sorted(TRAIN + DEV + TEST) == [2021, 2023, 2024, 2025]


def test_the_build_script_joins_rows_and_keeps_games_where_both_say_at():
    spec = importlib.util.spec_from_file_location("build_nba_games", DATA_DIR / "build_nba_games.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = (
        "game_id,game_date,team_abbreviation,matchup,pts\n"
        "1,2024-10-22,NYK,NYK @ BOS,109\n1,2024-10-22,BOS,BOS vs. NYK,132\n"
        "2,2024-11-02,WAS,WAS @ MIA,98\n2,2024-11-02,MIA,MIA @ WAS,118\n"
    )
    assert [list(game.values()) for game in script.join_games(2025, text)] == [
        ["2024-10-22", 2025, "BOS", "NYK", 132, 109, 0],
        ["2024-11-02", 2025, "WAS", "MIA", 98, 118, 1],
    ]
    with pytest.raises(SystemExit, match="Game 2 of 2025 has 1 rows"):
        script.join_games(2025, text.rsplit("2,2024", 1)[0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2022-11-02,2023,BOS,PHI,126,117", "found 6 values where the columns are 7"),
        ("11/02/2022,2023,BOS,PHI,126,117,0", "date '11/02/2022', which is not written YYYY-MM-DD"),
        ("2022-11-02,23,BOS,PHI,126,117,0", "season 23 for 2022-11-02"),
        ("2022-11-02,2022-23,BOS,PHI,126,117,0", "season '2022-23', which is not a whole number"),
        ("2022-11-02,2023,BOS,PHI,126.5,117,0", "home_points '126.5', which is not a whole number"),
        ("2022-11-02,2023,BOS,PHI,126,-7,0", "away_points '-7', which is not a whole number"),
        ("2022-11-02,2023,BOS,BOS,126,117,0", "'BOS' against 'BOS', which are not two teams"),
        ("2022-11-02,2023,,PHI,126,117,0", "'' against 'PHI', which are not two teams"),
        ("2022-11-02,2023,BOS,PHI,117,117,0", "117:117, a draw"),
        ("2022-11-02,2023,BOS,PHI,126,117,no", "neutral 'no', which is neither 0 nor 1"),
        ("2022-10-30,2023,BOS,PHI,126,117,0", "after 2022-11-01 .* sort the file by date"),
        ("2022-11-01,2023,NYK,BOS,126,117,0", "a second game of BOS on 2022-11-01"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    path = write(tmp_path, GOOD, line)
    with pytest.raises(UserError, match=rf"games.csv:3: found .*{message}|games.csv:3: {message}"):
        load_games(path)


def test_a_broken_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none.csv: found no such file"):
        load_games(tmp_path / "none.csv")
    with pytest.raises(UserError, match=r"games.csv:1: found the columns date,home; expected date,season,home"):
        load_games(write(tmp_path, header="date,home"))
    with pytest.raises(UserError, match=r"games.csv: found no game"):
        load_games(write(tmp_path))
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(UserError, match=r"empty.csv:1: found an empty file"):
        load_games(tmp_path / "empty.csv")
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + b"\n\xe9\n")
    with pytest.raises(UserError, match=r"latin.csv: found text that is not UTF-8"):
        load_games(tmp_path / "latin.csv")


def test_a_good_file_is_read(tmp_path):
    (game,) = load_games(write(tmp_path, GOOD))
    assert (game.season, game.home, game.margin, game.neutral) == (2023, "BOS", 9, False)
