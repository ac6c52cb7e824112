"""Which examples go together: their order over a run, batches of similar length, and the collator."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from .class_labels import is_classifier
from .errors import UserError
from .seq2seq import PairCollator, is_encoder_decoder
from .soft_labels import collate_soft_labels
from .tokenization import IGNORE, Example

# Tokens scored in one forward pass. Larger batches fall out of a CPU's cache: with 4,096 each token takes a sixth longer.
BATCH_TOKENS = 1536


def example_order(
    lengths: Sequence[int],
    batch_size: int,
    accumulation: int = 1,
    epochs: float = 1.0,
    max_steps: int = 0,
    seed: int = 0,
    group_by_length: bool = True,
    shuffle: bool = True,
) -> list[int]:
    """Fix the order of all examples over all epochs in advance.

    Grouped by length, examples are shuffled, sorted within blocks of 32 batches, and the batches shuffled again, so that
    neighbors are of similar length and the order still differs in every epoch. Knowing the whole order makes
    a resumed run see exactly the examples that were left.
    """
    total = max_steps * batch_size * accumulation if max_steps > 0 else max(round(epochs * len(lengths)), 1)
    order: list[int] = []
    epoch = 0
    while len(order) < total:
        rng = random.Random(f"{seed}-{epoch}")
        indices = list(range(len(lengths)))
        if shuffle:
            rng.shuffle(indices)
        if shuffle and group_by_length:
            blocks = [indices[i : i + 32 * batch_size] for i in range(0, len(indices), 32 * batch_size)]
            indices = [i for block in blocks for i in sorted(block, key=lambda i: -lengths[i])]
            batches = [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
            short = [b for b in batches if len(b) < batch_size]  # in the middle it would shift all that follow
            batches = [b for b in batches if len(b) == batch_size]
            rng.shuffle(batches)
            indices = [i for b in batches + short for i in b]
        order += indices
        epoch += 1
    return order[:total]


def fill_last_batch(examples: Sequence[Example], size: int, token: int) -> list[Example]:
    """Fill the last batch up to `size` rows with rows that train nothing (one `token`, no label).

    Several processes deal a batch out in equal shares. A copied row would count twice; one without labels does not count,
    because the loss is a sum over supervised tokens divided by their number in all processes.
    """
    missing = -len(examples) % size
    return [*examples, *({"input_ids": [token], "labels": [IGNORE]} for _ in range(missing))]


def with_openings(
    examples: Sequence[Example],
    batch_size: int,
    tokens: int = 1,
    openings: Sequence[Example] | None = None,
    seed: int = 0,
    turns: int = 1,
    alone: float = 0.0,
) -> list[Example]:
    """Follow batches of whole examples by batches of examples that end after the first tokens of their answer.

    Some behavior is decided by how an answer opens ("Let's keep to ..." or not), and one opening token hardly counts
    beside forty others. A batch of openings is short, so it costs little, and its loss is about the opening alone.

    Args:
        tokens: supervised tokens that an opening keeps.
        openings: the examples whose openings are used (default: all of them), as often as it takes.
        turns: batches of openings after each batch of whole examples.
        alone: share of the batches of whole examples that come first and have no openings after them. What is learned
            last, at small rates, is not moved again.

    Returns:
        The examples in the order of training (pass `shuffle=False`), whole ones and openings each shuffled. Whole
        examples that do not fill a batch are left out.
    """
    whole = list(examples)
    random.Random(f"{seed}-whole").shuffle(whole)
    whole = whole[: max(len(whole) // batch_size, 1) * batch_size]
    source = examples if openings is None else openings
    first = int(alone * (len(whole) // batch_size)) * batch_size
    needed = turns * (len(whole) - first)
    order = example_order([1] * len(source), needed, max_steps=1, seed=seed, group_by_length=False)
    cut = [_opening(source[i], tokens) for i in order]
    mixed = whole[:first]
    for i in range(first, len(whole), batch_size):
        mixed += whole[i : i + batch_size] + cut[turns * (i - first) : turns * (i - first + batch_size)]
    return mixed


def _opening(example: Example, tokens: int) -> Example:
    first = next(i for i, label in enumerate(example["labels"]) if label != IGNORE)
    return {name: values[: first + tokens] for name, values in example.items()}


def length_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Group row numbers, longest first, so that rows x longest stays within `batch_tokens` (one row at least)."""
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > batch_tokens:
            batches.append([])
        batches[-1].append(i)
    return batches


def can_skip_logits() -> bool:
    """True when this transformers accepts a mask of positions for `logits_to_keep` (tested by feature, not by version)."""
    return hasattr(transformers.modeling_utils, "slice_logits_to_keep")


def has_soft_prompt(model: Any) -> bool:
    """True when trained vectors stand before every row, so that positions in the model are not those of the batch."""
    return bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))


@dataclass
class SupervisedCollator:
    """Pad a batch on the right and keep only what the loss needs.

    Padding is masked by position, never by pad id, so that an end-of-turn token that doubles as the pad token stays
    supervised. Lengths are rounded up to `multiple`: few different shapes are quicker. With `sparse`, the batch also
    says at which positions logits are needed (`logits_to_keep`), so that the large output layer is computed there only.

    Returns tensors of shape (rows, length): `input_ids`, `attention_mask`, `labels`; with `sparse` also
    `logits_to_keep` (rows, length), bool, and `shift_labels` (supervised positions,). A batch with soft labels also has
    `soft_labels` (see `collate_soft_labels`), which are for the loss and not for the model.
    """

    pad_token_id: int
    multiple: int = 8
    sparse: bool = True

    def __post_init__(self) -> None:
        if self.pad_token_id is None:
            raise UserError("The tokenizer has no pad token: set tokenizer.pad_token = tokenizer.eos_token first.")

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        longest = max(len(e["input_ids"]) for e in examples)
        width = -(-longest // self.multiple) * self.multiple
        pad = lambda name, value: torch.tensor(  # noqa: E731
            [list(e[name]) + [value] * (width - len(e[name])) for e in examples]
        )
        mask = [[1] * len(e["input_ids"]) + [0] * (width - len(e["input_ids"])) for e in examples]
        batch = {
            "input_ids": pad("input_ids", self.pad_token_id),
            "attention_mask": torch.tensor(mask),
            "labels": pad("labels", IGNORE),
        }
        soft = collate_soft_labels(examples, batch["labels"], self.sparse)
        if soft is not None:
            batch["soft_labels"] = soft
        if self.sparse:
            shifted = torch.nn.functional.pad(batch["labels"], (0, 1), value=IGNORE)[:, 1:]
            batch["logits_to_keep"] = shifted != IGNORE
            batch["shift_labels"] = shifted[batch["logits_to_keep"]]
        return batch


def collator_for(model: Any, tokenizer: Any) -> SupervisedCollator | PairCollator:
    """The collator that this kind of model needs: one text a row, or two for an encoder-decoder.

    A classification head gives one row of scores a text, so there are no positions to choose from.
    """
    if is_encoder_decoder(model):
        return PairCollator(tokenizer.pad_token_id)
    sparse = can_skip_logits() and not has_soft_prompt(model) and not is_classifier(model)
    return SupervisedCollator(tokenizer.pad_token_id, sparse=sparse)
