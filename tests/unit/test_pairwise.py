"""Ratings that can be worked out, verdicts by a stated rule, and a judge that minds the order."""

import numpy as np
import pytest

from finetune_utils.errors import UserError
from finetune_utils.pairwise import (
    Game,
    ModelVerdicts,
    agreement,
    closeness,
    elo,
    expected_score,
    judge_by_model,
    judge_by_rule,
    ratings,
    verdict,
)


def encode(texts):
    """Texts that begin alike point the same way."""
    raw = np.array([[1.0, float(text[:2] == "no")] for text in texts])
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def series(left, right, wins, losses, ties=0, start=0):
    scores = [1.0] * wins + [0.0] * losses + [0.5] * ties
    return [Game(start + i, left, right, score) for i, score in enumerate(scores)]


# --- the rule


def test_closeness_is_half_shared_words_and_half_similarity():
    found = closeness(["yes it is", "no it is", "", None], ["yes it is"] * 4, encode)
    assert found == pytest.approx([1.0, (2 / 3 + 0.5**0.5) / 2, 0.0, 0.0])


def test_the_closer_answer_wins_and_a_hair_is_a_tie():
    assert [verdict(a, b, 0.1) for a, b in ((0.9, 0.5), (0.5, 0.9), (0.5, 0.59))] == [1.0, 0.0, 0.5]


def test_every_two_systems_meet_on_every_row():
    answers = {"good": ["yes it is", "no"], "bad": ["no", "no"], "none": ["", None]}
    games = judge_by_rule(answers, ["yes it is", "no"], encode)
    assert len(games) == 3 * 2
    assert {(g.left, g.right) for g in games} == {("good", "bad"), ("good", "none"), ("bad", "none")}
    scores = {(g.row, g.left, g.right): g.score for g in games}
    assert (scores[0, "good", "bad"], scores[1, "good", "bad"], scores[1, "bad", "none"]) == (1.0, 0.5, 1.0)
    with pytest.raises(UserError, match="at least 2 systems; found 1"):
        judge_by_rule({"good": ["a"]}, ["a"], encode)
    with pytest.raises(UserError, match="Found 1 predictions and 2 references"):
        judge_by_rule({"good": ["a"], "bad": ["a"]}, ["a", "b"], encode)


# --- ratings


def test_two_systems_have_the_rating_of_their_share_of_wins():
    rated = ratings(series("new", "old", 75, 25))
    found = rated.levels
    ratio = 75.5 / 25.5  # each got half a win from the extra tie
    difference = found["new"].estimate - found["old"].estimate
    assert difference == pytest.approx(400 * np.log10(ratio), abs=0.01)
    assert found["new"].estimate + found["old"].estimate == pytest.approx(2000)
    assert expected_score(found["new"].estimate, found["old"].estimate) == pytest.approx(75.5 / 101)
    assert found["new"].low < found["new"].estimate < found["new"].high
    assert found["new"].low > found["old"].high
    gap = rated.gaps["new", "old"]
    assert gap.estimate == pytest.approx(difference)
    # Of two systems the one's gain is the other's loss, so the difference spreads twice as far as each of them.
    assert gap.high - gap.low == pytest.approx(2 * (found["new"].high - found["new"].low), rel=1e-6)


def test_ratings_of_three_systems_are_found_again():
    rng, true, games = np.random.default_rng(2), {"a": 1150.0, "b": 1000.0, "c": 850.0}, []
    for left, right in (("a", "b"), ("a", "c"), ("b", "c")):
        won = rng.random(400) < expected_score(true[left], true[right])
        games += [Game(row, left, right, float(w)) for row, w in enumerate(won)]
    found = ratings(games).levels
    for name, value in true.items():
        assert found[name].estimate == pytest.approx(value, abs=40)
        assert found[name].low - 5 < value < found[name].high + 5


def test_a_system_that_wins_every_game_has_a_finite_rating():
    found = ratings(series("all", "none", 20, 0)).levels
    assert found["all"].estimate - found["none"].estimate == pytest.approx(400 * np.log10(41), abs=0.01)


def test_equals_cannot_be_told_apart():
    rated = ratings(series("left", "right", 10, 10, ties=20))
    assert not rated.gaps["left", "right"].excludes_zero
    found = rated.levels
    assert found["left"].estimate == pytest.approx(1000)
    assert found["left"].low < 1000 < found["left"].high


def test_the_order_of_the_games_matters_to_elo_only():
    games = series("new", "old", 12, 12)
    backwards = games[::-1]
    one, other = (ratings(some).levels["new"].estimate for some in (games, backwards))
    assert one == pytest.approx(other)
    assert elo(games)["new"] < 1000 < elo(backwards)["new"]  # the last games weigh most
    one = elo(games[:1])
    assert one == {"new": 1008.0, "old": 992.0}


def test_rows_of_a_group_are_drawn_together():
    games = series("new", "old", 30, 10)
    by_fact, by_row = ratings(games, groups=[i // 5 for i in range(40)]).levels, ratings(games).levels
    assert by_fact["new"].high - by_fact["new"].low > 1.5 * (by_row["new"].high - by_row["new"].low)


def test_nothing_to_rate_is_said():
    with pytest.raises(UserError, match="no games"):
        ratings([])
    with pytest.raises(UserError, match="at least 2 groups"):
        ratings(series("a", "b", 1, 0))


# --- agreement with labels


def test_agreement_is_counted_by_hand():
    found = agreement([1, 1, 0, 0.5, 0], [1, 0, 0, 0.5, 0.5])
    assert (found.share.estimate, found.n, found.n_decided) == (0.6, 5, 3)
    assert found.decided == pytest.approx(2 / 3)
    chance = (2 * 1 + 2 * 2 + 1 * 2) / 25
    assert found.kappa == pytest.approx((0.6 - chance) / (1 - chance))
    assert str(found).startswith("agreement 60% on 5 labeled pairs (95 % interval ")


def test_a_judge_that_always_says_left_has_no_kappa():
    assert agreement([1] * 10, [1, 0] * 5).kappa == pytest.approx(0)
    assert agreement([1, 0], [1, 0]).kappa == 1.0


def test_labels_must_be_verdicts_and_as_many():
    with pytest.raises(UserError, match="found 2 and 1"):
        agreement([1, 0], [1])
    with pytest.raises(UserError, match="found 0 and 0"):
        agreement([], [])
    with pytest.raises(UserError, match="Found the verdict 'A'"):
        agreement([1], ["A"])


# --- a model as judge


def test_a_verdict_that_turns_with_the_order_is_a_tie_and_a_flip():
    judged = ModelVerdicts(np.array([1.0, 1.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.0, 1.0]))
    assert judged.verdicts == [1.0, 0.5, 0.0, 0.5]
    assert judged.flips.tolist() == [False, True, False, True]
    # Shown first: left, left, right, right; then right, right, left, left.
    assert judged.first_place == pytest.approx((1 + 1 + 0 + 0 + 0 + 1 + 1 + 0) / 8)


def test_a_judge_that_only_looks_at_the_place_flips_every_time(monkeypatch, tokenizer):
    monkeypatch.setattr(
        "finetune_utils.pairwise.first_token_scores",
        lambda model, tokenizer, prompts, letters: np.array([[-1.0, -2.0]] * len(prompts)),
    )
    judged = judge_by_model(None, tokenizer, ["Why?"] * 3, ["a", "b", "c"], ["d", "e", "f"])
    assert judged.flips.all()
    assert judged.verdicts == [0.5] * 3
    assert judged.first_place == 1.0


def test_a_judge_that_reads_is_believed(monkeypatch, tokenizer):
    def reads(model, tokenizer, prompts, letters):
        """Prefers the answer that says "mask", wherever it stands."""
        return np.array([[float(f"Answer {letter}: the mask" in prompt) for letter in letters] for prompt in prompts])

    monkeypatch.setattr("finetune_utils.pairwise.first_token_scores", reads)
    judged = judge_by_model(None, tokenizer, ["Why?"] * 2, ["the mask", "no"], ["no", "the mask"])
    assert judged.verdicts == [1.0, 0.0]
    assert not judged.flips.any()
    assert judged.first_place == 0.5


def test_a_real_model_gives_a_verdict_for_every_pair(tiny_model, tokenizer):
    judged = judge_by_model(tiny_model(), tokenizer, ["Why?", "How?"], ["The loss.", ""], ["One step.", "nan"])
    assert len(judged.verdicts) == 2
    assert set(judged.verdicts) <= {0.0, 0.5, 1.0}
    with pytest.raises(UserError, match="Found 1 questions, 2 and 1 answers"):
        judge_by_model(tiny_model(), tokenizer, ["Why?"], ["a", "b"], ["c"])


def test_agreement_without_a_decided_pair_prints_no_nan():
    said = str(agreement([0.5, 0.5], [1, 0]))
    assert "nan" not in said
    assert said.endswith("in every pair one side says tie")
