"""Exact match as a local `evaluate` module."""

from finetune_utils import scores
from finetune_utils.metrics import base


class ExactMatch(base.TextMetric):
    """Share of predictions that equal a reference; letter case and runs of blanks do not count."""

    def _compute(self, predictions, references):
        hits = scores.exact_match(predictions, references)
        return {"exact_match": sum(hits) / len(hits)}
