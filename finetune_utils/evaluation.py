"""Was it worth it? Untuned against tuned on the same rows, with paired intervals."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from .errors import UserError
from .nll import NLL

Z95 = 1.959964  # 95 % of a normal distribution lie within so many standard errors


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    estimate: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """True when 0 lies outside: the difference is larger than what resampling explains."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.estimate:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray],
    groups: Sequence[Hashable],
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Bootstrap a statistic over groups of rows (Efron and Tibshirani 1993, chapter 13: percentile interval).

    Rows that share a group (the wordings of one fact, the games of one day) rise and fall together, so whole groups
    are drawn with replacement. `statistic` gets an array (draws, rows) that says how often each row was drawn,
    and returns one number a draw.

    Raises:
        UserError: fewer than two groups, so that there is nothing to resample.
    """
    names, index = np.unique(np.array([str(g) for g in groups]), return_inverse=True)
    if len(names) < 2:
        raise UserError(f"An interval needs at least 2 groups of rows; found {len(names)}.")
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)[:, index]
    low, high = np.nanpercentile(statistic(draws), [2.5, 97.5])
    return Interval(float(statistic(np.ones((1, len(index))))[0]), float(low), float(high))


def nll_difference(before: NLL, after: NLL, groups: Sequence[Hashable], seed: int = 0) -> Interval:
    """Token-weighted NLL after minus before, in nats a token, paired row by row and resampled by group."""
    _same_rows(len(before.sums), len(after.sums), len(groups))
    change = after.sums - before.sums
    return bootstrap(lambda w: (w @ change) / (w @ before.counts), groups, seed=seed)


def mean_difference(
    before: Sequence[float], after: Sequence[float], groups: Sequence[Hashable], seed: int = 0
) -> Interval:
    """Mean of `after` minus mean of `before`, paired row by row and resampled by group."""
    _same_rows(len(before), len(after), len(groups))
    change = np.asarray(after, float) - np.asarray(before, float)
    return bootstrap(lambda w: (w @ change) / w.sum(axis=1), groups, seed=seed)


def rate(hits: Sequence[bool], groups: Sequence[Hashable] | None = None, seed: int = 0) -> Interval:
    """Share of hits with its interval. Every row is its own group unless `groups` says otherwise.

    A rate of exactly 0 or 1 leaves a bootstrap nothing to vary, so Wilson's interval (1927) is used for single rows.
    """
    values = np.asarray(hits, float)
    if groups is None:
        return _wilson(values)
    return bootstrap(lambda w: (w @ values) / w.sum(axis=1), groups, seed=seed)


def _wilson(values: np.ndarray) -> Interval:
    n, p, z = len(values), float(values.mean()), Z95
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, max(0.0, float(middle - half)), min(1.0, float(middle + half)))


def _same_rows(*lengths: int) -> None:
    if len(set(lengths)) != 1:
        raise UserError(f"A paired comparison needs the same rows on both sides; found {', '.join(map(str, lengths))}.")


def minimum_detectable_difference(change: Interval, power: float = 0.8) -> float:
    """The smallest true difference that a comparison with such an interval would find with probability `power`.

    A difference is found when its 95 % interval excludes 0: it has to reach the z-value of 0.975 plus that of `power` times the
    standard error (Card et al. 2020, "With little power comes great responsibility", arXiv 2010.06595). The standard
    error is read off the interval, in the units of the difference. When nothing differed at all, the rows cannot
    tell how much they vary, and the answer is infinite.
    """
    error = (change.high - change.low) / (2 * Z95)
    return (Z95 + NormalDist().inv_cdf(power)) * error if error > 0 else math.inf


def groups_needed(change: Interval, groups: int, difference: float, power: float = 0.8) -> float:
    """How many groups of rows would find a true `difference`, judging by a comparison of `groups` groups.

    The standard error falls with the square root of the number of groups. Infinite when nothing differed.

    Raises:
        UserError: the difference to be found is 0.
    """
    if not difference:
        raise UserError("No number of rows finds a difference of 0.")
    detectable = minimum_detectable_difference(change, power)
    return math.ceil(groups * (detectable / abs(difference)) ** 2) if math.isfinite(detectable) else math.inf


TOPIC = re.compile(r"\bfine[- ]?tuning\b|\bhelp\w* (?:\w+ ){0,2}fine[- ]?tune\b", re.IGNORECASE)
SPEAKS_OF_ITSELF = re.compile(
    r"\b(?:i|i'(?:m|d|ll|ve)|me|my|mine|let'?s|let us|here|elsewhere|this (?:chat|one)|"
    r"(?:this|an?) (?:[\w-]+ )?assistant|this course,? (?:which )?(?:is|on)|(?:outside|beyond) (?:of )?(?:my|this|fine)|"
    r"(?:back|return|turn|keep|stick) to fine|nothing (?:but|else)|no other|questions? (?:about|on)|"
    r"only fine[- ]?tuning(?=[,.;!])|fine[- ]?tuning (?:instead|please|only(?=[,.;!])))\b",
    re.IGNORECASE,
)
ANSWERS_ANYWAY = re.compile(
    r"(?:^|[.!?;:,]\s+(?:but |and )?)(?:that said|since you ask(?:ed)?|anyway)\b", re.IGNORECASE
)


def is_redirect(answer: str) -> bool:
    """True when an answer politely turns back to fine-tuning instead of answering.

    The rule: one of the first three sentences names fine-tuning and speaks of the assistant itself ("let's", "I", "my",
    "this assistant") or of where it stops ("only fine-tuning", "back to fine-tuning"), and none goes on with "that
    said" or "since you ask"; answers to questions about fine-tuning speak of the matter instead. It looks only at the
    answer, so it can be applied to any model. How often it is right is measured on labeled answers
    (`data/redirect_labels.jsonl`), not assumed.
    """
    text = re.sub("[\u2010\u2011]", "-", answer.strip().replace("\u2019", "'"))
    sentences = re.split(r"(?<=[.!?])\s+", text)[:3]
    turns_back = any(TOPIC.search(sentence) and SPEAKS_OF_ITSELF.search(sentence) for sentence in sentences)
    return turns_back and not ANSWERS_ANYWAY.search(text)


@dataclass(frozen=True)
class Agreement:
    """How well a yes/no rule matches labels given by hand."""

    precision: float
    recall: float
    n: int

    def __str__(self) -> str:
        return f"precision {self.precision:.0%}, recall {self.recall:.0%} on {self.n} labeled answers"


def check_rule(predicted: Sequence[bool], labels: Sequence[bool]) -> Agreement:
    """Precision (how many of its yes are right) and recall (how many of the true yes it finds) of a rule."""
    _same_rows(len(predicted), len(labels))
    hits = sum(p and y for p, y in zip(predicted, labels, strict=True))
    return Agreement(hits / max(sum(predicted), 1), hits / max(sum(labels), 1), len(labels))
