"""Questions: what the text says, both sides, intervals, next-ten shares by hand, splits."""

import re

import numpy as np
import pandas as pd
import pytest

from finetune_utils.betting import questions
from finetune_utils.betting.answers import parse_answer, row_answer
from finetune_utils.betting.features import feature_table, judged
from finetune_utils.betting.questions import (
    CLASSIC,
    NAMES,
    SCHEMA,
    WORDINGS,
    describe,
    favor,
    margin_rows,
    next_ten_rows,
    price_range,
    to_splits,
    win_rows,
)
from finetune_utils.errors import UserError


@pytest.fixture(scope="module")
def season(table):
    return judged(table, [2024]).head(60)


@pytest.fixture(scope="module")
def some_of_each(table):
    return pd.concat([judged(table, [s]).head(40) for s in (2021, 2023, 2024, 2025)], ignore_index=True)


def pairs(rows):
    """Both sides of each game."""
    return zip(rows[::2], rows[1::2], strict=True)


def game_row(**changes):
    row = {
        "id": "2024-01-09-LAL", "home": "LAL", "away": "GSW", "neutral": False, "home_games": 36, "away_games": 35,
        "elo_gap": 84.6, "elo_lead": 134.6, "margin_gap": 4.2, "tired_gap": -1,
    }  # fmt: skip
    return row | changes


def test_the_text_tells_both_sides_the_same_story():
    assert describe(game_row(), 1) == "Home. They are tired. Points +4. Elo +85: strong favorite."
    assert describe(game_row(), -1) == "Away. Tired. Points -4. Elo -85: strong underdog."
    assert describe(game_row(neutral=True), -1).startswith("Neutral. Tired.")


def test_only_what_is_unusual_is_told():
    rested = game_row(tired_gap=0)
    assert describe(rested, 1) == "Home. Points +4. Elo +85: strong favorite."
    assert describe(rested | {"home_games": 14}, 1).startswith("Home. Early season. Points")
    assert describe(rested | {"home_games": 14}, -1).startswith("Away. Points")
    assert describe(rested | {"away_games": 75}, -1).startswith("Away. Last week. Points")
    assert describe(rested | {"leak_unshifted_form": 7.6}, -1).startswith("Away. Last three -8. Points")


def test_a_question_names_both_teams_and_then_says_what_was_known(season):
    row = season.iloc[[0]].assign(home="LAL", away="GSW", neutral=False)
    home, away = win_rows(row, [0.6], wording=0)
    assert home["question"].startswith("Will the Lakers beat the Warriors? Home.")
    assert away["question"].startswith("Will the Warriors beat the Lakers? Away.")
    other = {"LAL": "Team A", "GSW": "Team B"}
    assert win_rows(row, [0.6], wording=1, names=other)[0]["question"].startswith(
        "Do the Team A win against the Team B?"
    )
    unknown = win_rows(row.assign(home="XYZ"), [0.6], wording=0)[0]
    assert unknown["question"].startswith("Will the XYZ beat the Warriors?")


def test_words_for_a_lead_are_symmetric():
    assert [favor(lead) for lead in (0, -14, 15, -45, 119, 120, -229, 230)] == [
        "toss-up", "toss-up", "slight favorite", "fair underdog", "clear favorite", "strong favorite",
        "heavy underdog", "huge favorite",
    ]  # fmt: skip


def test_the_word_counts_the_home_edge_and_the_number_does_not():
    even = game_row(elo_gap=0.0, elo_lead=50.0, tired_gap=0)
    assert describe(even, 1) == "Home. Points +4. Elo +0: fair favorite."
    assert describe(even, -1) == "Away. Points -4. Elo +0: fair underdog."


def test_every_team_has_a_name_of_its_own(games):
    assert set(NAMES) == {game.home for game in games}
    assert len(set(NAMES.values())) == 30


def test_the_question_never_tells_the_outcome(table):
    rows = judged(table, [2024]).head(200)
    p = np.full(len(rows), 0.6)
    turned = rows.assign(home_won=1 - rows["home_won"], home_lead=-rows["home_lead"])
    for make in (lambda t: win_rows(t, p), lambda t: margin_rows(t, 10 * p, 15)):
        asked, again = make(rows), make(turned)
        assert [row["question"] for row in asked] == [row["question"] for row in again]
        assert all(a["outcome"] != b["outcome"] for a, b in zip(asked, again, strict=True))


def test_both_sides_sum_to_one_and_one_of_them_wins(season):
    rows = win_rows(season, np.linspace(0.01, 0.99, len(season)))
    assert len({row["id"] for row in rows}) == len(rows) == 2 * len(season)
    for home, away in pairs(rows):
        assert home["game"] == away["game"]
        assert home["probability"] + away["probability"] == pytest.approx(1)
        assert home["outcome"] + away["outcome"] == 1
        assert 0.05 <= home["probability"] <= 0.95
        low, high = home["confidence_interval"]
        assert 0 <= low < home["probability"] < high <= 1


def test_outcomes_are_those_of_the_side_asked_about(season):
    for (_, game), (home, away) in zip(season.iterrows(), pairs(margin_rows(season, [3.4] * 60, 17.6)), strict=True):
        assert (home["outcome"], away["outcome"]) == (game["home_lead"], -game["home_lead"])
        assert (home["estimate"], home["confidence_interval"]) == (3, [-15, 21])
        assert (away["estimate"], away["confidence_interval"]) == (-3, [-21, 15])


@pytest.mark.parametrize("kind", WORDINGS)
def test_wordings_vary_and_can_be_fixed(table, season, kind):
    make = {
        "win": lambda w: win_rows(season, [0.6] * 60, wording=w),
        "margin": lambda w: margin_rows(season, [2] * 60, 17, wording=w),
        "next_ten": lambda w: next_ten_rows(table[table["season"] == 2021].head(400), 50, wording=w),
    }[kind]
    teams = "|".join(NAMES.values())

    def asked(row):
        text = row["question"]
        question = re.sub(r".*[.] ", "", text) if kind == "next_ten" else text[: text.index("?") + 1]
        return re.sub(teams, "T", question)

    assert len({asked(row) for row in make(None)}) == 4
    assert len({asked(row) for row in make(2)}) == 1
    assert all(asked(row).endswith("?") for row in make(None))


def test_the_wording_of_a_row_does_not_depend_on_its_neighbors(season):
    whole = {row["id"]: row["question"] for row in win_rows(season, [0.6] * 60)}
    half = win_rows(season.iloc[30:], [0.6] * 30, sides=(-1,))
    assert all(whole[row["id"]] == row["question"] for row in half)


def test_the_range_of_prices_is_wider_early_and_late():
    low, high = price_range(0.5, 40)
    assert (low, high) == (0.33, 0.67)  # 1 / (1 + e^0.7)
    assert price_range(0.5, 14) == price_range(0.5, 75) == (0.27, 0.73)
    assert price_range(0.8, 15) == price_range(0.8, 74)


# --- next ten


def test_the_share_of_the_next_ten_by_hand(game, settings):
    """Two teams that only meet each other, at one home: ten even games at 0.5714 = a rating difference of 50."""
    games = [game(day, "A", "B", 100, 90 if day % 2 else 110) for day in range(1, 13)]
    table = feature_table(games, settings).assign(home_elo=1500.0, away_elo=1500.0)
    rows = next_ten_rows(table, home_edge=50)
    assert [row["game"] for row in rows] == ["2022-11-01-A", "2022-11-02-A", "2022-11-03-A"]
    p = 1 / (1 + 10 ** (-50 / 400))
    assert rows[0]["estimate"] == round(p, 2)
    assert rows[0]["outcome"] == 0.5
    assert rows[0]["question"].startswith("A, next ten games from game 1, 10 at home. Mean Elo +0.")
    from scipy.stats import binom

    assert rows[0]["confidence_interval"] == [binom.ppf(0.05, 10, p) / 10, binom.ppf(0.95, 10, p) / 10]


def test_ratings_are_frozen_on_the_day(table):
    own = table[table["season"] == 2021]
    rows = next_ten_rows(own.head(300), 50)
    day = rows[0]["date"]
    later = own.head(300).copy()
    after = later["date"] > day
    later.loc[after, ["home_won"]] = 1 - later.loc[after, ["home_won"]]
    again = {row["id"]: row for row in next_ten_rows(later, 50)}
    assert all(again[r["id"]]["question"] == r["question"] for r in rows)
    # What a team's rating becomes after its next game is not used.
    third = own.head(300).groupby("home").cumcount() >= 2
    moved = own.head(300).copy()
    moved.loc[third & after, "home_elo"] += 300
    first = [r for r in rows if r["date"] == day]
    again = {row["id"]: row for row in next_ten_rows(moved, 50)}
    same = [again[r["id"]]["estimate"] == r["estimate"] for r in first]
    assert all(same)


def test_shares_are_about_right_and_their_intervals_cover(table, settings):
    rows = next_ten_rows(table[table["season"] == 2024], settings.home_edge)[::7]
    inside = [row["confidence_interval"][0] <= row["outcome"] <= row["confidence_interval"][1] for row in rows]
    assert 0.85 < np.mean(inside) < 0.97
    assert np.mean([row["outcome"] - row["estimate"] for row in rows]) == pytest.approx(0, abs=0.03)
    assert all(
        0 <= row["confidence_interval"][0] <= row["estimate"] <= row["confidence_interval"][1] <= 1 for row in rows
    )


# --- schema


def test_every_reference_answer_passes_the_parser(table, some_of_each):
    n = len(some_of_each)
    rows = win_rows(some_of_each, np.linspace(0, 1, n)) + margin_rows(some_of_each, np.linspace(-20, 20, n), 17.7)
    rows += next_ten_rows(table[table["season"] == 2021].head(250), 50)
    for row in rows:
        answer = parse_answer(row_answer(row), row["kind"])
        assert [answer.low, answer.high] == pytest.approx(row["confidence_interval"])
        assert answer.estimate == pytest.approx(row["estimate"])


def test_splits_are_seasons_with_the_columns_of_the_schema(some_of_each):
    splits = to_splits(win_rows(some_of_each, [0.6] * 160))
    assert {name: len(part) for name, part in splits.items()} == {"train": 160, "dev": 80, "test": 80}
    assert all(tuple(part.column_names) == SCHEMA for part in splits.values())
    assert {i[:4] for i in splits["test"]["id"]} == {"2024"}  # the autumn of 2024-25
    assert splits["dev"][0]["probability"] == 0.6


def test_the_classic_sizes_on_request(table):
    own = pd.concat(
        [judged(table, [s]).head(640) for s in (2021, 2023)] + [judged(table, [s]).head(90) for s in (2024, 2025)]
    )
    rows = win_rows(own, [0.6] * len(own))
    splits = to_splits(rows, CLASSIC)
    assert [len(splits[name]) for name in ("train", "dev", "test")] == [1246, 150, 50]
    assert splits["dev"]["id"][:] == to_splits(list(reversed(rows)), CLASSIC)["dev"]["id"][::-1]
    with pytest.raises(UserError, match=r"The split dev has 180 rows where 900 are wanted"):
        to_splits(rows, CLASSIC | {"dev": 900})
    with pytest.raises(UserError, match=r"The split test has 0 rows where 1 are wanted"):
        to_splits([row for row in rows if row["season"] < 2025])


def test_kinds_agree_everywhere():
    assert tuple(WORDINGS) == questions.KINDS
