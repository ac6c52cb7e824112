"""The named runs that lessons, studies and the command line share: which rows, which settings, which seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .data import DATA_DIR, load_rows, split_by_group
from .models import load_model
from .training import TrainSettings

OFF_TOPIC = "off-topic"
ASSISTANT = DATA_DIR / "adapters" / "course-assistant"


@dataclass(frozen=True)
class CourseRows:
    """The rows of `course_qa.jsonl`, dealt out.

    Attributes:
        train: four wordings of each training fact, and most off-topic rows, mixed.
        dev: all wordings of some facts and some off-topic rows: choices are made here.
        unseen: all wordings of facts that no training row mentions (test).
        reworded: the held-out fifth wording of each training fact (test of recall).
        off_topic: off-topic rows that no training row repeats (test).
    """

    train: list[dict[str, Any]]
    dev: list[dict[str, Any]]
    unseen: list[dict[str, Any]]
    reworded: list[dict[str, Any]]
    off_topic: list[dict[str, Any]]


def is_off_topic(row: dict[str, Any]) -> bool:
    """True for a row that should be answered by a redirect."""
    return row["topic"] == OFF_TOPIC


def course_rows(seed: int = 0, train_facts: int | None = None) -> CourseRows:
    """Deal out `course_qa.jsonl` by fact, so that no fact stands on both sides.

    Args:
        train_facts: keep only so many training facts, and the same share of the off-topic training rows
            (smaller runs, learning curves). The dev and test rows stay the same.
    """
    rows = load_rows("course_qa")
    facts = split_by_group([r for r in rows if not is_off_topic(r)], "fact", {"train": 0.7, "dev": 0.1, "unseen": 0.2}, seed)
    off = split_by_group([r for r in rows if is_off_topic(r)], "fact", {"train": 0.65, "dev": 0.1, "test": 0.25}, seed)
    names = sorted({r["fact"] for r in facts["train"]}, key=lambda name: _shuffle_key(seed, name))
    kept = set(names[:train_facts])
    wordings = {name: [r for r in facts["train"] if r["fact"] == name] for name in names if name in kept}
    # Which wording is held out rotates, so that the test is not all typos or all terse questions.
    held = {name: i % len(wordings[name]) for i, name in enumerate(wordings)}
    off_train = sorted(off["train"], key=lambda r: _shuffle_key(seed, r["id"]))
    off_train = off_train[: round(len(off_train) * len(kept) / len(names))]
    train = [r for name, group in wordings.items() for i, r in enumerate(group) if i != held[name]] + off_train
    return CourseRows(
        train=sorted(train, key=lambda r: _shuffle_key(seed, r["id"])),
        dev=facts["dev"] + off["dev"],
        unseen=facts["unseen"],
        reworded=[group[held[name]] for name, group in wordings.items()],
        off_topic=off["test"],
    )


def _shuffle_key(seed: int, text: str) -> str:
    """A fixed random order that does not depend on the platform or on how many rows there are."""
    import hashlib

    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()


def assistant_settings(epochs: float, batch_size: int = 8, seed: int = 0) -> TrainSettings:
    """The settings of the course's teaching assistant (LoRA, chosen on dev rows: `studies/learning_rate`)."""
    return TrainSettings(epochs=epochs, batch_size=batch_size, learning_rate=2e-3, warmup=0.05, seed=seed)


def load_assistant(folder: Path = ASSISTANT, say: Any = print) -> tuple[Any, Any]:
    """Load the committed teaching assistant: the untuned model with the adapter of `data/adapters/`."""
    return load_model(str(folder), say=say)


def spread(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Take `count` rows at equal distances, so that a short run still sees every topic."""
    if count >= len(rows):
        return list(rows)
    return [rows[i * len(rows) // count] for i in range(count)]
