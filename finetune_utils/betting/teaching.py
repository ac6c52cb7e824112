"""Training examples for the forecaster: Yes/No rows with soft labels, and rows answered in JSON."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UserError
from ..prompts import render_prompt
from ..soft_labels import encode_choice
from ..tokenization import Example, encode_row
from .answers import row_answer
from .readings import YES_NO

Row = Mapping[str, Any]
HARD = {1: (1.0, 0.0), 0: (0.0, 1.0)}


def yes_no_prompt(row: Row, tokenizer: Any) -> str:
    """The question, and the words `Yes or No:` after which one token says the answer."""
    return render_prompt(row, tokenizer, "yes-no")


def json_prompt(row: Row, tokenizer: Any) -> str:
    """The question, and the word `JSON:` after which the answer stands."""
    return render_prompt(row, tokenizer, "forecast")


def yes_no_examples(
    rows: Sequence[Row], tokenizer: Any, target: str = "probability", words: tuple[str, str] | None = None
) -> list[Example]:
    """Examples whose answer is Yes or No, as probable as the row's reference says.

    `target="outcome"` teaches what happened instead (a hard label, 1 or 0): the same optimum, with far more noise.
    `words` are those of `readings.yes_no_words` where a tokenizer is not the course's.

    Raises:
        UserError: a row that is not a win question, or another target.
    """
    if target not in ("probability", "outcome"):
        raise UserError(f"Unknown target {target!r}: choose probability or outcome.")
    examples = []
    for row in rows:
        if row["kind"] != "win":
            raise UserError(f"Row {row['id']} asks about {row['kind']}: only a win question is answered by Yes or No.")
        shares = HARD[row["outcome"]] if target == "outcome" else (row["probability"], 1 - row["probability"])
        choices = dict(zip(words or YES_NO, shares, strict=True))
        examples.append(encode_choice({"question": row["question"]}, choices, tokenizer, "yes-no"))
    return examples


def json_examples(rows: Sequence[Row], tokenizer: Any, answers: Sequence[str] | None = None) -> list[Example]:
    """Examples whose answer is the row's reference in JSON, or the texts given in `answers`."""
    texts = [row_answer(row) for row in rows] if answers is None else answers
    return [
        encode_row({"question": row["question"], "answer": " " + text}, tokenizer, "forecast")
        for row, text in zip(rows, texts, strict=True)
    ]


def draw_games(rows: Sequence[Row], count: int, rng: random.Random, bins: int = 12) -> list[Row]:
    """Draw whole games, both sides next to each other, until `count` rows are reached or all are used; lopsided ones more often.

    Most games are close, and drawn as they come a model sees few of the others and keeps its answers near the middle. So
    the references of the home sides are sorted into `bins` of equal width, and games of a full bin are drawn more rarely
    (weighted sampling without replacement, Efraimidis and Spirakis 2006). This changes which questions are seen, not what
    is right for them: each label is a probability given its question.

    Args:
        rows: both sides of every game, one after the other, each with an `estimate`.
    """
    values = [row["estimate"] for row in rows[::2]]
    lowest, width = min(values), (max(values) - min(values)) / bins or 1.0
    places = [min(int((value - lowest) / width), bins - 1) for value in values]
    crowd = Counter(places)
    keys = [rng.random() ** crowd[place] for place in places]
    chosen = sorted(range(len(values)), key=lambda i: -keys[i])[: min(len(rows), count) // 2]
    rng.shuffle(chosen)
    return [row for i in chosen for row in rows[2 * i : 2 * i + 2]]


def mix(
    parts: Mapping[str, Sequence[Example]], shares: Mapping[str, float], count: int, block: int = 1,
    first: str = "", head_start: float = 0.0,
) -> list[Example]:  # fmt: skip
    """Interleave parts so that each keeps its share in every stretch of the result, `count` examples long.

    A part that runs out starts again from its beginning. Train on the result with `shuffle=False`. The loss is a mean
    over tokens, so in a batch of both kinds the one token of a Yes/No row hardly counts beside the twenty-seven of a JSON
    row: with `block` equal to the examples of a step, every step is of one kind, and none drowns.

    Args:
        first: a part that has the beginning for itself; `head_start`: that share of the result, no larger than the
            part's own. The shares hold for the whole, so the part is rarer afterwards.

    Raises:
        UserError: shares that do not sum to 1, a part that is empty, or a head start that is too long.
    """
    if abs(sum(shares.values()) - 1) > 1e-6 or min(shares.values()) < 0:
        raise UserError(f"The shares {dict(shares)} must be 0 or more and sum to 1.")
    empty = [name for name, share in shares.items() if share > 0 and not parts.get(name)]
    if empty:
        raise UserError(f"The part {empty[0]!r} has a share and no examples.")
    if head_start and not 0 <= head_start <= shares.get(first, 0):
        raise UserError(f"The head start {head_start} must be 0 or more and within the share of the part {first!r}.")
    total = -(-count // block)
    alone = round(head_start * total)
    after = {name: (share * total - alone * (name == first)) / max(total - alone, 1) for name, share in shares.items()}
    blocks = dict.fromkeys(shares, 0)
    result: list[Example] = []
    for number in range(1, total + 1):
        due = lambda name: (number - alone) * after[name] + alone * (name == first) - blocks[name]  # noqa: B023, E731
        name = first if number <= alone else max(shares, key=due)
        start = blocks[name] * block
        result += [parts[name][i % len(parts[name])] for i in range(start, start + block)]
        blocks[name] += 1
    return result[:count]
