"""The JSON answer: its text, and a strict parser that names what is wrong."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UserError

# What an answer calls its estimate, and between which ends it must lie.
FIELDS = {"win": ("probability", 0.0, 1.0), "margin": ("margin", -100.0, 100.0), "next_ten": ("share", 0.0, 1.0)}
INTERVAL = "confidence_interval"
# What an invalid answer counts as: no opinion.
FALLBACK = {"win": 0.5, "margin": 0.0, "next_ten": 0.5}


class BadAnswer(UserError):
    """An answer that is not the JSON that was asked for. Its text says what is wrong."""


@dataclass(frozen=True)
class Answer:
    """A stated estimate with its interval: 0 <= low <= estimate <= high <= 1 for a probability or a share."""

    estimate: float
    low: float
    high: float


def answer_text(estimate: float, interval: Sequence[float], kind: str = "win") -> str:
    """The answer a model is taught: `{"probability": 0.62, "confidence_interval": [0.48, 0.74]}`.

    Raises:
        UserError: an unknown kind, or numbers that `parse_answer` would refuse.
    """
    name, _, _ = _field(kind)
    digits = 0 if kind == "margin" else 2
    number, low, high = (f"{value:.{digits}f}".replace("-0", "0") if round(value, digits) == 0
                         else f"{value:.{digits}f}" for value in (estimate, *interval))  # fmt: skip
    text = f'{{"{name}": {number}, "{INTERVAL}": [{low}, {high}]}}'
    parse_answer(text, kind)
    return text


def row_answer(row: Mapping[str, Any]) -> str:
    """The answer of a question row: its estimate and interval."""
    return answer_text(row["estimate"], row[INTERVAL], row["kind"])


def parse_answer(text: str, kind: str = "win") -> Answer:
    """Read one answer. Nothing is repaired: the whole text must be the one JSON object that was asked for.

    Raises:
        BadAnswer: names the first thing that is wrong.
    """
    name, lowest, highest = _field(kind)
    try:
        value = json.loads(text, object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        what = "text after the JSON object" if error.msg == "Extra data" else f"not JSON ({error.msg.lower()})"
        raise BadAnswer(f"{what}, at character {error.pos + 1}") from None
    except RecursionError:
        raise BadAnswer("not JSON (nested too deeply)") from None
    except ValueError as error:  # a number of thousands of digits
        raise error if isinstance(error, BadAnswer) else BadAnswer(f"not JSON ({error})") from None
    if not isinstance(value, dict):
        raise BadAnswer(f"{_kind_of(value)} where an object should stand")
    for key in (name, INTERVAL):
        if key not in value:
            raise BadAnswer(f'the field "{key}" is missing')
    for key in value:
        if key not in (name, INTERVAL):
            raise BadAnswer(f'the field "{key[:40]}" was not asked for')
    ends = value[INTERVAL]
    if not isinstance(ends, list) or len(ends) != 2:
        found = f"a list of {len(ends)}" if isinstance(ends, list) else _kind_of(ends)
        raise BadAnswer(f'"{INTERVAL}" is {found} where two numbers should stand')
    estimate = _number(value[name], f'"{name}"', lowest, highest)
    low, high = (_number(end, f'an end of "{INTERVAL}"', lowest, highest) for end in ends)
    if low > high:
        raise BadAnswer(f"the interval's ends are swapped: {low:g} and {high:g}")
    if not low <= estimate <= high:
        raise BadAnswer(f"{name} {estimate:g} lies outside its own interval [{low:g}, {high:g}]")
    return Answer(estimate, low, high)


@dataclass(frozen=True)
class Reading:
    """What many answers said.

    Attributes:
        estimates: one a text; an invalid answer counts as "no opinion" (a probability of 0.5) and is never dropped.
        answers: the parsed answers, None where invalid.
        problems: (number of the text, from 0; what is wrong), one for each invalid answer.
    """

    estimates: list[float]
    answers: list[Answer | None]
    problems: list[tuple[int, str]]

    @property
    def valid_share(self) -> float:
        """Share of valid answers; 0 when there are none at all."""
        return 1 - len(self.problems) / len(self.answers) if self.answers else 0.0


def read_answers(texts: Sequence[str], kind: str = "win") -> Reading:
    """Parse every text of a batch of answers."""
    answers: list[Answer | None] = []
    problems = []
    for i, text in enumerate(texts):
        try:
            answers.append(parse_answer(text, kind))
        except BadAnswer as error:
            answers.append(None)
            problems.append((i, str(error)))
    return Reading([FALLBACK[kind] if a is None else a.estimate for a in answers], answers, problems)


def read_starts(texts: Sequence[str], kind: str = "win") -> list[float]:
    """The estimates of answers that were cut off early: `{"margin": -7, "conf` says -7, and what follows is not checked.

    The comma after the number must be there, or the number itself may be cut. An answer that begins otherwise, or with a
    number out of range, counts as "no opinion".
    """
    name, lowest, highest = _field(kind)
    start = re.compile(rf'\{{"{name}": (-?\d+(?:\.\d+)?),')
    found = [start.match(text) for text in texts]
    numbers = [float(match[1]) if match else FALLBACK[kind] for match in found]
    return [number if lowest <= number <= highest else FALLBACK[kind] for number in numbers]


def _field(kind: str) -> tuple[str, float, float]:
    if kind not in FIELDS:
        raise UserError(f"Unknown kind of question {kind!r}: choose one of {', '.join(FIELDS)}.")
    return FIELDS[kind]


def _number(value: Any, what: str, lowest: float, highest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadAnswer(f"{what} is {_kind_of(value)} where a number should stand")
    if not lowest <= value <= highest:  # an int of any size can be compared, but not always shown as a float
        shown = f"{value:g}" if isinstance(value, float) else str(value)[:20]
        raise BadAnswer(f"{what} is {shown}: it must lie between {lowest:g} and {highest:g}")
    return float(value) if math.isfinite(value) else value


def _kind_of(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), f"the number {str(value)[:20]}")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twin = next((name for name in names if names.count(name) > 1), None)
    if twin is not None:
        raise BadAnswer(f'the field "{twin[:40]}" stands there twice')
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise BadAnswer(f"{name} is not a number in JSON")
