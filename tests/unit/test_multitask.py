"""Several tasks: shares worked out by hand, batches of one task each, labels read by likelihood, paired changes."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from finetune_utils import multitask
from finetune_utils.batching import example_order
from finetune_utils.data import check_no_overlap
from finetune_utils.errors import UserError
from finetune_utils.evaluation import Interval
from finetune_utils.forgetting import text_windows
from finetune_utils.multitask import (
    LABELS,
    MOOD_WORDINGS,
    NEW_MOOD_WORDING,
    QUESTIONS,
    SENTIMENT,
    SUMMARIES,
    TASKS,
    TaskScores,
    board_row,
    deal_steps,
    encode_task,
    mix_batches,
    mood_rows,
    pick_labels,
    pick_tests,
    sampling_shares,
    score_tasks,
    task_changes,
    three_tasks,
)
from finetune_utils.nll import NLL
from finetune_utils.prompts import render_prompt
from finetune_utils.tokenization import mask_text

SIZES = {"a": 100, "b": 400}


@pytest.fixture
def tokenizer(make_tokenizer):
    """The throwaway tokenizer with the three labels as single pieces, as they are in a real one."""
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(list(LABELS))
    return tokenizer


@pytest.fixture(scope="module")
def tasks():
    return three_tasks()


def test_each_task_has_questions_and_answers_and_no_row_on_two_sides(tasks):
    assert tuple(tasks) == TASKS
    for name, task in tasks.items():
        assert all(row["question"] and row["answer"] for row in task.train + task.dev + task.test), name
        assert min(len(task.train), len(task.dev), len(task.test)) >= 20, name
        key = "fact" if name == QUESTIONS else "id"
        check_no_overlap({"train": task.train, "dev": task.dev, "test": task.test}, key)
    assert len(tasks[SENTIMENT].test) == 180
    assert {row["answer"] for row in tasks[SENTIMENT].test} == set(LABELS)
    assert not any("off-topic" in row["topic"] for row in tasks[QUESTIONS].train)


def test_every_wording_of_the_sentiment_task_offers_all_three_labels():
    for wording in (*MOOD_WORDINGS, NEW_MOOD_WORDING):
        assert all(label in wording.lower() for label in LABELS), wording
    assert NEW_MOOD_WORDING not in MOOD_WORDINGS


def test_wordings_take_turns_in_training_only(tasks):
    used = Counter(row["question"].partition("\n\n")[0] for row in tasks[SENTIMENT].train)
    assert used == dict.fromkeys(MOOD_WORDINGS, 80)
    assert {row["question"].partition("\n\n")[0] for row in tasks[SENTIMENT].test} == {MOOD_WORDINGS[0]}
    one = three_tasks(MOOD_WORDINGS[:1])[SENTIMENT].train
    assert [row["id"] for row in one] == [row["id"] for row in tasks[SENTIMENT].train]


@pytest.mark.parametrize(
    ("temperature", "limit", "wanted"),
    [
        (1, None, {"a": 0.2, "b": 0.8}),
        (2, None, {"a": 1 / 3, "b": 2 / 3}),  # square roots: 10 and 20
        (math.inf, None, {"a": 0.5, "b": 0.5}),
        (1, 100, {"a": 0.5, "b": 0.5}),
        (1, 300, {"a": 0.25, "b": 0.75}),
    ],
)
def test_shares_are_those_worked_out_by_hand(temperature, limit, wanted):
    assert sampling_shares(SIZES, temperature, limit) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ({}, {}, "at least one row"),
        ({"a": 3, "b": 0}, {}, "at least one row"),
        (SIZES, {"temperature": 0.5}, "temperature is 0.5"),
        (SIZES, {"temperature": math.nan}, "temperature is nan"),
        (SIZES, {"limit": 0}, "limit is 0"),
    ],
)
def test_shares_that_make_no_sense_are_refused(sizes, options, message):
    with pytest.raises(UserError, match=message):
        sampling_shares(sizes, **options)


@pytest.mark.parametrize(
    ("shares", "steps", "wanted"),
    [
        ({"a": 0.2, "b": 0.8}, 10, {"a": 2, "b": 8}),
        ({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, 50, {"a": 17, "b": 17, "c": 16}),
        ({"a": 0.09, "b": 0.91}, 5, {"a": 0, "b": 5}),
        ({"a": 1.0}, 7, {"a": 7}),
    ],
)
def test_whole_steps_add_up(shares, steps, wanted):
    assert deal_steps(shares, steps) == wanted


def rows_of(name, count, length):
    return [{"input_ids": [name] * length + [i], "labels": [-100] * length + [i]} for i in range(count)]


def test_every_batch_has_one_task_and_tasks_take_turns():
    examples = {"a": rows_of(1, 8, 3), "b": rows_of(2, 12, 5)}
    order = mix_batches(examples, {"a": 0.5, "b": 0.5}, steps=12, batch_size=4)
    batches = [[e["input_ids"][0] for e in order[i : i + 4]] for i in range(0, 48, 4)]
    assert len(order) == 48
    assert all(len(set(batch)) == 1 for batch in batches)
    names = [batch[0] for batch in batches]
    assert Counter(names) == {1: 6, 2: 6}
    assert names not in (sorted(names), sorted(names, reverse=True))
    seen = Counter(e["input_ids"][-1] for e in order if e["input_ids"][0] == 1)
    assert seen == dict.fromkeys(range(8), 3)  # a small task is repeated evenly
    assert order == mix_batches(examples, {"a": 0.5, "b": 0.5}, steps=12, batch_size=4)
    assert order != mix_batches(examples, {"a": 0.5, "b": 0.5}, steps=12, batch_size=4, seed=1)


def test_one_task_alone_keeps_the_order_of_train():
    rows = [row for length in (3, 9, 5) for row in rows_of(1, 8, length)]
    lengths = [len(row["input_ids"]) for row in rows]
    wanted = [rows[i] for i in example_order(lengths, 4, max_steps=9, seed=3)]
    assert mix_batches({"a": rows}, {"a": 1.0}, 9, 4, seed=3) == wanted


def test_a_label_is_picked_by_likelihood_whatever_stands_in_its_batch(tiny_model, tokenizer):
    model = tiny_model(max_position_embeddings=1024, vocab_size=len(tokenizer))
    questions = ["What now?", "A much longer question about a learning rate and its loss", "Why?"]
    labels = ("label", "weights", "rate")
    first = [tokenizer(label, add_special_tokens=False)["input_ids"][0] for label in labels]
    wanted = []
    for question in questions:
        ids = tokenizer(render_prompt({"question": question}, tokenizer, "bare-chat"), add_special_tokens=False)[
            "input_ids"
        ]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        wanted.append(labels[int(logits[first].argmax())])
    assert pick_labels(model, tokenizer, questions, labels) == wanted
    assert pick_labels(model, tokenizer, questions, labels, batch_tokens=1) == wanted
    flipped = pick_labels(model, tokenizer, questions, labels[::-1])
    assert flipped == wanted  # the order of the labels does not matter


def test_labels_that_begin_alike_are_refused(tiny_model, tokenizer):
    with pytest.raises(UserError, match="do not begin with different tokens"):
        pick_labels(tiny_model(), tokenizer, ["Why?"], ("rate", "rate"))


@pytest.fixture
def windows(tokenizer):
    return text_windows("# one\nThe first piece is short.\n# two\nThe second piece is longer.", tokenizer)


def scores(rouge_l, question, right, neutral):
    return TaskScores(rouge_l, NLL(question, question * 0 + 2), right, NLL(neutral, neutral * 0 + 4))


def test_changes_are_after_minus_before_in_the_units_of_each_test(windows):
    before = scores([0.25, 0.5], np.array([4.0, 6.0]), [True, False], np.array([8.0, 8.0]))
    after = scores([0.5, 0.5], np.array([2.0, 4.0]), [True, True], np.array([10.0, 10.0]))
    found = task_changes(before, after, windows)
    assert found["rouge_l"] == Interval(0.125, 0.0, 0.25)
    assert found["question_nll"].estimate == -1.0  # 2 nats less over 2 tokens, in each row
    assert found["accuracy"].estimate == 0.5
    assert found["neutral_nll"] == Interval(0.5, 0.5, 0.5)
    row = board_row("mine", after, before, windows)
    assert (row["arm"], row["rouge_l"], row["question_nll"], row["accuracy"], row["neutral_nll"]) == (
        "mine",
        0.5,
        1.5,
        1.0,
        2.5,
    )
    assert (row["neutral_nll_change_low"], row["accuracy_change"]) == (0.5, 0.5)


def test_one_model_is_scored_on_everything_and_own_texts_are_not_written_again(
    tiny_model, tokenizer, tasks, windows, monkeypatch
):
    model = tiny_model(max_position_embeddings=2048, vocab_size=len(tokenizer))
    tests = pick_tests(tasks, dict.fromkeys(TASKS, 3))
    assert {name: len(rows) for name, rows in tests.items()} == dict.fromkeys(TASKS, 3)
    found = score_tasks(model, tokenizer, tests, windows, max_new_tokens=2)
    assert len(found.rouge_l) == len(found.right) == len(found.questions.sums) == 3
    monkeypatch.setattr(multitask, "summarize", lambda *parts, **named: pytest.fail("the texts were there already"))
    again = score_tasks(model, tokenizer, tests, windows, texts=[row["summary"] for row in tests[SUMMARIES]])
    assert again.rouge_l == [1.0] * 3
    assert again.right == found.right


def test_of_every_task_only_the_answer_is_supervised(tasks, tokenizer):
    for name, task in tasks.items():
        for row, example in zip(task.train[:3], encode_task(task.train[:3], tokenizer), strict=True):
            trained = mask_text(example, tokenizer).partition("[[")[2]
            assert trained == f"{row['answer']}<|im_end|>]]", name


def test_a_post_keeps_its_label_and_loses_the_column_that_means_raw_text():
    (row,) = mood_rows([{"id": "p-1", "text": "Rain again.", "label": "neutral"}])
    assert row["question"] == f"{MOOD_WORDINGS[0]}\n\nRain again."
    assert (row["id"], row["post"], row["label"], row["answer"]) == ("p-1", "Rain again.", "neutral", "neutral")
    assert "text" not in row
