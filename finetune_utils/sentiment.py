"""The sentiment run that a lesson and its studies share: which posts, which prompt, which settings; and posts as copies."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from .classification import LABELS, PROMPT
from .data import load_rows, split_by_group
from .errors import UserError
from .files import Row
from .training import TrainSettings

SIZES = {"train": 360, "dev": 60, "test": 220}
WORDS = tuple(f" {label}" for label in LABELS)
RANK = 16


def posts(train: int | None = None, dev: int | None = None, test: int | None = None) -> dict[str, list[Row]]:
    """The posts of `tweets.jsonl` as train, dev and test; a number keeps only so many of a part.

    The file is balanced within blocks, so that the first rows of a part have nearly its shares.
    """
    parts = split_by_group(load_rows("tweets"), "id", SIZES)
    return {name: parts[name][:limit] for name, limit in (("train", train), ("dev", dev), ("test", test))}


def numbers(rows: Sequence[Mapping[str, Any]], labels: Sequence[str] = LABELS) -> list[int]:
    """The class of each row as a number."""
    return [list(labels).index(row["label"]) for row in rows]


def solved_posts(rows: Sequence[Row], per_label: int, labels: Sequence[str] = LABELS, prompt: str = PROMPT) -> str:
    """The first `per_label` posts of every label with their labels, in turn: what stands before a post in a few-shot prompt.

    Raises:
        UserError: too few posts of a label.
    """
    by_label = {label: [row for row in rows if row["label"] == label] for label in labels}
    short = [label for label, group in by_label.items() if len(group) < per_label]
    if short:
        raise UserError(f"A prompt with {per_label} posts a label needs more posts: there are too few {short[0]} ones.")
    turns = [by_label[label][i] for i in range(per_label) for label in labels]
    return "".join(f"{prompt.format(text=row['text'])} {row['label']}\n\n" for row in turns)


def near_copy(text: str, share: float = 0.15, seed: int = 0) -> str:
    """The post again, as people repost it: some words left out (one at least), lower case, a mark at the end."""
    rng, words = random.Random(f"{seed}-{text}"), text.split()
    gone = set(rng.sample(range(len(words)), min(len(words) - 1, max(1, round(share * len(words))))))
    kept = " ".join(word for i, word in enumerate(words) if i not in gone).lower()
    return f"{kept.rstrip('.!')}{rng.choice(['', '..', '!!', ' lol', ' (again)'])}"
