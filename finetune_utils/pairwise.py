"""Which system is better: comparisons in pairs, ratings with intervals, and a model as a second judge."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from .errors import UserError
from .evaluation import Interval, bootstrap, rate
from .multiple_choice import first_token_scores
from .ngrams import rouge_l
from .prompts import chat_prompt
from .scores import Encode, References, embedding_similarity, paired

MARGIN = 0.02  # closer than this is a tie
CENTER = 1000.0
SCALE = 400 / np.log(10)  # 400 points: ten wins for each loss
JUDGE_PROMPT = (
    "Question: {question}\n\nAnswer A: {a}\n\nAnswer B: {b}\n\nWhich answer is better, A or B? Reply with one letter."
)


@dataclass(frozen=True)
class Game:
    """One comparison on row `row`. `score` is 1 when `left` won, 0 when `right` won, 0.5 for a tie."""

    row: int
    left: str
    right: str
    score: float


def closeness(answers: Sequence[str | None], references: References, encode: Encode | None = None) -> np.ndarray:
    """How close each answer is to its reference: the mean of ROUGE-L (F1) and of the cosine of their sentence vectors.

    Shared words and shared meaning in equal parts: one sees that a number is missing, the other that the same was said in
    other words. Neither sees that a "not" is too many. Shape (rows,); an empty answer scores 0.
    """
    pairs = paired(answers, references)
    words = [max(rouge_l(said, text).f1 for text in wanted) for said, wanted in pairs]
    return (np.array(words) + np.array(embedding_similarity(answers, references, encode))) / 2


def verdict(left: float, right: float, margin: float = MARGIN) -> float:
    """The rule: the closer answer wins (1 left, 0 right); a difference of at most `margin` is a tie (0.5)."""
    return 0.5 if abs(left - right) <= margin else float(left > right)


def judge_by_rule(
    answers: Mapping[str, Sequence[str | None]],
    references: References,
    encode: Encode | None = None,
    margin: float = MARGIN,
) -> list[Game]:
    """Let every two systems meet on every row; the answer that is closer to the reference wins.

    Args:
        answers: name of a system -> its answers, all to the same questions in the same order.

    Raises:
        UserError: fewer than two systems, or numbers of rows that differ.
    """
    if len(answers) < 2:
        raise UserError(f"A comparison needs at least 2 systems; found {len(answers)}.")
    close = {name: closeness(given, references, encode) for name, given in answers.items()}
    return [
        Game(row, left, right, verdict(close[left][row], close[right][row], margin))
        for left, right in combinations(close, 2)
        for row in range(len(references))
    ]


@dataclass(frozen=True)
class Ratings:
    """Ratings of systems by name, and the difference of each two of them, all with 95 % intervals."""

    levels: dict[str, Interval]
    gaps: dict[tuple[str, str], Interval]


def ratings(games: Sequence[Game], groups: Sequence[Hashable] | None = None, seed: int = 0) -> Ratings:
    """Bradley-Terry strengths on the scale of Elo, mean 1000, with 95 % intervals (rows resampled by group).

    400 points more mean ten wins for each loss. A tie is half a win for both sides. Every two systems get one extra
    tie, so that a system that wins every game has a finite rating. Unlike Elo's own update, the result does not depend on
    the order of the games (Bradley and Terry 1952; fitted as in Hunter 2004, "MM algorithms"). The interval of a
    difference is that of the same draws, so it is narrower than two overlapping intervals suggest.

    Args:
        groups: the group of each row, such as its fact; default: each row for itself.

    Raises:
        UserError: no games, or fewer than two groups.
    """
    if not games:
        raise UserError("There are no games to rate.")
    names = list(dict.fromkeys(name for game in games for name in (game.left, game.right)))
    marks = [game.row if groups is None else groups[game.row] for game in games]
    wins = np.zeros((len(games), len(names), len(names)))
    for i, game in enumerate(games):
        left, right = names.index(game.left), names.index(game.right)
        wins[i, left, right], wins[i, right, left] = game.score, 1 - game.score
    flat = wins.reshape(len(games), -1)

    def _found(weights: Sequence[float]) -> Interval:
        def _draw(draws: np.ndarray) -> np.ndarray:
            return _strengths((draws.astype(float) @ flat).reshape(len(draws), len(names), len(names))) @ weights

        return bootstrap(_draw, marks, seed=seed)

    one = np.eye(len(names))
    gaps = {(a, b): _found(one[i] - one[j]) for i, a in enumerate(names) for j, b in enumerate(names) if i < j}
    return Ratings({name: _found(one[k]) for k, name in enumerate(names)}, gaps)


def _strengths(wins: np.ndarray, steps: int = 1000) -> np.ndarray:
    """Ratings (draws, systems) from `wins[d, i, j]`, how often i beat j in draw d."""
    wins = wins + 0.5 * (1 - np.eye(wins.shape[-1]))
    met, won = wins + wins.swapaxes(1, 2), wins.sum(axis=2)
    p = np.ones_like(won)
    for _ in range(steps):
        new = won / (met / (p[:, :, None] + p[:, None, :])).sum(axis=2)
        new /= np.exp(np.log(new).mean(axis=1, keepdims=True))
        done = np.abs(np.log(new / p)).max() < 1e-9
        p = new
        if done:
            break
    return CENTER + SCALE * np.log(p)


def expected_score(rating: float | np.ndarray, other: float | np.ndarray) -> float | np.ndarray:
    """The share of wins that two ratings predict for the first of them, between 0 and 1."""
    return 1 / (1 + 10 ** ((other - rating) / 400))


def elo(games: Sequence[Game], k: float = 16.0) -> dict[str, float]:
    """Elo's own update (1978), game after game from 1000: the winner takes `k` x (score - expected score) points.

    Recent games weigh more, so another order of the same games gives other ratings: `ratings` does without an order.
    """
    points: dict[str, float] = {}
    for game in games:
        left, right = points.setdefault(game.left, CENTER), points.setdefault(game.right, CENTER)
        change = k * (game.score - expected_score(left, right))
        points[game.left], points[game.right] = left + change, right - change
    return points


@dataclass(frozen=True)
class JudgeAgreement:
    """How well verdicts match labels given by hand.

    `share` counts equal verdicts with its interval; `kappa` (Cohen 1960) is 0 at the level of chance and 1 at the best;
    `decided` is the share of equal verdicts among the `n_decided` pairs where neither side says tie.
    """

    share: Interval
    kappa: float
    decided: float
    n_decided: int
    n: int

    def __str__(self) -> str:
        low, high = self.share.low, self.share.high
        decided = f"{self.decided:.0%} on the {self.n_decided} pairs that neither side calls a tie"
        return (
            f"agreement {self.share.estimate:.0%} on {self.n} labeled pairs (95 % interval {low:.0%} to {high:.0%}), "
            f"kappa {self.kappa:.2f}; {decided if self.n_decided else 'in every pair one side says tie'}"
        )


def agreement(verdicts: Sequence[float], labels: Sequence[float]) -> JudgeAgreement:
    """Compare verdicts with labels (1 left is better, 0 right is better, 0.5 tie), row by row.

    Raises:
        UserError: numbers of rows that differ, no rows, or a value that is none of the three.
    """
    if len(verdicts) != len(labels) or not len(labels):
        raise UserError(f"Agreement needs as many verdicts as labels; found {len(verdicts)} and {len(labels)}.")
    odd = next((v for v in (*verdicts, *labels) if v not in (0, 0.5, 1)), None)
    if odd is not None:
        raise UserError(f"Found the verdict {odd!r}; expected 1 (left is better), 0 (right is better) or 0.5 (tie).")
    given, wanted = np.asarray(verdicts, float), np.asarray(labels, float)
    same = given == wanted
    chance = sum(float((given == v).mean() * (wanted == v).mean()) for v in (0, 0.5, 1))
    clear = (given != 0.5) & (wanted != 0.5)
    kappa = (same.mean() - chance) / (1 - chance) if chance < 1 else 1.0
    decided = float(same[clear].mean()) if clear.any() else float("nan")
    return JudgeAgreement(rate(list(same)), float(kappa), decided, int(clear.sum()), len(labels))


@dataclass(frozen=True)
class ModelVerdicts:
    """What a model says about pairs of answers, each asked twice with the order swapped.

    `first` and `swapped` hold 1 where it preferred the left answer, in the order given and with the left answer shown
    second. `verdicts` calls a pair a tie when the two differ.
    """

    first: np.ndarray
    swapped: np.ndarray

    @property
    def verdicts(self) -> list[float]:
        """1, 0 or 0.5 a pair, as in `Game.score`."""
        return ((self.first + self.swapped) / 2).tolist()

    @property
    def flips(self) -> np.ndarray:
        """True where swapping the order turned the verdict."""
        return self.first != self.swapped

    @property
    def first_place(self) -> float:
        """Share of all verdicts for whatever stood first; 0.5 for a judge that does not mind the place."""
        return float(np.concatenate([self.first, 1 - self.swapped]).mean())


def judge_by_model(
    model: Any, tokenizer: Any, questions: Sequence[str], left: Sequence[str], right: Sequence[str]
) -> ModelVerdicts:
    """Ask a chat model which of two answers is better, by the likelihood of "A" against "B", in both orders.

    Nothing is generated, so every pair gets a verdict. A judge whose verdict depends on the place has none.

    Raises:
        UserError: numbers of rows that differ, no rows, or a tokenizer without a chat template.
    """
    if not len(questions) == len(left) == len(right) or not len(questions):
        raise UserError(
            f"Found {len(questions)} questions, {len(left)} and {len(right)} answers: expected equal numbers."
        )
    shown = [(q, a, b) for q, a, b in zip(questions, left, right, strict=True)]
    shown += [(q, b, a) for q, a, b in shown]
    prompts = [chat_prompt(tokenizer, JUDGE_PROMPT.format(question=q, a=a, b=b)) for q, a, b in shown]
    scores = first_token_scores(model, tokenizer, prompts, "AB")
    prefers_a = (scores[:, 0] > scores[:, 1]).astype(float)
    return ModelVerdicts(prefers_a[: len(questions)], 1 - prefers_a[len(questions) :])
