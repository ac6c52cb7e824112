"""Scores of a classifier: accuracy, F1 of each class, macro-F1, the confusion matrix, and intervals for them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import UserError
from .evaluation import Interval, bootstrap


@dataclass(frozen=True)
class ClassScore:
    """How one class fared: precision, recall and F1 lie between 0 and 1; `rows` is how many texts belong to it."""

    precision: float
    recall: float
    f1: float
    rows: int


def confusion(truth: Sequence[int], predicted: Sequence[int], classes: int) -> np.ndarray:
    """Counts (classes, classes): row i, column j is how many texts of class i were taken for class j.

    Raises:
        UserError: different numbers of rows, none at all, or a class that is none of `classes`.
    """
    pair = _pairs(truth, predicted, classes)
    return np.bincount(pair, minlength=classes * classes).reshape(classes, classes)


def class_scores_of(truth: Sequence[int], predicted: Sequence[int], classes: int) -> list[ClassScore]:
    """Precision, recall and F1 of every class. What would be 0 divided by 0 is 0, as in scikit-learn."""
    counts = confusion(truth, predicted, classes)
    found = []
    for i in range(classes):
        hit, said, there = (int(n) for n in (counts[i, i], counts[:, i].sum(), counts[i].sum()))
        found.append(ClassScore(hit / max(said, 1), hit / max(there, 1), 2 * hit / max(said + there, 1), there))
    return found


def macro_f1(truth: Sequence[int], predicted: Sequence[int], classes: int) -> float:
    """Mean F1 of the classes: every class counts the same, however rare it is."""
    return float(_macro_f1(confusion(truth, predicted, classes)[None])[0])


def macro_f1_interval(
    truth: Sequence[int],
    predicted: Sequence[int],
    classes: int,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Interval:
    """Macro-F1 with its 95 % bootstrap interval; every row is its own group unless `groups` says otherwise."""
    pair = _pairs(truth, predicted, classes)
    rows = range(len(pair)) if groups is None else groups
    return bootstrap(lambda drawn: _weighted(drawn, pair, classes), rows, seed=seed)


def macro_f1_difference(
    truth: Sequence[int],
    before: Sequence[int],
    after: Sequence[int],
    classes: int,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Interval:
    """Macro-F1 of `after` minus that of `before` on the same rows, with its 95 % bootstrap interval.

    Both are scored on the same draws, so what is hard for both drops out.
    """
    one, two = _pairs(truth, before, classes), _pairs(truth, after, classes)
    rows = range(len(one)) if groups is None else groups
    return bootstrap(lambda drawn: _weighted(drawn, two, classes) - _weighted(drawn, one, classes), rows, seed=seed)


def _pairs(truth: Sequence[int], predicted: Sequence[int], classes: int) -> np.ndarray:
    """One number a row: truth x classes + prediction."""
    one, two = np.asarray(truth), np.asarray(predicted)
    if len(one) != len(two) or not len(one):
        raise UserError(f"Found {len(one)} labels and {len(two)} predictions: expected one of each for every row.")
    if min(one.min(), two.min()) < 0 or max(one.max(), two.max()) >= classes:
        raise UserError(f"A label or prediction is none of the {classes} classes, which count from 0.")
    return one * classes + two


def _weighted(drawn: np.ndarray, pair: np.ndarray, classes: int) -> np.ndarray:
    """Macro-F1 of every draw; `drawn`: (draws, rows), how often each row was drawn."""
    cell = np.eye(classes * classes)[pair]
    return _macro_f1((drawn @ cell).reshape(-1, classes, classes))


def _macro_f1(counts: np.ndarray) -> np.ndarray:
    """(sets, classes, classes) -> (sets,). F1 is twice the hits over what was said plus what was there."""
    hits = np.einsum("nii->ni", counts)
    return (2 * hits / np.maximum(counts.sum(axis=1) + counts.sum(axis=2), 1)).mean(axis=1)
