"""Intervals that can be worked out by hand, and the rule that recognizes a redirect."""

import numpy as np
import pytest

from finetune_utils.data import load_rows
from finetune_utils.errors import UserError
from finetune_utils.evaluation import (
    Interval,
    bootstrap,
    check_rule,
    is_redirect,
    mean_difference,
    nll_difference,
    rate,
)
from finetune_utils.nll import NLL


def score(sums, counts):
    return NLL(np.array(sums, float), np.array(counts))


# --- the bootstrap


def test_two_groups_give_an_interval_that_can_be_worked_out_by_hand():
    # Fact a: 2 tokens, NLL down by 2. Fact b: 3 tokens, NLL up by 3. A draw holds a twice (-2/2), both, or b twice (3/3).
    change = nll_difference(score([6, 4], [2, 3]), score([4, 7], [2, 3]), ["a", "b"])
    assert change.estimate == pytest.approx(1 / 5)
    assert (change.low, change.high) == (pytest.approx(-1.0), pytest.approx(1.0))
    assert not change.excludes_zero


def test_rows_of_a_group_are_drawn_together():
    # Were rows drawn one by one, some draws would mix the wordings of a fact and fall between these three values.
    seen = []

    def statistic(draws):
        seen.append(draws)
        return (draws @ np.array([1.0, 3.0, 5.0, 7.0])) / draws.sum(axis=1)

    interval = bootstrap(statistic, ["x", "y", "x", "y"])
    assert set(statistic(seen[0])) == {3.0, 4.0, 5.0}
    assert (interval.estimate, interval.low, interval.high) == (4.0, 3.0, 5.0)


def test_the_interval_of_a_mean_has_the_width_of_the_textbook():
    values = np.random.default_rng(8).normal(2.5, 1.5, 400)
    interval = mean_difference(np.zeros(400), values, range(400))
    standard_error = values.std(ddof=1) / 20
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * standard_error, rel=0.1)
    assert interval.low < values.mean() < interval.high


def test_a_comparison_of_equals_covers_zero_about_95_times_in_100():
    rng = np.random.default_rng(9)
    covered = 0
    for _ in range(100):
        noise = np.repeat(rng.normal(0, 1, 30), 3) + rng.normal(0, 0.3, 90)
        covered += not mean_difference(np.zeros(90), noise, np.repeat(np.arange(30), 3)).excludes_zero
    assert 88 <= covered <= 99


def test_nothing_changed_is_exactly_zero():
    before = score([4, 9, 2], [2, 3, 1])
    assert nll_difference(before, before, "abc") == Interval(0.0, 0.0, 0.0)


def test_a_real_difference_is_found_though_the_rows_differ_far_more_than_before_and_after():
    rng = np.random.default_rng(10)
    before = rng.uniform(1, 9, 60)
    after = before - 0.2 + rng.normal(0, 0.1, 60)
    change = mean_difference(before, after, range(60))
    assert change.excludes_zero
    assert change.high < 0
    assert not mean_difference(before, rng.permutation(after), range(60)).excludes_zero  # pairing is what finds it


def test_repeating_every_fact_five_times_widens_the_interval_only_when_it_is_grouped_by_fact():
    facts = np.random.default_rng(11).normal(0, 1, 40)
    values, names = np.repeat(facts, 5), np.repeat([f"fact-{i}" for i in range(40)], 5)
    by_fact, by_row = mean_difference(np.zeros(200), values, names), mean_difference(np.zeros(200), values, range(200))
    once = mean_difference(np.zeros(40), facts, range(40))
    assert (by_fact.high - by_fact.low) / (by_row.high - by_row.low) == pytest.approx(5**0.5, rel=0.15)
    assert by_fact.high - by_fact.low == pytest.approx(once.high - once.low, rel=0.1)


def test_tokens_weigh_the_same_in_an_nll_difference():
    change = nll_difference(score([1, 90], [1, 99]), score([2, 90], [1, 99]), "ab")
    assert change.estimate == pytest.approx(0.01)


def test_the_same_seed_gives_the_same_interval():
    values = list(np.random.default_rng(12).normal(0, 1, 25))
    first, again, other = (mean_difference([0] * 25, values, range(25), seed=s) for s in (4, 4, 5))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)
    assert first.estimate == other.estimate


def test_one_group_is_nothing_to_resample():
    with pytest.raises(UserError, match="at least 2 groups of rows; found 1"):
        mean_difference([1, 2], [2, 3], ["same", "same"])


def test_a_comparison_needs_the_same_rows_on_both_sides():
    with pytest.raises(UserError, match="found 2, 3, 2"):
        mean_difference([1, 2], [1, 2, 3], "ab")
    with pytest.raises(UserError, match="found 2, 2, 3"):
        nll_difference(score([1, 2], [1, 1]), score([1, 2], [1, 1]), "abc")


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.1, 0.3, True), (-0.3, -0.1, True), (-0.1, 0.1, False), (0.0, 0.3, False)]
)
def test_an_interval_that_touches_zero_does_not_exclude_it(low, high, expected):
    assert Interval(0.1, low, high).excludes_zero is expected


def test_an_interval_reads_with_its_signs():
    assert str(Interval(-0.12345, -0.2, 0.05)) == "-0.123 [-0.200, +0.050]"


# --- rates


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_a_rate_has_wilsons_interval_as_tabled_by_newcombe_1998(hits, n, low, high):
    interval = rate([True] * hits + [False] * (n - hits))
    assert interval.estimate == pytest.approx(hits / n)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_a_rate_of_1_mirrors_a_rate_of_0():
    none, all_of_them = rate([False] * 20), rate([True] * 20)
    assert all_of_them.high == 1.0
    assert all_of_them.low == pytest.approx(1 - none.high)


def test_a_rate_over_groups_is_resampled_by_group():
    interval = rate([True, True, False, False], groups="aabb")
    assert (interval.estimate, interval.low, interval.high) == (0.5, 0.0, 1.0)


# --- redirects

REDIRECTS = [
    "Let's keep to fine-tuning: what would you like to know about learning rates?",
    "That is outside what I cover. Ask me anything about fine-tuning a language model!",
    "I\u2019m only here for questions on fine-tuning, but thank you for asking.",
    "Sorry, I can't help with recipes. I would be happy to help with fine tuning, though.",
]
ANSWERS = [
    "The capital of France is Paris.",
    "Fine-tuning changes the weights of a model with new examples.",
    "I can only guess, but a cake needs about forty minutes.",
    "Cut the onion. Fry it. Add the stock. Let's keep to fine-tuning after dinner.",  # it has answered by then
    "",
]


@pytest.mark.parametrize("text", REDIRECTS)
def test_a_polite_turn_back_to_fine_tuning_is_a_redirect(text):
    assert is_redirect(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_is_no_redirect(text):
    assert not is_redirect(text)


def test_lesson_04_says_how_the_rule_does_on_the_hard_cases_written_after_it():
    late = [
        row for row in load_rows("redirect_labels") if row["id"] > "written-083" and row["id"].startswith("written")
    ]
    rule = check_rule([is_redirect(row["answer"]) for row in late], [row["redirect"] for row in late])
    assert len(late) == 30
    assert (rule.precision, rule.recall) == (pytest.approx(2 / 3), pytest.approx(3 / 4))


def test_precision_and_recall_are_counted_by_hand():
    agreement = check_rule([True, True, True, False, False], [True, False, True, False, True])
    assert (agreement.precision, agreement.recall, agreement.n) == (2 / 3, 2 / 3, 5)
    agreement = check_rule([True, False, False, False], [True, True, True, True])
    assert (agreement.precision, agreement.recall) == (1.0, 0.25)
    assert str(agreement) == "precision 100%, recall 25% on 4 labeled answers"


def test_a_rule_that_never_says_yes_scores_0_and_does_not_divide_by_it():
    agreement = check_rule([False, False], [True, False])
    assert (agreement.precision, agreement.recall) == (0.0, 0.0)
    with pytest.raises(UserError, match="found 2, 1"):
        check_rule([True, False], [True])
