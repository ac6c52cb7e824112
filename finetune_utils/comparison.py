"""The table of untuned against tuned: every measure on the same rows, each change with its paired interval."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .error_categories import CATEGORIES, Finding, find_errors, has_error
from .errors import UserError
from .evaluation import Interval, is_redirect, mean_difference, minimum_detectable_difference, nll_difference
from .ngrams import rouge_l
from .nll import NLL
from .scores import Encode, embedding_similarity, exact_match, paired


@dataclass(frozen=True)
class Marks:
    """What each answer of one model got, row by row. `similarity` is None without an encoder."""

    answers: list[str | None]
    exact: list[float]
    rouge_l: list[float]
    similarity: list[float] | None
    redirects: list[float]
    findings: list[list[Finding]]


@dataclass(frozen=True)
class Line:
    """One measure of both models on `rows` rows in `groups` groups.

    `change` is after minus before; None with fewer than two groups, where nothing can be resampled.
    """

    name: str
    before: float
    after: float
    change: Interval | None
    better: str
    rows: int
    groups: int

    @property
    def verdict(self) -> str:
        """`better` or `worse` when the interval excludes 0, else `no difference shown`."""
        if self.change is None or not self.change.excludes_zero:
            return "no difference shown" if self.change is not None else "too few groups"
        return "better" if (self.change.estimate > 0) == (self.better == "higher") else "worse"

    @property
    def detectable(self) -> float:
        """The smallest true change that rows like these would show four times in five (infinite when nothing varied)."""
        return minimum_detectable_difference(self.change) if self.change is not None else float("inf")

    def as_dict(self) -> dict[str, Any]:
        """The line as JSON takes it."""
        change = self.change
        ends = {"change": change.estimate, "low": change.low, "high": change.high} if change is not None else {}
        head = {"name": self.name, "before": self.before, "after": self.after}
        tail = {"detectable": self.detectable if math.isfinite(self.detectable) else None}
        return (
            head
            | ends
            | tail
            | {"verdict": self.verdict, "better": self.better, "rows": self.rows, "groups": self.groups}
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Line:
        """The line again, from what `as_dict` gave."""
        change = Interval(values["change"], values["low"], values["high"]) if "change" in values else None
        names = ("name", "before", "after", "better", "rows", "groups")
        return cls(change=change, **{name: values[name] for name in names})


def mark_answers(
    questions: Sequence[str],
    answers: Sequence[str | None],
    references: Sequence[str],
    known: Iterable[str] = frozenset(),
    encode: Encode | None = None,
) -> Marks:
    """Score every answer and look for errors in it. A missing answer (None) is an empty one and scores 0.

    Args:
        known: words spelled right (`spelling.known_words`); without them no misspelling is found.
        encode: sentence encoder for the similarity (`embeddings.load_encoder`); without one it is left out.

    Raises:
        UserError: numbers of rows that differ, no rows, or an empty reference.
    """
    if len(questions) != len(references):
        raise UserError(f"Found {len(questions)} questions and {len(references)} references: expected one for each.")
    words = frozenset(known)
    return Marks(
        answers=list(answers),
        exact=exact_match(answers, references),
        rouge_l=[rouge_l(said, wanted[0]).f1 for said, wanted in paired(answers, references)],
        similarity=None if encode is None else embedding_similarity(answers, references, encode),
        redirects=[float(is_redirect(said or "")) for said in answers],
        findings=[find_errors(*row, words) for row in zip(questions, answers, references, strict=True)],
    )


def compare(
    before: Marks,
    after: Marks,
    references: Sequence[str],
    groups: Sequence[Hashable],
    seed: int = 0,
) -> list[Line]:
    """Compare the answers of two models, measure by measure; intervals resample whole groups (facts).

    Redirects count as good on rows whose reference redirects and as bad on all others, in a line each.

    Raises:
        UserError: numbers of rows that differ.
    """

    def _line(
        name: str, old: Sequence[float], new: Sequence[float], better: str, rows: Sequence[int] | None = None
    ) -> Line:
        chosen = list(range(len(groups)) if rows is None else rows)
        a, b, marks = [old[i] for i in chosen], [new[i] for i in chosen], [groups[i] for i in chosen]
        count = len(set(marks))
        change = mean_difference(a, b, marks, seed) if count > 1 else None
        return Line(name, float(np.mean(a)), float(np.mean(b)), change, better, len(chosen), count)

    _check_rows(before, after, references, groups)
    lines = [_line("exact match", before.exact, after.exact, "higher"),
             _line("ROUGE-L", before.rouge_l, after.rouge_l, "higher")]  # fmt: skip
    if before.similarity is not None and after.similarity is not None:
        lines.append(_line("similarity", before.similarity, after.similarity, "higher"))
    wanted = [i for i, text in enumerate(references) if is_redirect(text)]
    others = [i for i in range(len(references)) if i not in set(wanted)]
    for name, rows, better in (
        ("redirects, off-topic rows", wanted, "higher"),
        ("redirects, other rows", others, "lower"),
    ):
        if rows:
            lines.append(_line(name, before.redirects, after.redirects, better, rows))
    for category in ("any", *CATEGORIES):
        old, new = has_error(before.findings, category), has_error(after.findings, category)
        lines.append(_line("errors of any kind" if category == "any" else f"errors: {category}", old, new, "lower"))
    return lines


def compare_nll(before: NLL, after: NLL, groups: Sequence[Hashable], seed: int = 0, name: str = "NLL") -> Line:
    """The line of the NLL, in nats a token; every token weighs the same."""
    count = len(set(groups))
    change = nll_difference(before, after, groups, seed) if count > 1 else None
    return Line(name, before.mean, after.mean, change, "lower", len(groups), count)


def format_lines(lines: Sequence[Line], before: str = "untuned", after: str = "tuned") -> str:
    """The table for a person: each measure, both models, the change with its 95 % interval, and what it shows."""
    width = max(len(line.name) for line in lines)
    out = [f"{'':<{width}}  {before:>8}  {after:>8}  {'change [95 % interval]':<25}  rows"]
    for line in lines:
        change = str(line.change) if line.change is not None else "-"
        out.append(
            f"{line.name:<{width}}  {line.before:8.3f}  {line.after:8.3f}  {change:<25}  {line.rows:>4}  {line.verdict}"
        )
    return "\n".join(out)


def _check_rows(before: Marks, after: Marks, references: Sequence[str], groups: Sequence[Hashable]) -> None:
    lengths = [len(before.answers), len(after.answers), len(references), len(groups)]
    if len(set(lengths)) != 1:
        raise UserError(f"A comparison needs the same rows on both sides; found {', '.join(map(str, lengths))}.")
