"""What `evaluate` reports about answers: scores, errors with their reasons, failures counted, one model or two."""

import json

import numpy as np
import pytest

from finetune_utils.error_categories import CATEGORIES
from finetune_utils.evaluation_report import answer_part, format_evaluation

ASKED = [
    {"question": f"What is {term}?", "answer": f"It is {text}."}
    for term, text in (
        ("a rate", "one step of 0.5"),
        ("a mask", "what hides the prompt"),
        ("an epoch", "one pass over rows"),
    )
]
TUNED = ["it is one  step of 0.5.", "It is what hides hides hides the prompt.", None]
UNTUNED = ["Paris.", "", "Bread Bread Bread"]


def encode(texts):
    raw = np.array([[1.0, float(len(text))] for text in texts])
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


@pytest.fixture
def part():
    return answer_part({"untuned": UNTUNED, "tuned": TUNED}, ASKED, encode=encode)


def report(part):
    head = {"rows": 3, "data": "d.jsonl", "template": "chat", "training_known": True, "seen_rows": 0}
    return head | {"answers": part}


def test_scores_of_both_models_are_compared_with_intervals(part):
    assert (part["exact_match_untuned"], part["exact_match_tuned"]) == (0.0, 1 / 3)
    assert part["exact_match_change_low"] <= 1 / 3 <= part["exact_match_change_high"]
    assert part["scores"]["tuned"]["rouge_l"] > part["scores"]["untuned"]["rouge_l"]
    assert part["scores"].keys() == {"untuned", "tuned"}
    assert part["scores"]["tuned"].keys() == {"rouge_l", "similarity", "redirects"}
    names = [line["name"] for line in part["measures"]]
    assert names[:3] == ["exact match", "ROUGE-L", "similarity"]
    assert {f"errors: {category}" for category in CATEGORIES} <= set(names)
    assert all(line["low"] <= line["change"] <= line["high"] for line in part["measures"])
    json.dumps(part, allow_nan=False)


def test_every_answer_is_counted_with_those_that_never_came(part):
    assert part["errors"]["tuned"]["empty"] == part["errors"]["untuned"]["empty"] == 1
    assert part["errors"]["tuned"]["repetition"] == 1
    assert part["errors"]["tuned"]["any"] == 2
    assert part["errors"]["untuned"]["any"] == 3


def test_one_failure_of_each_kind_is_shown_with_its_reason(part):
    kinds = [failure["category"] for failure in part["failures"]]
    assert kinds == ["empty", "repetition"]
    assert part["failures"][1] == {
        "category": "repetition",
        "reason": 'says "hides" three times in a row',
        "question": "What is a mask?",
        "reference": "It is what hides the prompt.",
        "tuned": TUNED[1],
    }


def test_the_text_names_scores_errors_reasons_and_examples(part):
    text = format_evaluation(report(part))
    for words in (
        "Exact match on 3 unseen questions: untuned 0%, tuned 33%",
        "ROUGE-L ",
        "similarity ",
        "change [95 % interval]",
        "Rows like these show a change of",
        "Answers with errors, tuned: 2 of 3 (empty 1, repetition 1)",
        "none found does not mean that it is right",
        'repetition: says "hides" three times in a row',
        "  Tuned     (nothing)",
        "Answers to read:",
        "  Reference It is one step of 0.5.",
    ):
        assert words in text
    assert "errors: harmful" not in text  # neither model did
    assert "redirects" not in text


def test_one_model_alone_is_scored_too():
    part = answer_part({"tuned": TUNED}, ASKED)
    assert "measures" not in part
    assert part["scores"].keys() == {"tuned"}
    assert "similarity" not in part["scores"]["tuned"]
    text = format_evaluation(report(part))
    assert "tuned 33%" in text
    assert "rouge_l 0." in text
    assert "Answers with errors, tuned: 2 of 3" in text


def test_answers_to_one_question_have_no_interval():
    part = answer_part({"untuned": UNTUNED[:1], "tuned": TUNED[:1]}, ASKED[:1])
    assert "exact_match_change_low" not in part
    assert all(line["verdict"] == "too few groups" for line in part["measures"])
    assert "too few groups" in format_evaluation(report(part))


def test_a_model_without_a_flaw_shows_no_failures():
    part = answer_part({"tuned": [row["answer"] for row in ASKED]}, ASKED)
    assert part["failures"] == []
    assert "first answer of each kind" not in format_evaluation(report(part))
