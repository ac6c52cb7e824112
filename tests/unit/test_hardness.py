"""Toy tasks: what can be known from them, and that width matters only where it should."""

import pytest
import torch

from finetune_utils.errors import UserError
from finetune_utils.hardness import FACTS, NUMBERS, toy_model, toy_point, toy_points, toy_rows


def pairs(rows):
    return {tuple(row[:2].tolist()) for row in rows}


def test_the_rule_is_tested_on_pairs_that_were_not_trained():
    train, test = toy_rows("rule")
    assert len(train) == FACTS
    assert len(pairs(train)) == FACTS
    assert not pairs(train) & pairs(test)
    assert len(train) + len(test) == NUMBERS**2
    assert all(answer == max(a, b) for a, b, _, answer in test.tolist())


def test_facts_are_recalled_and_follow_no_rule():
    train, test = toy_rows("facts")
    assert torch.equal(train, test)
    answers = train[:, 3]
    assert len(set(answers.tolist())) == NUMBERS
    assert (answers == train[:, :2].max(dim=1).values).float().mean() < 0.1
    assert not torch.equal(toy_rows("facts", seed=1)[0][:, 3], answers)


def test_the_form_has_one_answer():
    train, test = toy_rows("form")
    assert set(train[:, 3].tolist()) == set(test[:, 3].tolist()) == {7}
    with pytest.raises(UserError, match="no toy task 'magic': choose one of form, rule, facts"):
        toy_rows("magic")


def test_a_narrow_model_learns_the_form_in_a_few_steps():
    point = toy_point("form", width=4, steps=60)
    assert point["accuracy"] == 1.0
    assert point["weights"] == sum(p.numel() for p in toy_model(4).parameters())
    assert toy_point("form", width=4, steps=1)["accuracy"] < 1.0, "it was right before it was trained"


def test_a_run_repeats_and_another_seed_is_another_run():
    first = toy_point("rule", width=4, steps=5)
    assert toy_point("rule", width=4, steps=5) == first
    assert toy_point("rule", width=4, steps=5, seed=1)["accuracy"] != first["accuracy"]


def test_points_carry_the_spread_over_seeds():
    rows = toy_points(widths=(4,), tasks=("rule",), seeds=(0, 1), steps=5)
    each = [toy_point("rule", 4, 5, seed=seed)["accuracy"] for seed in (0, 1)]
    assert (rows[0]["low"], rows[0]["high"], rows[0]["seeds"]) == (min(each), max(each), 2)
    assert rows[0]["accuracy"] == pytest.approx(sum(each) / 2)
