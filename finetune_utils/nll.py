"""The token-weighted negative log-likelihood (NLL): the number that judges a model here."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .batching import BATCH_TOKENS, collator_for, length_batches
from .class_labels import class_losses, is_classifier
from .progress import bar
from .quick_lora import quick_lora
from .seq2seq import count_pair, is_encoder_decoder, pair_losses
from .soft_labels import soft_terms
from .tokenization import IGNORE, Example, count_supervised


@dataclass(frozen=True)
class NLL:
    """Negative log-likelihood of supervised tokens, in nats, row by row.

    `sums[i]` is the NLL of all supervised tokens of row i, `counts[i]` how many there are.
    """

    sums: np.ndarray
    counts: np.ndarray

    @property
    def mean(self) -> float:
        """Mean over all tokens: every token weighs the same, whatever row it stands in."""
        return float(self.sums.sum() / self.counts.sum())

    @property
    def perplexity(self) -> float:
        """exp(mean): among how many equally likely tokens the model seems to choose."""
        return math.exp(self.mean)


def token_nll(
    model: Any,
    examples: Sequence[Example],
    tokenizer: Any,
    batch_tokens: int = BATCH_TOKENS,
    progress: bool | None = False,
) -> NLL:
    """Score every supervised token of `examples` under `model`.

    The Trainer's own `eval_loss` averages batch means, so it changes with the batch size; this sum does not.
    Where an example has soft labels, the score is the cross-entropy against them; a model with a classification head has
    one score a row (see `class_labels`).
    Batches hold rows of similar length, `batch_tokens` tokens at most. The logits are taken in float32.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    collate = collator_for(model, tokenizer)
    count = count_pair if is_encoder_decoder(model) else count_supervised
    sums, counts = np.zeros(len(examples)), np.array([count(e) for e in examples])
    with (
        bar(len(examples), "Scoring", "row", progress) as progress_bar,
        quick_lora(model),
        torch.inference_mode(),
        autocast(model),
    ):
        for batch in length_batches([len(e["input_ids"]) for e in examples], batch_tokens):
            tensors = collate([examples[i] for i in batch])
            soft = {k: v.to(device) for k, v in tensors.pop("soft_labels", {}).items()}
            tensors = {k: v.to(device) for k, v in tensors.items()}
            losses, rows, logits = _losses(model, tensors)
            np.add.at(sums, np.array(batch)[rows.numpy()], losses.double().cpu().numpy())
            if soft:
                terms = soft_terms(logits, soft).double().cpu().numpy()
                np.add.at(sums, np.array(batch)[soft["row"].cpu().numpy()], terms)
            progress_bar.update(len(batch))
    model.train(was_training)
    return NLL(sums, counts)


def _losses(model: Any, tensors: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The NLL of every supervised token of a batch, the row of the batch that each stands in, and the float32 logits."""
    classes, pairs = is_classifier(model), is_encoder_decoder(model)
    labels, kept = tensors.pop("labels"), tensors.pop("shift_labels", None)
    given = {"labels": labels} if pairs else {}  # an encoder-decoder reads the answer in its decoder
    given |= {} if classes else {"use_cache": False}
    logits = model(**tensors, **given).logits.float()
    if classes:
        return class_losses(logits, labels), torch.arange(len(labels)), logits
    if pairs:
        return pair_losses(logits, labels), (labels != IGNORE).nonzero()[:, 0].cpu(), logits
    if kept is not None:
        losses = torch.nn.functional.cross_entropy(logits, kept, reduction="none")
        return losses, tensors["logits_to_keep"].nonzero()[:, 0].cpu(), logits
    shifted, logits = labels[:, 1:], logits[:, -labels.shape[1] :]  # a soft prompt has logits of its own
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), shifted, reduction="none")
    return losses[shifted != IGNORE], (shifted != IGNORE).nonzero()[:, 0].cpu(), logits


def autocast(model: Any) -> contextlib.AbstractContextManager[Any]:
    """16-bit arithmetic for a model whose weights are (partly) stored in 16 bits; float32 stays float32."""
    dtypes = {p.dtype for p in model.parameters()} & {torch.bfloat16, torch.float16}
    if not dtypes:
        return contextlib.nullcontext()
    return torch.autocast(next(model.parameters()).device.type, dtype=dtypes.pop())
