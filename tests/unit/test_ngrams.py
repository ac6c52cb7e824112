"""Counts worked out by hand, and equal to `rouge_score` and `sacrebleu` on the lesson's sentences and on random ones."""

import math
import random

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from finetune_utils.errors import UserError
from finetune_utils.ngrams import (
    Overlap,
    bleu,
    brevity_penalty,
    clipped_precision,
    lcs_length,
    ngrams,
    rouge_l,
    rouge_n,
    rouge_words,
    shared,
)

LESSON = [
    ("It is cold outside", "It is very cold outside"),
    ("It is very cold outside", "It is cold outside"),
    ("cold cold cold cold", "It is very cold outside"),
    ("He does not drink coffee", "He does drink coffee"),
    ("", "It is cold outside"),
    ("Outside, it's -3 °C: COLD!", "It is cold outside"),
]


def random_pairs(count=200, seed=5):
    """Texts over few words, so that runs repeat; some empty, some short, some with marks and capitals."""
    rng = random.Random(seed)
    words = ["cold", "it", "is", "outside", "very", "3", "The", "drink"]

    def text(shortest):
        return [rng.choice(words) for _ in range(rng.choice([shortest, 1, 2, 3, 4, 7, 12, 20]))]

    def changed(wanted):
        """The same words, some left out and some others put in, or another text altogether."""
        return [w for w in wanted if rng.random() > 0.1] + text(0)[:2] if rng.random() > 0.4 else text(0)

    wanted = [text(1) for _ in range(count)]
    return [(" ".join(changed(words)), " ".join(words)) for words in wanted]


def test_one_word_more_is_counted_by_hand():
    said, wanted = LESSON[0]
    assert rouge_n(said, wanted, 1) == Overlap(4 / 4, 4 / 5)
    assert rouge_n(said, wanted, 2) == Overlap(2 / 3, 2 / 4)  # "it is" and "cold outside", not "is cold"
    assert rouge_l(said, wanted) == Overlap(4 / 4, 4 / 5)
    assert rouge_n(said, wanted, 1).f1 == pytest.approx(8 / 9)
    assert rouge_n(said, wanted, 2).f1 == pytest.approx(4 / 7)


def test_a_word_repeated_earns_one_match():
    said, wanted = ["cold", "cold", "cold", "cold"], ["it", "is", "very", "cold", "outside"]
    assert shared(said, wanted, 1) == 1
    assert clipped_precision(said, [wanted], 1) == (1, 4)
    assert clipped_precision(said, [wanted, ["cold", "cold"]], 1) == (2, 4)  # the reference that has it most often


def test_a_negation_costs_rouge_next_to_nothing():
    assert rouge_l("He does not drink coffee", "He does drink coffee").f1 == pytest.approx(2 * 4 / 9)


def test_order_matters_to_the_subsequence_only():
    said, wanted = "outside cold is it", "it is cold outside"
    assert rouge_n(said, wanted, 1).f1 == 1.0
    assert rouge_l(said, wanted) == Overlap(1 / 4, 1 / 4)
    assert lcs_length(["a", "x", "b", "y", "c"], ["a", "b", "c"]) == 3
    assert lcs_length([], ["a"]) == lcs_length(["a"], []) == 0


def test_a_text_shorter_than_n_words_has_no_ngrams():
    assert ngrams(["cold"], 2) == {}
    assert rouge_n("cold", "cold", 2) == Overlap(0.0, 0.0)
    assert Overlap(0.0, 0.0).f1 == 0.0
    with pytest.raises(UserError, match="n is 0"):
        ngrams(["cold"], 0)


def test_the_brevity_penalty_is_worked_out_by_hand():
    assert brevity_penalty(5, 4) == brevity_penalty(4, 4) == 1.0
    assert brevity_penalty(4, 5) == pytest.approx(math.exp(-0.25))
    assert brevity_penalty(0, 5) == 0.0


@pytest.mark.parametrize("pairs", [LESSON, random_pairs()], ids=["lesson", "random"])
def test_rouge_equals_rouge_score(pairs):
    scorer = RougeScorer(["rouge1", "rouge2", "rouge3", "rougeL"])
    worst = 0.0
    for said, wanted in pairs:
        theirs = scorer.score(wanted, said)
        for name, ours in (
            ("rougeL", rouge_l(said, wanted)),
            *((f"rouge{n}", rouge_n(said, wanted, n)) for n in (1, 2, 3)),
        ):
            values = zip((ours.precision, ours.recall, ours.f1), theirs[name], strict=True)
            worst = max(worst, *(abs(a - b) for a, b in values))
    assert worst < 1e-9


@pytest.mark.parametrize("smooth", [True, False])
def test_bleu_equals_sacrebleu_row_by_row(smooth):
    nonzero = 0
    for said, wanted in LESSON[:5] + random_pairs():
        ours = bleu([said.split()], [[wanted.split()]], smooth=smooth)
        theirs = sacrebleu.corpus_bleu([said], [[wanted]], smooth_method="exp" if smooth else "none").score
        assert ours == pytest.approx(theirs, abs=1e-9)
        nonzero += ours > 0
    assert nonzero > 10


def test_bleu_equals_sacrebleu_on_a_set_with_several_references():
    pairs, others = random_pairs(), [wanted for _, wanted in random_pairs(seed=6)]
    said = [said for said, _ in pairs]
    streams = [[wanted for _, wanted in pairs], others]
    ours = bleu([s.split() for s in said], [[a.split(), b.split()] for a, b in zip(*streams, strict=True)])
    assert ours == pytest.approx(sacrebleu.corpus_bleu(said, streams).score, abs=1e-9)
    assert 5 < ours < 95


def test_bleu_of_equal_texts_is_100_and_of_nothing_0():
    words = ["it", "is", "very", "cold", "outside"]
    assert bleu([words], [[words]]) == pytest.approx(100)
    assert bleu([[]], [[words]]) == 0.0
    with pytest.raises(UserError, match="found 2 and 1"):
        bleu([words, words], [[words]])


def test_words_are_lower_case_letters_and_digits():
    assert rouge_words("Fine-tuning's 2nd café, 0.5!") == ["fine", "tuning", "s", "2nd", "caf", "0", "5"]
