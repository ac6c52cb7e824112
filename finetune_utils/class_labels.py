"""One label a row: examples, loss and guards for a model with a classification head.

An example keeps the form of all others: `input_ids`, and `labels` of the same length with -100 where nothing is learned.
Its only label stands at the last token and is the number of the class. So collator, order, accumulation and the count of
labels stay as they are; what differs is the loss, because the head gives one row of scores a text, not one a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .errors import UserError
from .tokenization import IGNORE, Example


def is_classifier(model: Any) -> bool:
    """True for a model with a classification head (`...ForSequenceClassification`), with or without an adapter."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return type(base).__name__.endswith("ForSequenceClassification")


def class_example(input_ids: Sequence[int], label: int, classes: int) -> Example:
    """An example of one text with its class, a number from 0.

    Raises:
        UserError: a text of fewer than two tokens, or a class that is none of `classes`.
    """
    if len(input_ids) < 2:
        raise UserError(f"A text to be classified needs at least 2 tokens; found {len(input_ids)}.")
    if not 0 <= label < classes:
        raise UserError(f"The class {label} is none of the {classes} classes, which count from 0.")
    return {"input_ids": list(input_ids), "labels": [IGNORE] * (len(input_ids) - 1) + [label]}


def class_targets(labels: torch.Tensor) -> torch.Tensor:
    """The class of each row of a batch: (rows, length) -> (rows,); -100 for a row without a label.

    Raises:
        UserError: a row has several labels, as the examples of a language model have.
    """
    there = labels != IGNORE
    if (there.sum(dim=1) > 1).any():
        raise UserError(
            "A row has several labels, and a classification head gives one answer a row: make the examples with "
            "`classification.encode_posts`, or train a language model on them."
        )
    return labels.gather(1, there.int().argmax(dim=1, keepdim=True))[:, 0]


def class_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each row in nats, shape (rows,), computed in float32; 0 for a row without a label.

    `logits`: (rows, classes); `labels`: (rows, length), see `class_targets`.
    """
    return torch.nn.functional.cross_entropy(
        logits.float(), class_targets(labels), ignore_index=IGNORE, reduction="none"
    )
