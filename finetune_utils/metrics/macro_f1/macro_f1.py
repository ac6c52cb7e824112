"""Macro-averaged F1 as a local `evaluate` module."""

from finetune_utils import scores
from finetune_utils.metrics import base


class MacroF1(base.LabelMetric):
    """Mean of the F1 of every class: a rare class weighs as much as a common one."""

    def _compute(self, predictions, references, labels=None):
        return {"macro_f1": scores.macro_f1(predictions, references, labels)}
