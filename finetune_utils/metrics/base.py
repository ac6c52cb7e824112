"""What the course's `evaluate` modules share: the kinds of rows they take and one clear line for bad ones."""

from __future__ import annotations

from typing import Any

import evaluate
from datasets import Features, Sequence, Value

from ..scores import check_same_rows


class PairMetric(evaluate.Metric):
    """A metric that sets each prediction against its reference. Subclasses write `_compute`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__ or "", citation="", inputs_description="", features=self._features()
        )

    def _features(self) -> list[Features]:
        raise NotImplementedError

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Take one batch of rows; `compute` comes through here too.

        Raises:
            UserError: different numbers of predictions and references, or no rows.
        """
        check_same_rows(predictions, references)
        super().add_batch(predictions=predictions, references=references, **kwargs)


class TextMetric(PairMetric):
    """Texts against one reference text each, or against a list of them."""

    def _features(self) -> list[Features]:
        text = Value("string")
        return [Features(predictions=text, references=kind) for kind in (text, Sequence(text))]


class LabelMetric(PairMetric):
    """Labels against labels: whole numbers or names."""

    def _features(self) -> list[Features]:
        return [Features(predictions=Value(kind), references=Value(kind)) for kind in ("int64", "string")]
