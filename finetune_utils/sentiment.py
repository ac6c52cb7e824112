"""The sentiment run that a lesson and its studies share: which posts, which prompt, which settings; and posts as copies."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from .classification import LABELS, PROMPT, class_log_probs, encode_posts, load_classifier
from .data import load_rows, split_by_group
from .errors import UserError
from .files import Row
from .lora import add_lora
from .models import DEFAULT_MODEL
from .training import TrainResult, TrainSettings, train

SIZES = {"train": 360, "dev": 60, "test": 220}
WORDS = tuple(f" {label}" for label in LABELS)
ARMS = ("lora", "random", "full")
RANK, RATE, EPOCHS, BATCH = 16, 2e-4, 3, 8  # the rate by its dev loss, see the study sentiment_rates


def posts(train: int | None = None, dev: int | None = None, test: int | None = None) -> dict[str, list[Row]]:
    """The posts of `tweets.jsonl` as train, dev and test; a number keeps only so many of a part.

    The file is balanced within blocks, so that the first rows of a part have nearly its shares.
    """
    parts = split_by_group(load_rows("tweets"), "id", SIZES)
    return {name: parts[name][:limit] for name, limit in (("train", train), ("dev", dev), ("test", test))}


def numbers(rows: Sequence[Mapping[str, Any]], labels: Sequence[str] = LABELS) -> list[int]:
    """The class of each row as a number."""
    return [list(labels).index(row["label"]) for row in rows]


def sentiment_settings(
    rows: int, rate: float = RATE, epochs: int = EPOCHS, seed: int = 0, batch_size: int = BATCH
) -> TrainSettings:
    """The settings of a run on `rows` posts, scored on dev posts at the end of every epoch."""
    per_epoch = math.ceil(rows / batch_size)
    return TrainSettings(
        epochs=epochs, batch_size=batch_size, learning_rate=rate, evaluate_every=per_epoch, seed=seed
    )  # fmt: skip


def loss_by_epoch(result: TrainResult) -> dict[str, list[float]]:
    """Where a run stood: `epoch`, `train` (mean loss of the steps since the last score) and `dev`, in nats a post."""
    found: dict[str, list[float]] = {"epoch": [], "train": [], "dev": []}
    since: list[float] = []
    for entry in result.history:
        if "loss" in entry:
            since.append(entry["loss"])
        if "eval_nll" in entry:
            found["epoch"].append(round(entry["epoch"], 2))
            found["train"].append(sum(since) / len(since))
            found["dev"].append(entry["eval_nll"])
            since = []
    return found


def train_arm(
    arm: str,
    rate: float,
    parts: Mapping[str, Sequence[Row]],
    model_name: str = DEFAULT_MODEL,
    epochs: int = EPOCHS,
    words: Sequence[str] | None = WORDS,
    seed: int = 0,
) -> tuple[Any, Any, TrainResult]:
    """Train one arm on the posts of `parts` and score its dev posts after every epoch.

    `lora` and `full` start with a head from `words`, `random` is LoRA with a random head.

    Returns model, tokenizer and what the run did.

    Raises:
        UserError: another arm.
    """
    if arm not in ARMS:
        raise UserError(f"Unknown arm {arm!r}: choose one of {', '.join(ARMS)}.")
    words = None if arm == "random" else words
    model, tokenizer = load_classifier(model_name, words=words, seed=seed, say=lambda message: None)
    if arm != "full":
        model = add_lora(model, rank=RANK, seed=seed)
    train_posts, dev_posts = (encode_posts(parts[n], tokenizer, prompt=PROMPT, special=False) for n in ("train", "dev"))
    settings = sentiment_settings(len(train_posts), rate, epochs, seed)
    return model, tokenizer, train(model, tokenizer, train_posts, settings, eval_examples=dev_posts, progress=False)


def predict(model: Any, tokenizer: Any, rows: Sequence[Row], prompt: str = PROMPT, special: bool = False) -> list[int]:
    """The most likely class of each post."""
    return (
        class_log_probs(model, encode_posts(rows, tokenizer, prompt=prompt, special=special), tokenizer)
        .argmax(1)
        .tolist()
    )


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
