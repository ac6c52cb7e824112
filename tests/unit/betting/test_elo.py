"""Elo: two games by hand, summers that count, and constants fitted without a look at later games."""

import dataclasses

import numpy as np
import pytest

from finetune_utils.betting.elo import EloSettings, elo_probabilities, fit_elo, rate_games, win_probability
from finetune_utils.betting.games import TRAIN, of_seasons
from finetune_utils.errors import UserError


def test_two_games_by_hand(game):
    settings = EloSettings(k=20, home_edge=100, mean=1500)
    before = rate_games([game(1, "A", "B", 110, 100), game(2, "B", "A", 90, 95)], settings)
    # First game: the home team is expected to win 1 / (1 + 10^-0.25) = 0.6401 of the time, wins by 10.
    step = 20 * 13**0.8 / (7.5 + 0.006 * 100) * (1 - 0.6401)
    assert before[0].tolist() == [1500, 1500]
    np.testing.assert_allclose(before[1], [1500 - step, 1500 + step], atol=0.01)


def test_an_upset_moves_ratings_more_than_an_expected_win(game):
    first = game(1, "A", "B", 130, 90)
    expected = rate_games([first, game(2, "A", "B", 105, 100), game(3, "A", "C")])[2, 0]
    upset = rate_games([first, game(2, "A", "B", 100, 105), game(3, "A", "C")])[2, 0]
    before = rate_games([first, game(3, "A", "C")])[1, 0]
    assert before - upset > expected - before > 0


def test_points_are_only_moved_from_team_to_team(games, settings):
    ratings: dict[str, float] = {}
    own = of_seasons(games, [2021])
    for g, (home, away) in zip(own, rate_games(own, settings), strict=True):
        ratings |= {g.home: home, g.away: away}
    assert np.mean(list(ratings.values())) == pytest.approx(settings.mean, abs=3)  # up to each team's last game


@pytest.mark.parametrize(("season", "summers"), [(2024, 1), (2025, 2)])
def test_a_missing_season_counts_as_one_more_summer(game, season, summers):
    settings = EloSettings(carry_over=0.7, mean=1500)
    first, last = game(1, "A", "B", 130, 90), game(2, "C", "D")
    final = rate_games([first, last, game(3, "A", "B")], settings)[2]
    later = rate_games([first, last, game(1, "A", "B", season=season)], settings)[2]
    np.testing.assert_allclose(later - 1500, 0.7**summers * (final - 1500))


def test_a_neutral_site_has_no_home_edge(game):
    settings = EloSettings(home_edge=70)
    home, neutral = elo_probabilities([game(1, "A", "B"), game(1, "C", "D", neutral=True)], settings)
    assert neutral == 0.5
    assert home == pytest.approx(1 / (1 + 10 ** (-70 / 400)))


def test_win_probability_is_one_in_eleven_at_400_points():
    assert win_probability(-400) == pytest.approx(1 / 11)
    np.testing.assert_allclose(win_probability(np.array([-120.0, 120.0])).sum(), 1)


def test_the_fit_does_not_look_at_later_games(games):
    few = {"home_edges": (40, 60, 90), "carry_overs": (0.6, 0.8)}
    fitted = fit_elo(games, TRAIN, **few)
    changed = [
        dataclasses.replace(g, home_points=g.away_points, away_points=g.home_points) if g.season > 2023 else g
        for g in games
    ]
    assert fit_elo(changed, TRAIN, **few) == fitted
    assert fitted.home_edge in few["home_edges"]


def test_the_fit_finds_the_constants_that_made_the_games(game):
    """Equal teams, and a home team that wins two games of three: the edge is 400 log10(2) = 120 points."""
    games = [
        game(day, f"{i}-{day}", f"x{i}-{day}", *((105, 100) if i % 3 else (100, 105)))
        for day in (1, 2)
        for i in range(30)
    ]
    assert fit_elo(games, [2023], home_edges=(0, 60, 120, 180), carry_overs=(0.7,)).home_edge == 120


def test_no_games_to_fit_on(games):
    with pytest.raises(UserError, match="No game of the seasons 2022 to fit"):
        fit_elo(games, [2022])


def test_games_out_of_order_are_refused(game):
    with pytest.raises(UserError, match="sort the file by date"):
        rate_games([game(2, "A", "B"), game(1, "A", "B")])
