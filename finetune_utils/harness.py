"""The same multiple-choice questions through lm-evaluation-harness: an independent check of `multiple_choice`."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UserError
from .files import write_rows
from .multiple_choice import read_choices

# `{folder}` holds rows.jsonl: question, choices and answer (a position from 0) a line.
TASK = """\
task: course_task
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{folder}/rows.jsonl"}}, cache_dir: "{folder}/cache"}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""


@dataclass(frozen=True)
class HarnessScores:
    """What lm-evaluation-harness found: one array of log-likelihoods (nats) a question, and its two accuracies."""

    log_likelihoods: list[np.ndarray]
    right: list[float]
    right_norm: list[float]
    acc: float
    acc_norm: float


def harness_installed() -> bool:
    """True when lm-evaluation-harness can be imported (the extra `eval`)."""
    return importlib.util.find_spec("lm_eval") is not None


def harness_scores(
    model: Any, tokenizer: Any, rows: Sequence[Mapping[str, Any]], batch_size: int = 16
) -> HarnessScores:
    """Score multiple-choice rows (see `multiple_choice.read_choices`) with lm-evaluation-harness, offline.

    The task is a local file, so no index of tasks is read and no hub is asked.

    Raises:
        UserError: the harness is not installed, or a row is not a multiple-choice question.
    """
    if not harness_installed():
        raise UserError('lm-evaluation-harness is not installed: run `pip install "lm-eval>=0.4.8"`.')
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    questions = [read_choices(row, line=number) for number, row in enumerate(rows, start=1)]
    plain = [{"question": q.question, "choices": list(q.choices), "answer": q.answer} for q in questions]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        write_rows(folder / "rows.jsonl", plain)
        task = TASK.format(folder=folder.as_posix())
        (folder / "course_task.yaml").write_text(task, encoding="utf-8")
        device = str(next(model.parameters()).device)
        with _quiet():
            found = lm_eval.simple_evaluate(
                model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device=device),
                tasks=["course_task"],
                task_manager=TaskManager(include_path=str(folder), include_defaults=False),
                num_fewshot=0,
                bootstrap_iters=0,
                log_samples=True,
            )
    samples = sorted(found["samples"]["course_task"], key=lambda sample: sample["doc_id"])
    result = found["results"]["course_task"]
    return HarnessScores(
        [np.array([float(response[0][0]) for response in sample["resps"]]) for sample in samples],
        [float(sample["acc"]) for sample in samples],
        [float(sample["acc_norm"]) for sample in samples],
        float(result["acc,none"]),
        float(result["acc_norm,none"]),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The harness logs and draws bars; errors still come through as exceptions."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
