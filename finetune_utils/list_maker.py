"""A second adapter for the same questions: answers as a numbered list. The rule that makes its rows, and its scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

from .evaluation import nll_difference
from .files import Row
from .forgetting import forgotten, neutral_nll, neutral_windows
from .generation import answer
from .lora import add_lora
from .lora_checks import did_it_learn, fingerprint
from .models import DEFAULT_MODEL, load_model
from .nll import token_nll
from .prompts import render_prompt
from .runs import ASSISTANT_TEMPLATE, course_rows, is_fact, spread
from .tokenization import tokenize_rows
from .training import TrainResult, TrainSettings, train

STEPS, RATE = 60, 2e-3
CONTROLS = ("", "plain answers", "learning rate 0")
MOSTLY = 0.75  # a share of lists that no other adapter of this course comes near
LIST = re.compile(r"1\. \S")


def as_list(text: str) -> str:
    """Number the parts of a text, a line each. Parts end at a period, semicolon, question or exclamation mark."""
    parts = [part.rstrip(";") for part in re.split(r"(?<=[.;?!])\s+", text.strip())]
    return "\n".join(f"{number}. {part}" for number, part in enumerate(parts, start=1))


def is_list(text: str) -> bool:
    """True when an answer begins like a numbered list: with "1." and a word after it."""
    return bool(LIST.match(text))


def list_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows of facts whose answers have two parts or more, with their answers as numbered lists."""
    changed = [{**row, "answer": as_list(row["answer"])} for row in rows if is_fact(row)]
    return [row for row in changed if "\n2. " in row["answer"]]


def list_settings(steps: int = STEPS, seed: int = 0, rate: float = RATE) -> TrainSettings:
    """The settings of the list maker: few steps, since a manner is learned quickly."""
    return TrainSettings(max_steps=steps, batch_size=4, learning_rate=rate, seed=seed)


def train_list_maker(
    model_name: str = DEFAULT_MODEL, steps: int = STEPS, rank: int = 16, seed: int = 0, control: str = ""
) -> tuple[Any, Any, dict[str, str], TrainResult]:
    """Train the list maker on the course's training rows.

    Args:
        control: `plain answers` leaves the answers as they are; `learning rate 0` changes nothing.

    Returns:
        The model with its adapter, the tokenizer, the fingerprint of the frozen weights before training, and the run.
    """
    if control not in CONTROLS:
        raise ValueError(f"unknown control {control!r}: one of {CONTROLS}")
    base, tokenizer = load_model(model_name, say=lambda message: None)
    model = add_lora(base, rank=rank, seed=seed)
    rows = list_rows(course_rows().train)
    if control == "plain answers":
        known = {row["id"]: row for row in course_rows().train}
        rows = [known[row["id"]] for row in rows]
    before = fingerprint(model)
    settings = list_settings(steps, seed, 0.0 if control == "learning rate 0" else RATE)
    result = train(model, tokenizer, tokenize_rows(rows, tokenizer, ASSISTANT_TEMPLATE).examples, settings)
    return model, tokenizer, before, result


def held_out_rows(count: int) -> list[Row]:
    """Rows of facts that no training row mentions, one wording of each, with their answers as lists."""
    first = {row["fact"]: row for row in list_rows(course_rows().unseen)}
    return spread(list(first.values()), count)


def check_ids(tokenizer: Any, count: int = 4) -> torch.Tensor:
    """Tokens of a few questions, cut to equal length: where logits are compared."""
    ids = [tokenizer(render_prompt(row, tokenizer, ASSISTANT_TEMPLATE))["input_ids"] for row in held_out_rows(count)]
    return torch.tensor([row[: min(map(len, ids))] for row in ids])


def score_list_maker(
    model: Any, tokenizer: Any, before: dict[str, str], count: int = 16, tokens: int = 48, windows: int = 24
) -> dict[str, Any]:
    """What a run of the list maker is checked by: `did_it_learn`, lists among its answers, changes of the NLL.

    Args:
        before: the fingerprint of the frozen weights before training.
        count: held-out rows, scored and asked; `tokens`: length of an answer at most.
        windows: windows of neutral text.
    """
    rows = held_out_rows(count)
    examples = tokenize_rows(rows, tokenizer, ASSISTANT_TEMPLATE).examples
    after = token_nll(model, examples, tokenizer)
    with model.disable_adapter():
        untuned = token_nll(model, examples, tokenizer)
    neutral = neutral_windows(tokenizer, limit=windows)
    neutral_after = neutral_nll(model, tokenizer, neutral)
    with model.disable_adapter():
        neutral_before = neutral_nll(model, tokenizer, neutral)
    learned = did_it_learn(model, check_ids(tokenizer), before)
    texts = answer(model, tokenizer, [row["question"] for row in rows], ASSISTANT_TEMPLATE, tokens)
    share = sum(map(is_list, texts)) / len(texts)
    return {
        "list_share": share,
        "mostly_lists": share >= MOSTLY,
        "list_change": nll_difference(untuned, after, [row["fact"] for row in rows]).estimate,
        "neutral_change": forgotten(neutral_before, neutral_after, neutral).estimate,
        "changed_tensors": len(learned.changed),
        "moved_layers": learned.moved,
        "largest_update": learned.update,
        "merged_gap": learned.merged_gap,
        "rounded_gap": learned.rounded_gap,
        "output_gap": learned.output_gap,
    }
