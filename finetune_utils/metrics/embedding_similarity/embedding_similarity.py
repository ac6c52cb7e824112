"""Similarity of sentence vectors as a local `evaluate` module."""

from finetune_utils import scores
from finetune_utils.metrics import base


class EmbeddingSimilarity(base.TextMetric):
    """Mean cosine between the sentence vectors (MiniLM) of prediction and reference."""

    def _compute(self, predictions, references, encode=None):
        rows = scores.embedding_similarity(predictions, references, encode)
        return {"embedding_similarity": sum(rows) / len(rows)}
