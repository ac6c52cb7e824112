"""Scores with answers known beforehand, and one clear line for rows that cannot be scored."""

import sys

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from finetune_utils import scores
from finetune_utils.errors import UserError

SAID = ["It is  COLD outside", "It is warm", "", None]
WANTED = ["it is cold outside", "It is cold", "Yes.", "No."]


def fake_encode(texts):
    """A vector of two numbers: how often "cold" and how often "warm" stands in a text, at length 1."""
    raw = np.array([[text.count("cold") + 1e-9, text.count("warm") + 1e-9] for text in texts])
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def test_exact_match_ignores_case_and_blanks_and_counts_what_never_came():
    assert scores.exact_match(SAID, WANTED) == [1.0, 0.0, 0.0, 0.0]


def test_any_of_several_references_will_do():
    several = [["no", "it is cold outside"], ["it is hot", "it is WARM"], ["a", "b"], ["c"]]
    assert scores.exact_match(SAID, several) == [1.0, 1.0, 0.0, 0.0]
    one, best = scores.rouge(["a b c"], ["a b d"]), scores.rouge(["a b c"], [["x y", "a b d"]])
    assert one == best
    assert one["rouge1"] == [pytest.approx(2 / 3)]


def test_rouge_is_that_of_the_library_and_nothing_scores_0():
    ours = scores.rouge(SAID, WANTED)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for name, values in ours.items():
        assert values == [scorer.score(w, s or "")[name].fmeasure for s, w in zip(SAID, WANTED, strict=True)]
        assert values[2:] == [0.0, 0.0]


def test_bleu_takes_rows_with_different_numbers_of_references():
    words = "the tide comes in slowly at dawn"
    assert scores.bleu([words, words], [[words], ["quite another text", words]]) == pytest.approx(100)
    assert scores.bleu(["", words], [words, words]) < 100
    assert scores.bleu([None], [words]) == 0.0


def test_accuracy_and_macro_f1_are_counted_by_hand():
    said, wanted = ["a", "a", "b", "a"], ["a", "a", "b", "b"]
    assert scores.accuracy(said, wanted) == 0.75
    assert scores.macro_f1(said, wanted) == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert scores.macro_f1(["a", "junk"], ["a", "b"]) == pytest.approx(1 / 3)  # a, b and the class that does not exist
    assert scores.macro_f1(["a", "junk"], ["a", "b"], labels=["a", "b"]) == pytest.approx(1 / 2)


def test_similarity_is_the_cosine_and_an_empty_answer_scores_0():
    found = scores.embedding_similarity(["cold", "warm", "cold warm", ""], ["cold"] * 4, fake_encode)
    assert found == pytest.approx([1.0, 0.0, 0.5**0.5, 0.0], abs=1e-6)
    several = scores.embedding_similarity(["warm"], [["cold", "warm"]], fake_encode)
    assert several == pytest.approx([1.0])


def test_a_text_is_encoded_once():
    seen = []
    scores.embedding_similarity(
        ["cold", "cold"], ["warm", "warm"], lambda texts: seen.extend(texts) or fake_encode(texts)
    )
    assert sorted(seen) == ["cold", "warm"]


BY_ROW = [scores.exact_match, scores.rouge, scores.bleu, lambda s, w: scores.embedding_similarity(s, w, fake_encode)]


@pytest.mark.parametrize("score", [*BY_ROW, scores.accuracy, scores.macro_f1])
def test_unequal_lengths_and_no_rows_are_told_in_a_line(score):
    with pytest.raises(UserError, match="Found 2 predictions and 1 references"):
        score(["a", "b"], ["a"])
    with pytest.raises(UserError, match="nothing to score"):
        score([], [])


@pytest.mark.parametrize("score", BY_ROW)
@pytest.mark.parametrize("empty", ["", "  \n", [], ["a", ""]])
def test_an_empty_reference_is_named_by_its_row(score, empty):
    with pytest.raises(UserError, match="Row 2 of 2 has an empty reference"):
        score(["a", "b"], ["a", empty])


def test_a_missing_library_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(UserError, match="pip install scikit-learn"):
        scores.accuracy([1], [1])
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(UserError, match="pip install rouge-score"):
        scores.rouge(["a"], ["a"])
