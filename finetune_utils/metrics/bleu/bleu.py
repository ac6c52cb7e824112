"""BLEU as a local `evaluate` module."""

from finetune_utils import scores
from finetune_utils.metrics import base


class Bleu(base.TextMetric):
    """Corpus BLEU between 0 and 100, with the settings of `sacrebleu` (Papineni et al. 2002, Post 2018)."""

    def _compute(self, predictions, references):
        return {"bleu": scores.bleu(predictions, references)}
