"""Accuracy as a local `evaluate` module."""

from finetune_utils import scores
from finetune_utils.metrics import base


class Accuracy(base.LabelMetric):
    """Share of labels that are right."""

    def _compute(self, predictions, references):
        return {"accuracy": scores.accuracy(predictions, references)}
