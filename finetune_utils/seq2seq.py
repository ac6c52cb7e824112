"""Encoder-decoder models (the T5 family): rows as two texts, their collator, and a loss that counts every token once.

A decoder-only model reads prompt and answer as one text. An encoder-decoder reads the prompt in its encoder and writes
the answer in its decoder, so a row is a pair: `input_ids` is the prompt and `labels` the answer, of different lengths. No
prompt has to be masked, and the labels are not shifted: the model puts a start token before them by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .errors import UserError
from .tokenization import IGNORE, Example, end_of_turn_id


def is_encoder_decoder(model: Any) -> bool:
    """True for models with an encoder and a decoder, such as T5, with or without an adapter."""
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def encode_pairs(
    rows: Iterable[Mapping[str, Any]], tokenizer: Any, max_length: int = 512, max_answer: int = 128
) -> list[Example]:
    """Rows with `question` and `answer` as pairs for an encoder-decoder: `input_ids` and `labels`, both with an end token.

    A question longer than `max_length` tokens, or an answer longer than `max_answer`, is cut, and its end token kept: both
    texts must end, or the model never learns to stop.

    Raises:
        UserError: an empty question or answer.
    """
    end, examples = end_of_turn_id(tokenizer), []
    for number, row in enumerate(rows, start=1):
        parts = {}
        for name, field, limit in (("input_ids", "question", max_length), ("labels", "answer", max_answer)):
            ids = tokenizer(row[field], add_special_tokens=False)["input_ids"][: limit - 1]
            if not ids:
                raise UserError.at("rows", row.get("line", number), found=f'an empty "{field}"', expected="text")
            parts[name] = [*ids, end]
        examples.append(parts)
    return examples


def count_pair(example: Example) -> int:
    """Tokens of the answer that are trained: all of them, the first included."""
    return sum(label != IGNORE for label in example["labels"])


@dataclass
class PairCollator:
    """Pad questions with the pad token and answers with -100, each to its own longest, rounded up to `multiple`.

    Returns `input_ids` and `attention_mask` of shape (rows, question length), `labels` of shape (rows, answer length).
    """

    pad_token_id: int
    multiple: int = 8

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        questions = self._pad([e["input_ids"] for e in examples], self.pad_token_id)
        mask = self._pad([[1] * len(e["input_ids"]) for e in examples], 0)
        return {
            "input_ids": questions,
            "attention_mask": mask,
            "labels": self._pad([e["labels"] for e in examples], IGNORE),
        }

    def _pad(self, rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
        width = -(-max(map(len, rows)) // self.multiple) * self.multiple
        return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


def pair_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every token of the answers in nats, shape (supervised tokens,), row by row, computed in float32.

    `logits`: (rows, length, vocabulary); `labels`: (rows, length), not shifted. The model's own loss is the mean of one
    batch: accumulated over batches of unequal length it would weigh the tokens of short batches more.
    """
    kept = labels != IGNORE
    return torch.nn.functional.cross_entropy(logits[kept].float(), labels[kept], reduction="none")
