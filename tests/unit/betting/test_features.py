"""What was known before a game: recomputed from truncated history, and blind to what came after."""

import dataclasses
import random

import numpy as np
import pandas as pd
import pytest

from finetune_utils.betting.features import LEAKS, LONGEST_REST, feature_table, judged
from finetune_utils.errors import UserError

KNOWN_BEFORE = ["elo", "games", "wins", "win_share", "margin", "recent", "rest", "tired"]
OUTCOMES = ["home_won", "home_lead"]


def by_hand(history, team, game):
    """A team's features from the games of its season on earlier dates, counted anew."""
    own = [g for g in history if g.season == game.season and team in (g.home, g.away)]
    margins = [g.margin if g.home == team else -g.margin for g in own]
    rest = min((game.date - own[-1].date).days - 1, LONGEST_REST) if own else LONGEST_REST
    return {
        "games": len(own),
        "wins": sum(m > 0 for m in margins),
        "win_share": np.mean([m > 0 for m in margins]) if own else 0.5,
        "margin": np.mean(margins) if own else 0,
        "recent": np.mean(margins[-10:]) if own else 0,
        "rest": rest,
        "tired": int(rest == 0),
    }


def test_a_sample_recomputed_from_strictly_earlier_dates_is_the_same(games, table):
    for i in random.Random(7).sample(range(len(games)), 60):
        game = games[i]
        history = [g for g in games if g.date < game.date]
        for side, team in (("home", game.home), ("away", game.away)):
            for name, value in by_hand(history, team, game).items():
                assert table.loc[i, f"{side}_{name}"] == pytest.approx(value), (game.id, side, name)


@pytest.mark.parametrize("i", [0, 500, 1079, 1080, 2345, 4769])
def test_history_cut_at_the_day_gives_the_same_row(games, settings, table, i):
    cut = [g for g in games if g.date < games[i].date] + [games[i]]
    pd.testing.assert_series_equal(feature_table(cut, settings).iloc[-1], table.iloc[i], check_names=False)


def test_other_outcomes_from_a_day_on_change_no_feature_of_that_day(games, settings, table):
    day = games[3000].date
    changed = [
        dataclasses.replace(g, home_points=g.away_points + 31, away_points=g.home_points) if g.date >= day else g
        for g in games
    ]
    before = table[table["date"] <= day].drop(columns=OUTCOMES)
    after = feature_table(changed, settings)
    pd.testing.assert_frame_equal(after.loc[before.index].drop(columns=OUTCOMES), before)
    later = table["date"] > day
    assert (after.loc[later, "home_margin"] != table.loc[later, "home_margin"]).mean() > 0.9


def test_a_small_season_by_hand(game, settings):
    games = [game(1, "A", "B", 110, 100), game(2, "A", "C", 90, 95), game(5, "B", "A", 120, 100)]
    last = feature_table(games, settings).iloc[-1]
    assert [last[f"away_{n}"] for n in KNOWN_BEFORE[1:]] == [2, 1, 0.5, 2.5, 2.5, 2, 0]
    assert [last[f"home_{n}"] for n in KNOWN_BEFORE[1:]] == [1, 0, 0, -10, -10, 3, 0]
    assert (last["margin_gap"], last["win_share_gap"], last["home_lead"]) == (-12.5, -0.5, 20)
    assert last["elo_lead"] == pytest.approx(last["home_elo"] - last["away_elo"] + settings.home_edge)
    abroad = feature_table([*games[:2], dataclasses.replace(games[2], neutral=True)], settings).iloc[-1]
    assert abroad["elo_lead"] == pytest.approx(last["elo_gap"])
    second = feature_table(games, settings).iloc[1]
    assert (second["home_rest"], second["home_tired"], second["away_rest"]) == (0, 1, LONGEST_REST)


def test_a_new_season_starts_from_nothing_but_the_rating(table):
    first = table.groupby("season").head(1)
    assert (first[["home_games", "home_margin", "away_recent"]] == 0).all(axis=None)
    assert (first.loc[first["season"] > 2021, "elo_gap"] != 0).all()


def test_no_leak_is_there_unless_asked_for(table):
    assert not [name for name in table if name.startswith("leak_")]


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_changes_with_the_games_own_outcome_and_is_named_so(games, settings, table, leak):
    own = games[:400]
    leaky = feature_table(own, settings, [leak])
    turned = dataclasses.replace(own[300], home_points=own[300].home_points + 40)
    again = feature_table(own[:300] + [turned] + own[301:], settings, [leak])
    assert again.loc[300, f"leak_{leak}"] > leaky.loc[300, f"leak_{leak}"]
    assert list(leaky.drop(columns=f"leak_{leak}")) == list(table)


def test_an_unknown_leak_is_refused(games, settings):
    with pytest.raises(UserError, match="Unknown leak 'odds': choose from unshifted_form"):
        feature_table(games[:5], settings, ["odds"])


def test_judged_games_are_those_where_both_teams_have_played_enough(table):
    dev = judged(table, [2024])
    assert dev[["home_games", "away_games"]].min(axis=None) == 5
    assert set(dev["season"]) == {2024}
    assert len(judged(table, [2024], 0)) == 1230
    assert len(dev) == 1149
