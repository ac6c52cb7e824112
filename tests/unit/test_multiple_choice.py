"""Choices by log-likelihood: equal to a forward pass by hand and to lm-evaluation-harness on the same task."""

import numpy as np
import pytest
import torch
import yaml

from finetune_utils import harness
from finetune_utils.errors import UserError
from finetune_utils.harness import harness_installed, harness_scores
from finetune_utils.multiple_choice import (
    ChoiceQuestion,
    ChoiceScores,
    encode_pair,
    first_token_scores,
    log_likelihoods,
    multiple_choice,
    question_context,
    read_choices,
)
from finetune_utils.prefix import shared_prefix

ROWS = [
    {"question": "What is a rate?", "choices": ["a step", "the weights", "a loss that is nan", "7"], "answer": 0},
    {"question": "Why is the loss", "choices": ["nan", "low", "an adapter", "too high; lower it"], "answer": "D"},
    {"question": "Which one hides the prompt?", "choices": ["the mask", "the answer", "é", "a while"], "answer": 0},
    {"question": "How far?", "choices": ["one", "one step moves the weights"], "answer": "one"},
    {"question": "Frozen or not?", "choices": ["not", "frozen", "half", "both"], "answer": 3},
]


def by_hand(model, ids, start):
    """Sum of the log-probabilities of ids[start:], one token after the other."""
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double().log_softmax(dim=-1)
    return sum(float(logits[i - 1, ids[i]]) for i in range(start, len(ids)))


def test_log_likelihoods_are_those_of_one_forward_pass_a_pair(tiny_model, tokenizer):
    model = tiny_model()
    pairs = [(question_context(r["question"]), " " + c) for r in ROWS for c in r["choices"]]
    found = log_likelihoods(model, tokenizer, pairs, batch_tokens=100)
    for (context, choice), value in zip(pairs, found, strict=True):
        start, ids = len(tokenizer.encode(context)), tokenizer.encode(context + choice)
        assert value == pytest.approx(by_hand(model, ids, start), abs=1e-4)
    assert len({round(float(v), 3) for v in found}) == len(found)


def test_only_the_choice_is_scored_and_blanks_before_it_belong_to_it(tokenizer):
    example = encode_pair(tokenizer, "Why? ", "nan")
    assert tokenizer.decode(example["input_ids"]) == "Why? nan"
    assert tokenizer.decode([x for x in example["labels"] if x != -100]) == " nan"


def test_an_empty_context_is_the_start_token(tokenizer, make_tokenizer):
    ids = tokenizer.encode("nan")
    assert encode_pair(tokenizer, "", "nan") == {"input_ids": [11, *ids], "labels": [-100, *ids]}
    assert encode_pair(make_tokenizer(bos_token=None), "", "nan")["input_ids"][0] == 13


def test_a_choice_without_a_token_is_refused(tokenizer):
    with pytest.raises(UserError, match="The choice '' has no token of its own"):
        encode_pair(tokenizer, "Why?", "")


def test_too_long_a_context_loses_its_beginning(tiny_model, tokenizer):
    model = tiny_model(max_position_embeddings=16)
    found = log_likelihoods(model, tokenizer, [("The loss is nan. " * 20 + "Why?", " nan")])
    ids = tokenizer.encode("The loss is nan. " * 20 + "Why? nan")[-16:]
    assert found[0] == pytest.approx(by_hand(model, ids, 16 - len(tokenizer.encode(" nan"))), abs=1e-4)


def test_acc_takes_the_largest_sum_and_acc_norm_the_largest_per_character():
    questions = [ChoiceQuestion("q", ("ab", "abcdefgh"), 1), ChoiceQuestion("q", ("ab", "cd"), 0)]
    scores = ChoiceScores(questions, [np.array([-3.0, -4.0]), np.array([-2.0, -2.0])])
    assert (scores.picked.tolist(), scores.picked_norm.tolist()) == ([0, 0], [1, 0])  # of equal ones the first
    assert (scores.acc, scores.acc_norm) == (0.5, 1.0)
    assert scores.right.tolist() == [0.0, 1.0]


def test_a_row_is_read_with_a_position_a_letter_or_the_text():
    choices = ["x", "y", "z"]
    for answer in (2, "C", "z"):
        assert read_choices({"question": "q", "choices": choices, "answer": answer}).answer == 2
    arc = {"question": "q", "choices": {"text": choices, "label": ["1", "2", "3"]}, "answerKey": "2"}
    assert read_choices(arc) == ChoiceQuestion("q", ("x", "y", "z"), 1)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"answer": 3}, "answer 3; expected a position from 0 to 2"),
        ({"answer": -1}, "answer -1"),
        ({"answer": True}, "answer True"),
        ({"answer": "D"}, "answer 'D'"),
        ({"choices": ["x"]}, "two or more different texts"),
        ({"choices": ["x", "x", "y"]}, "two or more different texts"),
        ({"choices": ["x", " "]}, "two or more different texts"),
        ({"choices": "xyz"}, "expected question"),
        ({"question": None}, "expected question"),
    ],
)
def test_a_row_that_is_no_question_is_named(change, found, tiny_model, tokenizer):
    good = {"question": "q", "choices": ["x", "y", "z"], "answer": 1}
    with pytest.raises(UserError, match=f"^rows:2: .*{found}"):
        multiple_choice(tiny_model(), tokenizer, [good, good | change])


def test_no_questions_are_nothing_to_score(tiny_model, tokenizer):
    with pytest.raises(UserError, match="no multiple-choice questions"):
        multiple_choice(tiny_model(), tokenizer, [])


def test_one_pass_ranks_choices_of_one_token_as_their_log_likelihoods_do(tiny_model, tokenizer):
    model = tiny_model(seed=2).train()
    prompts, letters = ["Why?", "A much longer question about the loss", "How much?"], ("A", "B", "C")
    scores = first_token_scores(model, tokenizer, prompts, letters)
    assert model.training
    model.eval()
    pairs = [(prompt, letter) for prompt in prompts for letter in letters]
    likely = log_likelihoods(model, tokenizer, pairs).reshape(3, 3)
    assert np.ptp(scores, axis=1).min() > 1e-3
    np.testing.assert_allclose(np.diff(scores), np.diff(likely), atol=1e-4)
    np.testing.assert_allclose(
        first_token_scores(model, tokenizer, prompts, letters, batch_tokens=1), scores, atol=1e-4
    )
    for refused in (("A", "A"), ("A", "")):
        with pytest.raises(UserError, match="do not begin with different tokens"):
            first_token_scores(model, tokenizer, prompts, refused)
    with pytest.raises(UserError, match="Prompt 2 of 2 is empty"):
        first_token_scores(model, tokenizer, ["Why?", ""], letters)


@pytest.mark.parametrize("window", [1024, 6])
def test_one_pass_reads_the_end_of_each_prompt_also_where_the_beginning_is_shared(tiny_model, tokenizer, window):
    model, letters = tiny_model(max_position_embeddings=window).eval(), ("A", "B")
    said = "The loss falls while the weights learn the label. " * 3
    prompts = [said + end for end in ("Why?", "How much is a learning rate?", "How far")]
    rows = [tokenizer(prompt, add_special_tokens=False)["input_ids"][-window:] for prompt in prompts]
    assert (shared_prefix(rows) is None) == (window == 6)
    first = [tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in letters]
    with torch.no_grad():
        by_hand = [model(torch.tensor([row])).logits[0, -1, first].numpy() for row in rows]
    np.testing.assert_allclose(first_token_scores(model, tokenizer, prompts, letters), by_hand, atol=1e-4)
    assert np.ptp(by_hand) > 1e-3


@pytest.mark.skipif(not harness_installed(), reason="lm_eval is not installed (the extra `eval`)")
def test_scores_equal_those_of_lm_evaluation_harness(tiny_model, tokenizer):
    model = tiny_model(seed=4)
    rows = [{**row, "question": f"{row['question']} {'Why? ' * (i % 4)}{i}"} for i, row in enumerate(ROWS * 3)]
    theirs = harness_scores(model, tokenizer, rows, batch_size=4)
    ours = multiple_choice(model, tokenizer, rows)
    assert len(theirs.log_likelihoods) == len(rows)
    for expected, scores in zip(theirs.log_likelihoods, ours.log_likelihoods, strict=True):
        np.testing.assert_allclose(expected, scores, atol=1e-3)
    assert theirs.right == ours.right.tolist()
    assert theirs.right_norm == ours.right_norm.tolist()
    assert (theirs.acc, theirs.acc_norm) == (pytest.approx(ours.acc), pytest.approx(ours.acc_norm))
    assert 0 < ours.acc < 1
    assert ours.right.tolist() != ours.right_norm.tolist()


def test_without_the_harness_one_line_says_what_to_install(tiny_model, tokenizer, monkeypatch):
    monkeypatch.setattr(harness, "harness_installed", lambda: False)
    with pytest.raises(UserError, match="not installed: run `pip install"):
        harness_scores(tiny_model(), tokenizer, ROWS)


def test_the_task_of_the_harness_asks_what_the_course_asks(tokenizer):
    """The template of the task and `question_context` must not drift apart."""
    task = yaml.safe_load(harness.TASK.format(folder="here"))
    assert task["doc_to_text"].replace("{{question}}", "Why?") == question_context("Why?")
    assert task["dataset_kwargs"]["data_files"]["test"] == "here/rows.jsonl"
