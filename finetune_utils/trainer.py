"""The stock `transformers.Trainer` with three additions: examples in the order given, soft labels, encoder-decoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import SequentialSampler
from transformers import Trainer

from .seq2seq import is_encoder_decoder, pair_loss
from .soft_labels import soft_terms
from .tokenization import IGNORE


class CourseTrainer(Trainer):
    """The stock Trainer, told to take the examples in the order given.

    A batch with soft labels gets their terms added to the loss; any other batch goes through unchanged.
    """

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def compute_loss(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The stock loss (mean NLL a supervised token of the whole step), plus the terms of soft labels over the same count."""
        if is_encoder_decoder(model):
            return pair_loss(model, inputs, num_items_in_batch, self.accelerator.num_processes, return_outputs)
        if "soft_labels" not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        soft = inputs["soft_labels"]
        inputs = {name: value for name, value in inputs.items() if name != "soft_labels"}
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if num_items_in_batch is None:
            share = 1 / (inputs["labels"][:, 1:] != IGNORE).sum()
        else:  # the stock loss was multiplied likewise: processes average their gradients
            share = self.accelerator.num_processes / num_items_in_batch
        loss = loss + soft_terms(outputs.logits, soft).sum() * share
        return (loss, outputs) if return_outputs else loss
