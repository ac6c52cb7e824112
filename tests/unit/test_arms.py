"""Arms of a comparison: the same rows for all, each way trains what it says, and changes are against the untuned model."""

import dataclasses
import importlib.util
import json

import numpy as np
import pytest
import torch

from finetune_utils import arms
from finetune_utils.arms import Arm, Budget, Comparison, nll_level, pick_values, prepare, short_point
from finetune_utils.hardware import FP32
from finetune_utils.lora import add_soft_prompt
from finetune_utils.nll import NLL
from finetune_utils.results import ROOT, read_json
from finetune_utils.runs import ASSISTANT_TEMPLATE
from finetune_utils.tokenization import tokenize_rows

SMALL = Budget(facts=3, steps=3, rate_steps=1, rate_rows=4, test_rows=8, windows=6, questions=4)


@pytest.fixture
def comparison(monkeypatch, tiny_model, tokenizer):
    """Build a comparison of tiny models: `comparison(steps=5)`."""
    model = lambda name, say=print: (tiny_model(max_position_embeddings=2048), tokenizer)  # noqa: E731
    monkeypatch.setattr(arms, "load_model", model)

    def make(**changes):
        return Comparison("tiny", dataclasses.replace(SMALL, **changes))

    return make


def trainable(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_each_arm_makes_trainable_what_it_says(tiny_model):
    assert all(p.requires_grad for p in prepare(tiny_model(), Arm("full", (1e-3,))).parameters())
    lora = trainable(prepare(tiny_model(), Arm("lora", (1e-3,), 4)))
    assert lora
    assert all("lora_" in name for name in lora)
    dora = trainable(prepare(tiny_model(), Arm("dora", (1e-3,), 4, {"use_dora": True})))
    assert len(dora) == len(lora) * 3 // 2  # one magnitude vector for every A and B
    prompt = prepare(tiny_model(), Arm("prompt", (1e-3,), prompt_tokens=5))
    assert sum(p.numel() for p in prompt.parameters() if p.requires_grad) == 5 * 32


def test_no_training_row_is_about_a_fact_of_dev_or_unseen_rows(comparison):
    found = comparison(windows=0, questions=0)
    trained = {row["fact"] for row in found.rows}
    assert len(trained) == 3
    assert not trained & {row["fact"] for name in ("dev", "unseen") for row in found.tests[name]}
    assert trained >= {row["fact"] for row in found.tests["reworded"]}
    assert not {row["id"] for row in found.rows} & {row["id"] for row in found.tests["reworded"]}


def test_the_best_rate_on_dev_rows_is_taken(comparison):
    found = comparison(sets=("dev",), windows=0, questions=0)
    row = found.run(Arm("full", (0.0, 3e-2, 1e-2)))
    best = min(row["tried"], key=lambda trial: trial["dev_nll"])
    assert row["rate"] == best["rate"] > 0
    assert [trial["rate"] for trial in row["tried"]] == [0.0, 3e-2, 1e-2]
    assert row["steps"] == 3
    assert row["share"] == 1.0


def test_a_run_that_learns_nothing_changes_nothing(comparison):
    row = comparison().run(Arm("lora", (0.0,), 4))
    assert row["tried"] == []
    names = ("dev_change", "unseen_change", "reworded_change", "change", "mcq_change")
    assert [row[name] for name in names] == pytest.approx([0.0] * 5, abs=2e-3)  # merged or not, the rounding differs
    assert row["mcq_mdd"] <= 1.0


def test_a_run_that_learns_moves_the_trained_facts(comparison):
    row = comparison(steps=8).run(Arm("lora", (2e-2,), 4))
    assert row["reworded_change"] < row["reworded_change_high"] < 0
    assert row["reworded_low"] < row["reworded_nll"] < row["reworded_high"]


def test_the_untuned_row_has_the_scores_and_no_change(comparison):
    found = comparison()
    row = found.untuned_row()
    assert row["neutral_low"] < row["neutral_nll"] < row["neutral_high"]
    assert row["neutral_nll"] == pytest.approx(found.untuned.neutral.mean, abs=1e-4)
    assert row["change"] == row["change_low"] == row["change_high"] == 0
    assert (row["arm"], row["trainable"], row["seconds"]) == ("untuned", 0, 0)
    assert 0 < row["mcq_mdd"] <= 1


def test_two_arms_are_compared_row_by_row(comparison):
    found = comparison(questions=0)
    still, moved = found.run(Arm("still", (0.0,), 4)), found.run(Arm("moved", (2e-2,), 4))
    gap = found.against("moved", "still")
    assert gap["reworded_vs"] == pytest.approx(moved["reworded_nll"] - still["reworded_nll"], abs=2e-4)
    assert gap["neutral_vs"] == pytest.approx(moved["neutral_nll"] - still["neutral_nll"], abs=2e-4)
    assert gap["reworded_vs_low"] < gap["reworded_vs"] < gap["reworded_vs_high"]


def test_an_arm_of_lora_plus_uses_its_own_optimizer(comparison, monkeypatch):
    seen = []
    train = arms.train
    monkeypatch.setattr(
        arms, "train", lambda *a, optimizer, **k: seen.append(optimizer) or train(*a, optimizer=optimizer, **k)
    )
    found = comparison(sets=("dev",), windows=0, questions=0)
    found.run(Arm("lora", (1e-3,), 4))
    found.run(Arm("loraplus", (1e-3,), 4, ratio=16.0))
    assert seen[0] is None
    rates = {group["lr"] for group in seen[1](prepare(*_lora_model(found)), 1e-3).param_groups if group["params"]}
    assert rates == {1e-3, 16e-3}


def _lora_model(found):
    return arms.load_model("tiny")[0], Arm("lora", (1e-3,), 4)


def test_a_soft_prompt_is_scored_at_the_tokens_of_the_row(tiny_model, tokenizer):
    from finetune_utils.data import load_rows
    from finetune_utils.nll import token_nll

    examples = tokenize_rows(load_rows("course_qa")[:3], tokenizer, ASSISTANT_TEMPLATE).examples
    model = add_soft_prompt(tiny_model(max_position_embeddings=2048), tokens=6, precision=FP32)
    scored = token_nll(model, examples, tokenizer)
    for example, total in zip(examples, scored.sums, strict=True):
        ids, labels = torch.tensor([example["input_ids"]]), torch.tensor(example["labels"])
        words = model.word_embeddings(ids)
        whole = torch.cat([model.get_prompt(1).to(words.dtype), words], dim=1)
        logits = model.get_base_model()(inputs_embeds=whole).logits[0, 6:]  # without those of the prompt
        losses = torch.nn.functional.cross_entropy(logits[:-1], labels[1:], reduction="sum")
        assert total == pytest.approx(losses.item(), rel=1e-4)


def test_a_soft_prompt_learns_and_leaves_the_model_alone(comparison):
    found = comparison(steps=10, sets=("reworded",), windows=0, questions=0)
    row = found.run(Arm("prompt", (0.3,), prompt_tokens=8))
    assert row["reworded_change_high"] < 0
    assert row["trainable"] == 8 * 32


def test_a_short_point_is_the_same_twice(comparison):
    comparison()
    first = short_point("tiny", 4, 1e-2, steps=2, dev_rows=6)
    assert first == short_point("tiny", 4, 1e-2, steps=2, dev_rows=6)
    assert first["dev_after"] < first["dev_before"]


def test_the_level_has_an_interval_that_weighs_tokens():
    level = nll_level(NLL(np.array([2.0, 30.0]), np.array([1, 10])), ["a", "b"])
    assert level.estimate == pytest.approx(32 / 11)
    assert (level.low, level.high) == (2.0, 3.0)


def test_values_are_named_after_their_arm():
    rows = [{"arm": "lora", "rate": 1e-3, "memory": None}, {"arm": "full", "rate": 1e-4, "seconds": 3}]
    assert pick_values(rows, ("rate", "memory")) == {"lora_rate": 1e-3, "full_rate": 1e-4}


def test_the_sweep_stores_the_rows_of_the_study_of_forgetting_too(comparison, monkeypatch, tmp_path):
    comparison()
    from finetune_utils import studies

    folder = tmp_path / "notebooks" / "studies"
    folder.mkdir(parents=True)
    for name in ("rank_sweep", "forgetting"):
        (folder / f"{name}.py").write_bytes((ROOT / "notebooks" / "studies" / f"{name}.py").read_bytes())
    (tmp_path / "data").symlink_to(ROOT / "data")
    spec = importlib.util.spec_from_file_location("rank_sweep", folder / "rank_sweep.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    store = studies.store_study
    monkeypatch.setattr(module, "store_study", lambda *a, **k: store(*a, **k, root=tmp_path))
    module.main(**module.TINY)
    rows = read_json(folder / "forgetting.json")["rows"]
    assert [row["arm"] for row in rows] == ["untuned", "lora", "full"]
    needed = {"neutral_nll", "neutral_low", "neutral_high", "change", "change_low", "change_high", "mcq_accuracy",
              "mcq_low", "mcq_high", "mcq_mdd", "unseen_nll", "seconds", "trainable"}  # fmt: skip
    assert all(needed <= row.keys() for row in rows)
    points = read_json(folder / "rank_sweep.json")["rows"]
    assert [row["rank"] for row in points] == [2, 16, "full"]
    shared = next(row for row in points if row["rank"] == 16)
    assert {k: v for k, v in rows[1].items() if k != "arm"} == {k: v for k, v in shared.items() if k != "arm"}
    assert json.loads((folder / "rank_sweep.json").read_text())["values"]["short_rank"] == 16
