"""Local modules for the `evaluate` library: a folder each, loaded by path, so that no hub is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import UserError

FOLDER = Path(__file__).resolve().parent
METRICS = ("accuracy", "bleu", "embedding_similarity", "exact_match", "macro_f1", "rouge")


def load_metric(name: str) -> Any:
    """Load one of the course's metrics as an `evaluate` module: `load_metric("rouge").compute(predictions=..., references=...)`.

    `evaluate.load("rouge")` would fetch code from a hub and run it; this loads the folder of that name beside this file.
    Results of several go together with `evaluate.combine([load_metric("rouge"), load_metric("bleu")])`.

    Raises:
        UserError: there is no such metric, or the library is not installed.
    """
    if name not in METRICS:
        raise UserError(f"Unknown metric {name!r}: choose one of {', '.join(METRICS)}.")
    try:
        import evaluate
    except ModuleNotFoundError as error:
        raise UserError("Metrics need the package evaluate: run `pip install evaluate`.") from error
    # In memory: two loaded copies of one metric would otherwise fight over a file in the cache.
    return evaluate.load(str(FOLDER / name), keep_in_memory=True)
