"""Scores of answers against references, as plain functions over `rouge_score`, `sacrebleu` and scikit-learn.

Functions that judge texts row by row return one number a row, so that rows can be paired and resampled. An
answer that never came (`None`) counts as an empty text: a failure is scored, not skipped.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .errors import UserError

References = Sequence[str] | Sequence[Sequence[str]]
Encode = Callable[[Sequence[str]], np.ndarray]
ROUGE_TYPES = ("rouge1", "rouge2", "rougeL")


def paired(predictions: Sequence[str | None], references: References) -> list[tuple[str, list[str]]]:
    """Put every prediction beside the list of its references (one text, or several).

    Raises:
        UserError: no rows, different numbers of rows, or a row whose reference is missing or empty.
    """
    check_same_rows(predictions, references)
    pairs = []
    for number, (said, wanted) in enumerate(zip(predictions, references, strict=True), start=1):
        texts = [wanted] if isinstance(wanted, str) else list(wanted)
        if not texts or not all(text.strip() for text in texts):
            raise UserError(
                f"Row {number} of {len(predictions)} has an empty reference: there is nothing to compare with."
            )
        pairs.append((said or "", texts))
    return pairs


def check_same_rows(predictions: Sequence[Any], references: Sequence[Any]) -> None:
    """Guard a comparison.

    Raises:
        UserError: different numbers of rows, or none at all.
    """
    if len(predictions) != len(references):
        raise UserError(
            f"Found {len(predictions)} predictions and {len(references)} references: each needs its other half."
        )
    if not len(predictions):
        raise UserError("There is nothing to score: no predictions.")


def exact_match(predictions: Sequence[str | None], references: References) -> list[float]:
    """1.0 for every prediction that equals one of its references; letter case and runs of blanks do not count."""
    return [float(_fold(said) in map(_fold, wanted)) for said, wanted in paired(predictions, references)]


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())


def accuracy(predictions: Sequence[Any], references: Sequence[Any]) -> float:
    """Share of labels that are right."""
    check_same_rows(predictions, references)
    return float(_library("sklearn.metrics").accuracy_score(list(references), list(predictions)))


def macro_f1(predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any] | None = None) -> float:
    """Mean over the classes of their F1, so that a rare class weighs as much as a common one.

    Args:
        labels: the classes to average over; default: all that occur in predictions or references. A class
            that is never predicted right has F1 0.
    """
    check_same_rows(predictions, references)
    f1_score = _library("sklearn.metrics").f1_score
    return float(f1_score(list(references), list(predictions), labels=labels, average="macro", zero_division=0))


def rouge(predictions: Sequence[str | None], references: References) -> dict[str, list[float]]:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L, row by row, without stemming; the best of several references counts."""
    pairs = paired(predictions, references)
    scorer = _library("rouge_score.rouge_scorer").RougeScorer(list(ROUGE_TYPES))
    found = [scorer.score_multi(wanted, said) for said, wanted in pairs]
    return {name: [float(row[name].fmeasure) for row in found] for name in ROUGE_TYPES}


def bleu(predictions: Sequence[str | None], references: References) -> float:
    """Corpus BLEU, 0 to 100, with the settings of `sacrebleu` (13a words, `exp` smoothing).

    BLEU sums its counts over all rows, so that a mean of rows would be another number.
    """
    pairs = paired(predictions, references)
    most = max(len(wanted) for _, wanted in pairs)
    streams = [[wanted[i] if i < len(wanted) else None for _, wanted in pairs] for i in range(most)]
    return float(_library("sacrebleu").corpus_bleu([said for said, _ in pairs], streams).score)


def embedding_similarity(
    predictions: Sequence[str | None], references: References, encode: Encode | None = None
) -> list[float]:
    """Cosine between the sentence vectors of prediction and reference, row by row; the best of several counts.

    Args:
        encode: texts -> array (texts, width) of vectors of length 1; default: MiniLM from the course's cache. An
            empty prediction has no meaning to compare and scores 0.
    """
    pairs = paired(predictions, references)
    if encode is None:
        from .embeddings import default_encoder

        encode = default_encoder()
    texts = list(dict.fromkeys(text for said, wanted in pairs for text in (said, *wanted)))
    vectors = dict(zip(texts, np.asarray(encode(texts), float), strict=True))
    return [
        max(float(vectors[said] @ vectors[text]) for text in wanted) if said.strip() else 0.0 for said, wanted in pairs
    ]


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.split(".")[0].replace("sklearn", "scikit-learn").replace("_", "-")
        raise UserError(
            f"This score needs the package {package}, which is not installed: run `pip install {package}`."
        ) from error
