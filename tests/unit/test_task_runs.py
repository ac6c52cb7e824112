"""The mixed-training comparison on a tiny model: equal steps, shares that were asked for, rows that a lesson can show."""

import importlib.util
import json
from pathlib import Path

import pytest

from finetune_utils import studies, task_runs
from finetune_utils.multitask import LABELS, QUESTIONS, SENTIMENT, SUMMARIES, TASKS
from finetune_utils.task_runs import ONE_WORDING, PLANS, Plan, Runs, Sizes

ROOT = Path(__file__).resolve().parents[2]
SMALL = Sizes(steps=3, batch_size=2, rank=2, tests=dict.fromkeys(TASKS, 4), windows=4, max_new_tokens=2)


@pytest.fixture
def tokenizer(make_tokenizer):
    """The throwaway tokenizer with the three labels as single pieces, as they are in a real one."""
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(list(LABELS))
    return tokenizer


@pytest.fixture
def runs(monkeypatch, tiny_model, tokenizer):
    sizes = {"max_position_embeddings": 2048, "vocab_size": len(tokenizer)}
    model = lambda name, say=print: (tiny_model(**sizes), tokenizer)  # noqa: E731
    monkeypatch.setattr(task_runs, "load_model", model)
    return Runs("any", SMALL)


def test_every_plan_has_a_name_of_its_own_and_one_run_a_task_is_alone():
    assert len({plan.name for plan in PLANS}) == len(PLANS)
    assert [plan.tasks for plan in PLANS if len(plan.tasks) == 1] == [(SUMMARIES,), (QUESTIONS,), (SENTIMENT,)]
    assert sum(plan.tasks == TASKS for plan in PLANS) == 3


def test_a_run_gives_one_row_with_all_scores_and_what_it_cost(runs):
    row = runs.run(Plan("mixed, 3 x steps", TASKS, times=3))
    assert (row["steps"], row["rows"]) == (9, 18)
    assert row["trained"] == list(TASKS)
    assert [row[f"share_{name}"] for name in TASKS] == [0.3333] * 3
    assert row["tokens"] > 0
    for key in ("rouge_l", "question_nll", "accuracy", "neutral_nll"):
        assert row[f"{key}_change_low"] <= row[f"{key}_change"] <= row[f"{key}_change_high"]
    assert "new_wording" not in row  # asked of runs on sentiment alone


def test_a_run_on_sentiment_alone_is_asked_in_a_new_wording_too(runs):
    row = runs.run(Plan("sentiment only", (SENTIMENT,)))
    assert row["known_wording"] == row["accuracy"]
    assert 0 <= row["new_wording_low"] <= row["new_wording"] <= row["new_wording_high"] <= 1


def test_a_mix_by_size_gives_the_large_tasks_more(runs):
    _, _, shares = runs.train(Plan("by size", TASKS, temperature=1))
    assert shares[QUESTIONS] > shares[SENTIMENT] > shares[SUMMARIES]


def test_runs_are_compared_with_each_other_and_a_run_equals_itself(runs):
    runs.run(Plan("summaries only", (SUMMARIES,)))
    runs.run(Plan("again", (SUMMARIES,)))
    for change in runs.against("again", "summaries only").values():
        assert (change.low, change.estimate, change.high) == (0, 0, 0)


def test_one_wording_trains_on_one_wording(runs, monkeypatch):
    seen = []
    encode = task_runs.encode_task
    monkeypatch.setattr(task_runs, "encode_task", lambda rows, tok: seen.append(rows) or encode(rows, tok))
    row = runs.wordings_row()
    assert row["arm"] == ONE_WORDING.name
    assert len({question["question"].partition("\n\n")[0] for question in seen[0]}) == 1
    assert 0 <= row["known_wording"] <= 1


def test_the_study_stores_rows_and_values_that_prose_can_quote(monkeypatch, tiny_model, tokenizer, tmp_path):
    sizes = {"max_position_embeddings": 2048, "vocab_size": len(tokenizer)}
    model = lambda name, say=print: (tiny_model(**sizes), tokenizer)  # noqa: E731
    monkeypatch.setattr(task_runs, "load_model", model)
    spec = importlib.util.spec_from_file_location(
        "mixed_training", ROOT / "notebooks" / "studies" / "mixed_training.py"
    )
    study = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(study)
    stored, names = {}, ("name", "settings", "rows", "values")
    monkeypatch.setattr(study, "store_study", lambda *parts, **_: stored.update(zip(names, parts, strict=True)))
    study.main("any", SMALL)
    assert [row["arm"] for row in stored["rows"]] == ["untuned", *(plan.name for plan in PLANS), ONE_WORDING.name]
    values = json.loads(json.dumps(stored["values"], allow_nan=False))
    quoted = ("summaries_rouge_l", "mixed_accuracy_change_low", "long_vs_summaries", "by_size_vs_questions_high")
    for key in (*quoted, "one_new_wording"):
        assert isinstance(values[key], float), key
    assert stored["settings"]["steps"] == 3
    assert studies.study_path(stored["name"]).is_file()
