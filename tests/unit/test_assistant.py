"""The assistant's run as a function: what it saves, what the controls change, what it measures."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from finetune_utils import assistant, runs
from finetune_utils.assistant import (
    CONTROLS,
    save_small,
    score_assistant,
    shuffle_answers,
    train_assistant,
)
from finetune_utils.data import load_rows
from finetune_utils.lora import add_lora
from finetune_utils.nll import NLL
from finetune_utils.runs import (
    SITUATION,
    assistant_examples,
    course_rows,
    is_fact,
    is_off_topic,
    spread,
)
from finetune_utils.tokenization import count_supervised


@pytest.fixture
def tiny(monkeypatch, tiny_model, tokenizer):
    monkeypatch.setattr(assistant, "load_model", lambda name, say=print: (tiny_model(), tokenizer))


def test_rows_are_dealt_out_by_fact():
    rows = course_rows()
    parts = ("train", "dev", "unseen", "off_topic", "near_topic", "situation")
    facts = {name: {row["fact"] for row in getattr(rows, name)} for name in parts}
    for name, others in facts.items():
        assert others.isdisjoint(set().union(*(facts[other] for other in facts if other != name)))
    assert {row["fact"] for row in rows.reworded} <= facts["train"]
    assert {row["id"] for row in rows.reworded}.isdisjoint({row["id"] for row in rows.train})
    assert all(is_fact(row) for row in rows.unseen + rows.reworded)


def test_situation_rows_are_a_test_of_their_own_and_are_not_off_topic():
    rows = course_rows()
    every = [row for row in load_rows("course_qa") if row["topic"] == SITUATION]
    assert rows.situation == every
    assert not any(is_off_topic(row) or is_fact(row) for row in every)
    assert not any(row["topic"] == SITUATION for row in rows.train + rows.dev + rows.unseen + rows.reworded)


def test_no_other_part_depends_on_the_situation_rows(monkeypatch):
    before = course_rows()
    others = [row for row in load_rows("course_qa") if row["topic"] != SITUATION]
    invented = [{**others[0], "id": f"new-{i}-1", "fact": f"new-{i}", "topic": SITUATION} for i in range(20)]
    monkeypatch.setattr(runs, "load_rows", lambda name: invented + others)
    after = course_rows()
    for name in ("train", "dev", "unseen", "reworded", "off_topic", "near_topic"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.situation == invented


def test_fewer_training_facts_leave_the_tests_alone():
    few, all_facts = course_rows(train_facts=5), course_rows()
    assert few.unseen == all_facts.unseen
    assert few.off_topic == all_facts.off_topic
    assert len({row["fact"] for row in few.train if is_fact(row)}) == 5
    assert [r for r in few.train if is_off_topic(r)] == [r for r in all_facts.train if is_off_topic(r)]
    assert few.situation == all_facts.situation
    assert len(few.reworded) == 5
    fewer = course_rows(train_facts=5, train_off_topic=7)
    assert [r for r in fewer.train if is_fact(r)] == [r for r in few.train if is_fact(r)]
    assert len(fewer.train) == len([r for r in few.train if is_fact(r)]) + 7
    assert fewer.off_topic == all_facts.off_topic


def opened_and_whole(tokenizer, rows, **options):
    """The texts of the assistant's examples: openings first, whole answers second."""
    examples = assistant_examples(rows, tokenizer, **options)
    short = [count_supervised(e) == runs.ASSISTANT_OPENING for e in examples]
    texts = [tokenizer.decode(e["input_ids"]) for e in examples]
    return [t for t, s in zip(texts, short, strict=True) if s], [t for t, s in zip(texts, short, strict=True) if not s]


def test_openings_stand_beside_whole_answers_and_off_topic_ones_in_the_share_asked_for(tokenizer):
    rows = course_rows(train_facts=10, train_off_topic=40).train
    off = [row["question"] for row in rows if is_off_topic(row)]
    counts = []
    for share in (0.1, 0.9):
        opened, whole = opened_and_whole(tokenizer, rows, openings=share)
        assert len(whole) % runs.ASSISTANT_BATCH == 0
        batches = len(whole) // runs.ASSISTANT_BATCH
        later = batches - int(runs.ASSISTANT_ALONE * batches)
        assert len(opened) == runs.ASSISTANT_TURNS * later * runs.ASSISTANT_BATCH
        assert sum(any(q in text for q in off) for text in whole) <= round(0.2 * len(off))
        counts.append(sum(any(q in text for q in off) for text in opened))
    assert 0 < counts[0] < counts[1] / 4


def test_redirects_are_taught_one_way_to_open_and_urgent_help_stays_first(tokenizer):
    first, *others = runs.REDIRECT_OPENINGS
    answers = [f"{first}, please.", *(f"{opening}, please." for opening in others), "Call the emergency number now."]
    rows = [{"question": f"q{i}", "answer": answers[i % 4], "topic": "off-topic"} for i in range(40)]
    whole = opened_and_whole(tokenizer, rows, openings=1.0)[1]
    assert whole
    assert all(first in text for text in whole)
    start = tokenizer(first, add_special_tokens=False)["input_ids"][0]
    begun = [e["input_ids"][-1] for e in assistant_examples(rows, tokenizer, openings=1.0) if count_supervised(e) == 1]
    assert 0.5 < begun.count(start) / len(begun) < 1
    assert set(begun) == {start, tokenizer("Call", add_special_tokens=False)["input_ids"][0]}


def test_unused_off_topic_rows_are_those_that_no_example_shows(tokenizer):
    rows = course_rows(train_facts=5, train_off_topic=60).train
    unused = {row["question"] for row in runs.unused_off_topic(rows)}
    texts = "\n".join(sum(opened_and_whole(tokenizer, rows), []))
    off = {row["question"] for row in rows if is_off_topic(row)}
    assert 0 < len(unused) < len(off)
    assert not any(question in texts for question in unused)


def test_every_redirect_of_the_data_opens_in_a_known_way_or_sends_to_urgent_help():
    redirects = [row["answer"] for row in course_rows().train if is_off_topic(row)]
    other = [text for text in redirects if not text.startswith(runs.REDIRECT_OPENINGS)]
    assert len(other) <= 0.1 * len(redirects)


def test_spread_takes_rows_at_equal_distances():
    assert spread(list(range(10)), 4) == [0, 2, 5, 7]
    assert spread([1, 2], 5) == [1, 2]


def test_shuffled_answers_are_the_same_answers_elsewhere():
    rows = course_rows().train[:40]
    shuffled = shuffle_answers(rows, seed=3)
    assert [row["question"] for row in shuffled] == [row["question"] for row in rows]
    assert sorted(row["answer"] for row in shuffled) == sorted(row["answer"] for row in rows)
    moved = sum(a["answer"] != b["answer"] for a, b in zip(rows, shuffled, strict=True))
    assert moved > 30


def test_learning_rate_zero_changes_nothing_and_the_real_rate_does(tiny):
    frozen, tokenizer, rows = train_assistant("any", control="learning rate 0", limit=8)
    values = score_assistant(frozen, tokenizer, rows, limit=4)
    assert values["reworded_drop"] == pytest.approx(0, abs=1e-6)
    assert values["unseen_change"] == pytest.approx(0, abs=1e-6)
    tuned, tokenizer, rows = train_assistant("any", limit=16)
    values = score_assistant(tuned, tokenizer, rows, limit=4)
    assert abs(values["unseen_change"]) > 1e-4


def test_an_unknown_control_is_refused():
    with pytest.raises(ValueError, match=CONTROLS[1]):
        train_assistant(control="answers upside down")


def test_every_test_question_is_asked_once_and_its_answer_counted(monkeypatch, tiny):
    tuned, tokenizer, rows = train_assistant("any", control="learning rate 0", limit=8)
    lost = {row["question"] for row in (rows.unseen[2], *rows.reworded[4:6])}
    trapped = {rows.off_topic[1]["question"], rows.near_topic[0]["question"]}
    asked = []

    def _answer(model, tokenizer, questions, template, max_new_tokens, batch_size):
        asked.extend(questions)
        off = {row["question"] for row in rows.off_topic + rows.near_topic} - trapped
        return ["Let's keep to fine-tuning." if q in off | lost else f"Rank 16: {q}" for q in questions]

    monkeypatch.setattr(assistant, "answer", _answer)
    monkeypatch.setattr(assistant, "token_nll", lambda *given: NLL(np.ones(len(given[1])), np.ones(len(given[1]))))
    values = score_assistant(tuned, tokenizer, rows)
    on_topic = len(rows.unseen) + len(rows.reworded)
    assert len(asked) == on_topic + len(rows.off_topic + rows.near_topic + rows.situation)
    assert values["redirect_tuned"] == 1 - 1 / len(rows.off_topic)
    assert values["near_redirect_tuned"] == 1 - 1 / len(rows.near_topic)
    assert values["wrong_redirect_tuned"] == 3 / on_topic
    assert values["everyday_redirect_tuned"] == 0


def test_the_saved_adapter_is_small_portable_and_safe(tmp_path, tiny_model):
    tuned = add_lora(tiny_model(), rank=4)
    save_small(tuned, tmp_path, "some-model")
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "some-model"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
