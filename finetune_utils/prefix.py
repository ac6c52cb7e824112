"""What prompts have in common is read once: the beginning that rows of a batch share, and its attention states.

Prompts of one template begin alike, and few-shot prompts carry the same solved examples. In a decoder the keys and values
of a token depend on nothing that follows it, so those of a shared beginning are the same in every row. Servers call this
prefix caching.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

from .batching import has_soft_prompt
from .errors import UserError
from .seq2seq import is_encoder_decoder

WORTH = 0.1  # of a batch's tokens; below that, a pass of its own costs more than it saves


@dataclass(frozen=True)
class SharedPrefix:
    """A beginning of `length` tokens that some rows share: row i begins like row `firsts[group[i]]`."""

    length: int
    firsts: list[int]
    group: list[int]


def shared_prefix(rows: Sequence[Sequence[int]], worth: float = WORTH) -> SharedPrefix | None:
    """The beginning that saves most tokens when rows with the same one share it; None when it saves less than `worth`.

    Every row keeps at least its last token. A longer beginning is shared by fewer rows, so the best length is where
    (rows - different beginnings) x length is largest.
    """
    best, most = None, worth * sum(map(len, rows))
    group, firsts = [0] * len(rows), [0]
    for length in range(1, min(map(len, rows), default=1)):
        numbers: dict[tuple[int, int], int] = {}
        group = [numbers.setdefault((old, row[length - 1]), len(numbers)) for old, row in zip(group, rows, strict=True)]
        if len(numbers) != len(firsts):
            firsts = [group.index(number) for number in range(len(numbers))]
        if len(firsts) == len(rows):
            break
        if (saved := (len(rows) - len(firsts)) * length) > most:
            best, most = SharedPrefix(length, firsts, group), saved
    return best


def read_shared(
    model: Any, rows: Sequence[Sequence[int]], pad: int, share: bool = True
) -> tuple[torch.Tensor, torch.Tensor, Any]:  # fmt: skip
    """Token ids and attention mask of `rows`, both (rows, width), and the states of a beginning that was read once.

    The states are a cache for `past_key_values`; its length says how many tokens of `ids` the model need not read again.
    They are None where sharing does not pay, or the model cannot. Padding stands on the left, or right behind the shared
    beginning: every row ends at the right edge. Call it under `torch.inference_mode`.

    Raises:
        UserError: rows of unequal length, and no pad token.
    """
    device = next(model.parameters()).device
    shared = shared_prefix(rows) if share and can_share(model) else None
    states = _states(model, rows, shared, device) if shared else None
    start, width = shared.length if states is not None else 0, max(map(len, rows))
    gaps = [width - len(row) for row in rows]
    if pad is None and any(gaps):
        raise UserError("The tokenizer has no pad token: set tokenizer.pad_token = tokenizer.eos_token first.")
    ids = [[*row[:start], *[pad] * gap, *row[start:]] for row, gap in zip(rows, gaps, strict=True)]
    mask = [[1] * start + [0] * gap + [1] * (width - start - gap) for gap in gaps]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device), states


def last_logits(
    model: Any, rows: Sequence[Sequence[int]], pad: int, keep: bool = False
) -> tuple[torch.Tensor, torch.Tensor, Any]:  # fmt: skip
    """What the model expects after each row: float32 logits (rows, vocabulary), the attention mask, and the states of all rows.

    With `keep` the states are a cache that a next pass can go on from. Call it under `torch.inference_mode`.
    """
    ids, mask, states = read_shared(model, rows, pad)
    read = states.get_seq_length() if states is not None else 0
    output = model(
        input_ids=ids[:, read:],
        attention_mask=mask,
        position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0)[:, read:],
        past_key_values=states,
        use_cache=keep or states is not None,
        # A position, not the number 1: a slice of the last states makes PyTorch copy the whole output layer for every row
        # when its weights are frozen, which takes ten times as long as all else. From the end: trained vectors may stand before.
        logits_to_keep=torch.tensor([-1], device=ids.device),
    )
    return output.logits[:, -1].float(), mask, output.past_key_values


def can_share(model: Any) -> bool:
    """A float32 decoder without trained vectors before its rows: what is kept of a beginning is all that follows needs.

    In 16 bits the other order of sums turns near ties into other words, and the stored runs were made without sharing.
    """
    if next(model.parameters()).dtype != torch.float32:
        return False
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    takes = inspect.signature(plain.forward).parameters
    # Padding behind a shared beginning is no matter to positions that are told, but to those counted by place it is.
    known = {"past_key_values", "position_ids", "logits_to_keep"} <= set(takes)
    windows = getattr(getattr(plain, "config", None), "attention_layers", None) or ()
    known = known and "local" not in windows  # GPT-Neo counts its windows by place
    return known and not is_encoder_decoder(model) and not has_soft_prompt(model)


def for_rows(cache: Any, rows: Sequence[int]) -> bool:
    """Let `cache` hold the states of these rows, repeated ones too; False, and nothing done, where states are dropped.

    With a sliding window, for one, the states of a beginning depend on what was dropped from it.
    """
    if any(type(layer) is not DynamicLayer for layer in getattr(cache, "layers", [None])):
        return False
    cache.batch_select_indices(torch.tensor(rows))  # on the CPU: layers may lie on several devices
    return True


def _states(model: Any, rows: Sequence[Sequence[int]], shared: SharedPrefix, device: Any) -> Any:
    ids = torch.tensor([list(rows[i][: shared.length]) for i in shared.firsts], device=device)
    last = torch.tensor([shared.length - 1], device=device)
    cache = model(
        input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True, logits_to_keep=last
    ).past_key_values
    return cache if for_rows(cache, shared.group) else None
