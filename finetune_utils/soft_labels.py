"""Soft labels: an answer of one token that is right with a probability, such as " Yes" with 0.62.

An example keeps its ordinary `labels`, with the likeliest answer as the label. A list `soft_labels` of (position, token,
probability) beside them says what else could stand at a position, and how probably. The cross-entropy against such a
target is the ordinary loss plus one small term for each alternative:

    -(1 - w) log P(label) - w log P(other)  =  -log P(label) + w (z_label - z_other)

since both log-probabilities subtract the same normalizer from the scores z. Examples without soft labels therefore keep
exactly the loss and the gradient that they have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .errors import UserError
from .tokenization import IGNORE, Example, encode_row

Soft = dict[str, torch.Tensor]


def encode_choice(
    row: Mapping[str, Any], choices: Mapping[str, float], tokenizer: Any, template: str | None = None
) -> Example:
    """Encode a question with the probabilities of its possible answers, each a single token (note the space: " Yes").

    The likeliest choice becomes the answer (the first of two that are equal), the others soft labels beside it.

    Raises:
        UserError: fewer than two choices, one that is not a single token or stands twice, or probabilities that do
            not sum to 1.
    """
    tokens = choice_tokens(list(choices), tokenizer)
    chances = [float(p) for p in choices.values()]
    if not (min(chances) >= 0 and abs(sum(chances) - 1) <= 1e-6):
        raise UserError(f"The probabilities of the choices are {', '.join(map(str, chances))}: they must sum to 1.")
    best = max(range(len(tokens)), key=lambda i: (chances[i], -i))
    example: dict[str, Any] = encode_row({**row, "answer": list(choices)[best]}, tokenizer, template)
    position = next(i for i, label in enumerate(example["labels"]) if label != IGNORE)
    example["soft_labels"] = [
        (position, token, p) for i, (token, p) in enumerate(zip(tokens, chances, strict=True)) if i != best and p > 0
    ]
    return example


def choice_tokens(choices: Sequence[str], tokenizer: Any) -> list[int]:
    """The token of each choice.

    Raises:
        UserError: fewer than two choices, a choice of several tokens, or two choices with the same token.
    """
    if len(choices) < 2:
        raise UserError(f"A choice needs at least 2 answers; found {len(choices)}.")
    tokens = []
    for choice in choices:
        ids = tokenizer(choice, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise UserError(f"The choice {choice!r} is {len(ids)} tokens in this tokenizer: give words of one token.")
        if ids[0] in tokens:
            raise UserError(f"The choice {choice!r} stands there twice.")
        tokens.append(ids[0])
    return tokens


def check_soft_labels(example: Mapping[str, Any]) -> None:
    """Guard the soft labels of one example.

    Raises:
        UserError: one at a position without a label, one equal to the label, or probabilities that exceed 1 together.
    """
    sums: dict[int, float] = {}
    for position, token, p in example.get("soft_labels", ()):
        if not 0 < position < len(example["labels"]) or example["labels"][position] == IGNORE:
            raise UserError(f"A soft label stands at position {position}, where no label is trained.")
        if token == example["labels"][position]:
            raise UserError(f"The soft label at position {position} is the label itself: give the alternatives only.")
        sums[position] = sums.get(position, 0.0) + p
        if not p > 0 or sums[position] > 1 + 1e-6:
            raise UserError(f"The soft labels at position {position} have probabilities outside 0 to 1.")


def collate_soft_labels(examples: Sequence[Mapping[str, Any]], labels: torch.Tensor, sparse: bool) -> Soft | None:
    """Gather the soft labels of a batch for `soft_terms`; None when it has none.

    Args:
        labels: (rows, length), as the collator padded them.
        sparse: whether the model will return logits at supervised positions only.

    Returns tensors of shape (soft labels,): `index` (of the position that predicts, in the flattened logits), `row`,
    `label`, `other`, `weight`.
    """
    found = [(row, *soft) for row, example in enumerate(examples) for soft in example.get("soft_labels", ())]
    if not found:
        return None
    for example in examples:
        check_soft_labels(example)
    row, position, other = (torch.tensor([entry[i] for entry in found]) for i in range(3))
    index = row * labels.shape[1] + position - 1  # the logits one before a token predict it
    if sparse:
        shifted = torch.nn.functional.pad(labels, (0, 1), value=IGNORE)[:, 1:] != IGNORE
        index = (shifted.flatten().cumsum(0) - 1)[index]
    weight = torch.tensor([entry[3] for entry in found], dtype=torch.float32)
    return {"index": index, "row": row, "label": labels[row, position], "other": other, "weight": weight}


def soft_terms(logits: torch.Tensor, soft: Soft) -> torch.Tensor:
    """What each soft label adds to the ordinary loss, in nats: weight x (score of the label - score of the other).

    `logits`: (kept positions, vocabulary) or (rows, length, vocabulary). Computed in float32.
    """
    chosen = logits.reshape(-1, logits.shape[-1])[soft["index"]].float()
    gap = chosen.gather(1, soft["label"][:, None]) - chosen.gather(1, soft["other"][:, None])
    return soft["weight"] * gap[:, 0]
