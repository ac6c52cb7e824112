"""ROUGE-1, ROUGE-2 and ROUGE-L as a local `evaluate` module."""

from finetune_utils import scores
from finetune_utils.metrics import base


class Rouge(base.TextMetric):
    """Mean F1 of shared words, shared word pairs and the longest common subsequence (Lin 2004)."""

    def _compute(self, predictions, references):
        rows = scores.rouge(predictions, references)
        return {name: sum(values) / len(values) for name, values in rows.items()}
