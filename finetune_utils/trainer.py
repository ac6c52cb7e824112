"""The stock `transformers.Trainer` with additions: examples in the order given, the attention that suits a batch, soft labels,
one label a row, and pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import SequentialSampler
from transformers import Trainer

from .class_labels import class_losses, is_classifier
from .quick_lora import plain_attention
from .seq2seq import is_encoder_decoder, pair_losses
from .soft_labels import soft_terms
from .tokenization import IGNORE


class CourseTrainer(Trainer):
    """The stock Trainer, told to take the examples in the order given.

    A model with a classification head gets the loss of one label a row, a batch with soft labels their terms beside the
    stock loss; any other batch goes through unchanged.
    """

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """The stock step, with the attention that is quicker at the length of this batch: a single long row among the
        training rows slows down its own step and no other."""
        with plain_attention(self.model, inputs["input_ids"].shape[1]):
            return super().training_step(model, inputs, *args, **kwargs)

    def compute_loss(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The stock loss (mean NLL a supervised token of the whole step), plus the terms of soft labels over the same count."""
        if is_classifier(self.model) or is_encoder_decoder(self.model):  # `model` may be wrapped for several processes
            return self._own_loss(model, inputs, return_outputs, num_items_in_batch)
        if "soft_labels" not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        soft = inputs["soft_labels"]
        inputs = {name: value for name, value in inputs.items() if name != "soft_labels"}
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        loss = loss + soft_terms(outputs.logits, soft).sum() * self._share(inputs["labels"][:, 1:], num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _own_loss(self, model: Any, inputs: Any, return_outputs: bool, count: torch.Tensor | int | None) -> Any:
        """Mean NLL a label of the whole step, for heads whose own loss averages every forward pass by itself: with
        accumulation the Trainer, which expects a sum over the step's count, would take the sum of the means."""
        labels = inputs["labels"]
        given = {name: value for name, value in inputs.items() if name != "labels"}
        if is_classifier(self.model):
            outputs = model(**given)
            losses = class_losses(outputs.logits, labels)
        else:  # the decoder reads the answer
            outputs = model(**given, labels=labels)
            losses = pair_losses(outputs.logits, labels)
        loss = losses.sum() * self._share(labels, count)
        return (loss, outputs) if return_outputs else loss

    def _share(self, labels: torch.Tensor, count: torch.Tensor | int | None) -> Any:
        """What a sum of losses is multiplied by: one over the labels of the whole step (`count`), or of this batch alone."""
        if count is None:
            return 1 / (labels != IGNORE).sum()
        return self.accelerator.num_processes / count  # processes average their gradients
