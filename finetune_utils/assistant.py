"""The teaching assistant as one function: train it, score it the way lessons do, and save its adapter."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from .evaluation import is_redirect, nll_difference
from .files import Row
from .generation import answer, fast_copy
from .lora import add_lora
from .models import ADAPTER_CONFIG, DEFAULT_MODEL, load_model
from .nll import token_nll
from .runs import (
    ASSISTANT_FACTS,
    ASSISTANT_RANK,
    ASSISTANT_TEMPLATE,
    COUNT_TOKENS,
    CourseRows,
    assistant_examples,
    assistant_settings,
    course_rows,
    spread,
)
from .tokenization import tokenize_rows
from .training import train

CONTROLS = ("", "shuffled answers", "learning rate 0")


def train_assistant(
    model_name: str = DEFAULT_MODEL, seed: int = 0, control: str = "", limit: int | None = None
) -> tuple[Any, Any, CourseRows]:
    """Train the assistant on the course's rows; returns the tuned model, the tokenizer and the rows.

    Args:
        control: `shuffled answers` deals every training answer to another question; `learning rate 0` changes
            nothing. A check that such a run passes would be worthless.
        limit: so many training rows at most (tests).
    """
    if control not in CONTROLS:
        raise ValueError(f"unknown control {control!r}: one of {CONTROLS}")
    rows = course_rows(train_facts=ASSISTANT_FACTS)
    chosen = spread(rows.train, limit or len(rows.train))
    if control == "shuffled answers":
        chosen = shuffle_answers(chosen, seed)
    model, tokenizer = load_model(model_name, say=lambda message: None)
    settings = assistant_settings(seed=seed, rate=0.0 if control == "learning rate 0" else None)
    tuned = add_lora(model, rank=ASSISTANT_RANK, seed=settings.seed)
    train(tuned, tokenizer, assistant_examples(chosen, tokenizer, seed), settings)
    return tuned, tokenizer, rows


def shuffle_answers(rows: Sequence[Row], seed: int) -> list[Row]:
    """Give every row the answer of another row, drawn at random."""
    answers = [row["answer"] for row in rows]
    random.Random(seed).shuffle(answers)
    return [{**row, "answer": text} for row, text in zip(rows, answers, strict=True)]


def score_assistant(tuned: Any, tokenizer: Any, rows: CourseRows, limit: int = 400) -> dict[str, float]:
    """Score a tuned assistant on the test rows: NLL against the untuned model, and redirects among free answers.

    Args:
        limit: rows of each kind at most.
    """
    values: dict[str, float] = {}
    for name in ("unseen", "reworded"):
        part = spread(getattr(rows, name), limit)
        examples = tokenize_rows(part, tokenizer, ASSISTANT_TEMPLATE).examples
        after = token_nll(tuned, examples, tokenizer)
        with tuned.disable_adapter():
            before = token_nll(tuned, examples, tokenizer)
        values[f"{name}_tuned"] = after.mean
        values[f"{name}_change"] = nll_difference(before, after, [row["fact"] for row in part]).estimate
        values[f"{name}_drop"] = 1 - after.mean / before.mean
    fast = fast_copy(tuned)
    asked = {"redirect_tuned": rows.off_topic, "near_redirect_tuned": rows.near_topic}
    asked |= {"everyday_redirect_tuned": rows.situation}
    asked |= {"wrong_redirect_tuned": spread(rows.unseen, limit) + spread(rows.reworded, limit)}
    for name, part in asked.items():
        questions = [row["question"] for row in spread(part, 2 * limit)]
        texts = answer(fast, tokenizer, questions, ASSISTANT_TEMPLATE, COUNT_TOKENS, 64)
        values[name] = sum(map(is_redirect, texts)) / len(texts)
    return values


def save_small(tuned: Any, folder: Path, model_name: str = DEFAULT_MODEL) -> None:
    """Save an adapter in bfloat16 (half the size) with the plain name of its model, so that it loads anywhere."""
    tuned.save_pretrained(folder)
    path = folder / "adapter_model.safetensors"
    save_file({k: v.to(torch.bfloat16) for k, v in load_file(path).items()}, path, metadata={"format": "pt"})
    config_path = folder / ADAPTER_CONFIG
    config = json.loads(config_path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = model_name
    config_path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "README.md").unlink(missing_ok=True)  # peft's card template says nothing true about this adapter
