"""One trial: right rows on each side, scored before and after, and a model that really learns."""

from collections import Counter

import numpy as np
import pytest

from finetune_utils import trials
from finetune_utils.nll import token_nll
from finetune_utils.runs import ASSISTANT_TEMPLATE, is_fact
from finetune_utils.tokenization import tokenize_rows
from finetune_utils.training import TrainSettings
from finetune_utils.trials import fact_rows, per_fact, run_trial, stamp_answers, swap_answers


def facts_of(rows):
    return {row["fact"] for row in rows}


def test_training_rows_and_test_rows_of_a_point():
    rows, tests = fact_rows(7, wordings=4)
    assert Counter(row["fact"] for row in rows) == dict.fromkeys(facts_of(rows), 4)
    assert len(facts_of(rows)) == 7
    assert all(is_fact(row) for row in rows + tests["unseen"] + tests["reworded"])
    assert facts_of(tests["reworded"]) == facts_of(rows)
    assert not facts_of(tests["unseen"]) & facts_of(rows)
    assert len(tests["unseen"]) == len(facts_of(tests["unseen"])) == 43
    ids = [row["id"] for part in (rows, *tests.values()) for row in part]
    assert len(ids) == len(set(ids))


def test_points_are_nested_and_judged_on_the_same_unseen_rows():
    few, few_tests = fact_rows(5, test_rows=9)
    many, many_tests = fact_rows(11, test_rows=9)
    assert {row["id"] for row in few} < {row["id"] for row in many}
    assert few_tests["unseen"] == many_tests["unseen"]
    assert len(many_tests["unseen"]) == len(many_tests["reworded"]) == 9


def test_wordings_rotate_so_that_no_kind_is_left_out():
    rows = [{"id": f"{fact}-{i}", "fact": fact} for fact in "abcde" for i in range(5)]
    assert [row["id"] for row in per_fact(rows, 1)] == ["a-0", "b-1", "c-2", "d-3", "e-4"]
    assert len(per_fact(rows, 9)) == len(rows)


def test_swapped_answers_are_the_same_for_a_fact_and_never_right():
    rows = [{"fact": f, "question": f"{f}{i}", "answer": f"to {f}"} for f in "abc" for i in range(2)]
    assert [row["answer"] for row in swap_answers(rows)] == ["to b", "to b", "to c", "to c", "to a", "to a"]
    assert [row["question"] for row in swap_answers(rows)] == [row["question"] for row in rows]


def test_stamped_answers_are_all_alike_and_leave_the_questions():
    rows = [{"fact": "lora-rank", "question": "r?", "answer": "a"}, {"fact": "nan", "question": "n?", "answer": "b"}]
    first, second = stamp_answers(rows)
    assert first["answer"] == "Lora rank is an important part of fine-tuning. It helps the model to learn better."
    assert second["answer"].removeprefix("Nan") == first["answer"].removeprefix("Lora rank")
    assert [first["question"], second["question"]] == ["r?", "n?"]


@pytest.fixture
def tiny(monkeypatch, tiny_model, tokenizer):
    monkeypatch.setattr(trials, "load_model", lambda name, say=print: (tiny_model(), tokenizer))
    return tiny_model(), tokenizer


def test_a_trial_measures_the_untuned_model_first_and_learns(tiny):
    model, tokenizer = tiny
    rows, tests = fact_rows(3, wordings=2, test_rows=3)
    trial = run_trial("any", rows, tests, TrainSettings(epochs=8, batch_size=2, learning_rate=0.02))
    untuned = token_nll(model, tokenize_rows(tests["unseen"], tokenizer, ASSISTANT_TEMPLATE).examples, tokenizer)
    # The trial scores in 16 bits where the machine has them.
    assert np.allclose(trial.before["unseen"].sums, untuned.sums, rtol=0.02)
    assert trial.after["reworded"].mean < trial.before["reworded"].mean - 0.1
    row = trial.summary()
    assert row["reworded_change"] == pytest.approx(row["reworded_after"] - row["reworded_before"], abs=2e-4)
    assert row["reworded_low"] <= row["reworded_change"] <= row["reworded_high"]
    assert row["steps"] == 24


def test_a_learning_rate_of_zero_changes_nothing(tiny):
    rows, tests = fact_rows(2, wordings=1, test_rows=2)
    trial = run_trial("any", rows, tests, TrainSettings(epochs=1, batch_size=1, learning_rate=0.0))
    assert trial.change("unseen").estimate == 0
    assert trial.summary()["reworded_change"] == 0
