"""What a model forgets: the NLL of plain text that has nothing to do with what it was trained on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .data import data_path
from .errors import UserError
from .evaluation import Interval, nll_difference
from .nll import NLL, token_nll
from .tokenization import Example


@dataclass(frozen=True)
class Windows:
    """A text cut into windows of tokens. `pieces[i]` is the title of the piece that window i was cut from."""

    examples: list[Example]
    pieces: list[str]


def neutral_windows(tokenizer: Any, length: int = 256, limit: int | None = None) -> Windows:
    """Cut `data/neutral_text.txt` (plain prose on everyday subjects) into windows of `length` tokens.

    Args:
        limit: so many windows at most, taken at equal distances.
    """
    return text_windows(data_path("neutral_text").read_text(encoding="utf-8"), tokenizer, length, limit)


def text_windows(text: str, tokenizer: Any, length: int = 256, limit: int | None = None) -> Windows:
    """Cut a text into windows of at most `length` tokens; every token but the first of a window is scored.

    A line that begins with "# " starts a new piece; no window reaches over its border. The windows of a piece
    rise and fall together, so intervals are resampled by piece.

    Raises:
        UserError: the text is empty, or `length` is below 2.
    """
    if length < 2:
        raise UserError(f"length is {length}: a window needs at least 2 tokens, one of them to predict.")
    found = Windows([], [])
    for number, piece in enumerate(re.split(r"^(?=# )", text, flags=re.MULTILINE)):
        title = piece.splitlines()[0].removeprefix("# ").strip() if piece.startswith("# ") else f"piece {number}"
        ids = tokenizer(piece.strip(), add_special_tokens=False)["input_ids"]
        for start in range(0, len(ids), length):
            window = ids[start : start + length]
            if len(window) > 1:
                found.examples.append({"input_ids": window, "labels": list(window)})
                found.pieces.append(title)
    if not found.examples:
        raise UserError("The text for measuring forgetting is empty.")
    if limit is not None and limit < len(found.examples):
        chosen = [i * len(found.examples) // limit for i in range(limit)]
        return Windows([found.examples[i] for i in chosen], [found.pieces[i] for i in chosen])
    return found


def neutral_nll(model: Any, tokenizer: Any, windows: Windows, progress: bool | None = False) -> NLL:
    """Token-weighted NLL of the windows, in nats a token: what a model has forgotten shows as a rise."""
    return token_nll(model, windows.examples, tokenizer, progress=progress)


def forgotten(before: NLL, after: NLL, windows: Windows, seed: int = 0) -> Interval:
    """How much the NLL of neutral text rose (above 0: forgotten), in nats a token, resampled by piece.

    Raises:
        UserError: fewer than two pieces, or numbers of windows that differ.
    """
    return nll_difference(before, after, windows.pieces, seed)


def by_piece(score: NLL, windows: Windows) -> dict[str, float]:
    """Mean NLL of each piece, in nats a token."""
    names: Sequence[str] = list(dict.fromkeys(windows.pieces))
    chosen = {name: np.array([piece == name for piece in windows.pieces]) for name in names}
    return {name: float(score.sums[rows].sum() / score.counts[rows].sum()) for name, rows in chosen.items()}
