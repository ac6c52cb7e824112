"""What lesson 05 says of its measures, without a model: which of them notice what, and how often intervals are wrong."""

import numpy as np
import pytest

from finetune_utils.comparison import compare, mark_answers
from finetune_utils.data import load_rows
from finetune_utils.evaluation import groups_needed, mean_difference, minimum_detectable_difference
from finetune_utils.ngrams import rouge_l, rouge_n
from finetune_utils.pairwise import Game, agreement, elo, verdict
from finetune_utils.scores import exact_match

COLD = "It is cold outside"


def test_only_scores_of_order_notice_shuffled_words():
    shuffled = "Outside cold is it"
    assert rouge_n(shuffled, COLD, 1).f1 == 1.0
    assert rouge_n(shuffled, COLD, 2).f1 == 0.0
    assert rouge_l(shuffled, COLD).f1 == 0.25


def test_a_not_costs_less_than_a_paraphrase():
    truth = "Ruth does drink coffee in the morning."
    denied = rouge_l("Ruth does not drink coffee in the morning.", truth).f1
    reworded = rouge_l("Her day starts with an espresso.", truth).f1
    assert denied > 0.9 > 0.1 > reworded
    assert reworded < rouge_l("The train leaves at nine.", truth).f1


def test_exact_match_knows_one_wording():
    reference = "LoRA freezes the weights."
    assert exact_match(["lora  freezes the weights.", "With LoRA, the weights stay frozen."], [reference] * 2) == [
        1.0,
        0.0,
    ]


def test_elo_depends_on_the_order_of_the_games():
    played = [Game(i, "tuned", "untuned", score) for i, score in enumerate((1, 1, 0))]
    assert elo(played[:1]) == {"tuned": 1008.0, "untuned": 992.0}
    assert elo(played)["tuned"] != pytest.approx(elo(played[::-1])["tuned"], abs=0.5)


def test_a_model_against_itself_shows_nothing_in_any_measure():
    redirects = ["I stick to fine-tuning, please.", "Let's keep to fine-tuning."]
    references = ["An adapter is small.", "Use rank 16.", *redirects]
    own = mark_answers(["q"] * 4, ["An adapter.", "Use rank 64.", None, "I stick to fine-tuning."], references)
    lines = compare(own, own, references, ["a", "b", "c", "d"])
    assert len(lines) > 10
    assert all(not line.change.excludes_zero and line.verdict == "no difference shown" for line in lines)


def test_a_coin_between_two_models_raises_few_false_alarms():
    """32 facts as in the lesson: a 95 % interval is wrong about once in twenty, a little more with few facts."""
    rng, facts = np.random.default_rng(3), list(range(32))
    change = rng.normal(0.05, 0.1, 32)
    alarms = [
        mean_difference([0.0] * 32, change * rng.choice([-1, 1], 32), facts, seed=i).excludes_zero for i in range(100)
    ]
    assert 0.01 < np.mean(alarms) < 0.13


def test_half_the_difference_needs_four_times_the_facts():
    change = mean_difference([0.0] * 40, np.random.default_rng(0).normal(0, 1, 40), range(40))
    found = minimum_detectable_difference(change)
    assert groups_needed(change, 40, found) == pytest.approx(40, abs=1)
    assert groups_needed(change, 40, found / 2) == pytest.approx(160, abs=1)


def test_on_traps_the_words_of_the_reference_win():
    """Word overlap alone loses most written pairs, and the lesson says that it does."""
    rows = [row for row in load_rows("quality_pairs") if row["id"].startswith("written")]
    scores = {side: [rouge_l(row[side], row["reference"]).f1 for row in rows] for side in "ab"}
    given = [verdict(a, b) for a, b in zip(scores["a"], scores["b"], strict=True)]
    found = agreement(given, [{"a": 1.0, "b": 0.0, "tie": 0.5}[row["better"]] for row in rows])
    assert found.share.high < 0.5
    assert found.kappa < 0
