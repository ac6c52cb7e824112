"""ROUGE and BLEU counted by hand: shared words, shared word pairs, the longest common subsequence."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import UserError

Words = Sequence[str]


@dataclass(frozen=True)
class Overlap:
    """How much of a prediction and of its reference the two have in common, each between 0 and 1.

    `precision` is the shared part of the prediction, `recall` the shared part of the reference.
    """

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 0 when nothing is shared."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def rouge_words(text: str) -> list[str]:
    """Cut a text into words the way `rouge_score` does: lower case, letters a-z and digits, all else is a border."""
    return re.findall(r"[a-z0-9]+", text.lower())


def ngrams(words: Words, n: int) -> Counter[tuple[str, ...]]:
    """Count the runs of `n` neighboring words. A text shorter than `n` words has none.

    Raises:
        UserError: `n` is below 1.
    """
    if n < 1:
        raise UserError(f"n is {n}: an n-gram has at least 1 word.")
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def shared(prediction: Words, reference: Words, n: int) -> int:
    """How many n-grams of the prediction the reference also has; each counts as often as the rarer side has it."""
    return (ngrams(prediction, n) & ngrams(reference, n)).total()


def rouge_n(prediction: str, reference: str, n: int) -> Overlap:
    """ROUGE-N (Lin 2004, "ROUGE: a package for automatic evaluation of summaries", section 2) of one pair of texts."""
    said, wanted = rouge_words(prediction), rouge_words(reference)
    common = shared(said, wanted, n)
    return Overlap(common / max(len(said) - n + 1, 1), common / max(len(wanted) - n + 1, 1))


def lcs_length(left: Words, right: Words) -> int:
    """Length of the longest common subsequence: words that stand in both in the same order, gaps allowed."""
    row = [0] * (len(right) + 1)
    for word in left:
        before = row
        row = [0]
        for i, other in enumerate(right, start=1):
            row.append(before[i - 1] + 1 if word == other else max(before[i], row[i - 1]))
    return row[-1]


def rouge_l(prediction: str, reference: str) -> Overlap:
    """ROUGE-L (Lin 2004, section 3.1) of one pair of texts."""
    said, wanted = rouge_words(prediction), rouge_words(reference)
    common = lcs_length(said, wanted)
    return Overlap(common / max(len(said), 1), common / max(len(wanted), 1))


def clipped_precision(prediction: Words, references: Sequence[Words], n: int) -> tuple[int, int]:
    """BLEU's clipped n-gram matches and the n-grams of the prediction: (matched, all).

    An n-gram of the prediction counts at most as often as it stands in the reference that has it most often, so that "cold
    cold cold cold" earns one match, not four.
    """
    most: Counter[tuple[str, ...]] = Counter()
    for reference in references:
        most |= ngrams(reference, n)
    said = ngrams(prediction, n)
    return (said & most).total(), said.total()


def brevity_penalty(predicted: int, wanted: int) -> float:
    """BLEU's factor below 1 for predictions of `predicted` words that are shorter than the `wanted` ones."""
    if predicted >= wanted:
        return 1.0
    return math.exp(1 - wanted / predicted) if predicted else 0.0


def bleu(
    predictions: Sequence[Words], references: Sequence[Sequence[Words]], max_n: int = 4, smooth: bool = True
) -> float:
    """BLEU (Papineni et al. 2002) of a set of predictions, between 0 and 100. Counts are summed over all rows first.

    Args:
        predictions: the words of each prediction.
        references: for each prediction, the words of each of its references.
        max_n: the longest n-gram that is counted.
        smooth: an n-gram length without a match counts as 1/2, the next such as 1/4 match, and so on (`exp`, the default
            of `sacrebleu`), as long as anything matches at all. Without it, one such length makes the score 0.

    Raises:
        UserError: the numbers of rows differ.
    """
    if len(predictions) != len(references):
        raise UserError(f"Every prediction needs its references: found {len(predictions)} and {len(references)}.")
    counts = [[clipped_precision(p, r, n) for p, r in zip(predictions, references, strict=True)]
              for n in range(1, max_n + 1)]  # fmt: skip
    matched = [sum(m for m, _ in rows) for rows in counts]
    said = [sum(a for _, a in rows) for rows in counts]
    if not any(matched) or 0 in said or (0 in matched and not smooth):
        return 0.0
    halvings = [sum(m == 0 for m in matched[: n + 1]) for n in range(max_n)]
    logs = [math.log((m or 0.5**h) / a) for m, a, h in zip(matched, said, halvings, strict=True)]
    length = sum(map(len, predictions))
    wanted = sum(_closest(len(p), list(map(len, r))) for p, r in zip(predictions, references, strict=True))
    return 100 * brevity_penalty(length, wanted) * math.exp(sum(logs) / max_n)


def _closest(length: int, lengths: Sequence[int]) -> int:
    """The reference length nearest to that of the prediction, the shorter of two equally near ones."""
    return min(lengths, key=lambda other: (abs(other - length), other))
