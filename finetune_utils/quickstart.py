"""The three-line path: `finetune("my.jsonl")` gives an object with `.evaluate()`, `.answer()` and `.save()`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from . import hardware
from .data import deduplicate, describe, load_table, split_by_group
from .errors import UserError, os_reason
from .evaluation import nll_difference
from .files import Row
from .generation import answer, fast_copy
from .lora import add_lora
from .memory import estimate_memory, human_bytes
from .models import DEFAULT_MODEL, load_model, load_tokenizer
from .nll import NLL, token_nll
from .prompts import default_template
from .run_record import RunRecord, answer_of, question_of, read_record, row_hash, save_test_rows
from .tokenization import Example, tokenize_rows
from .training import TrainResult, TrainSettings, default_learning_rate, train
from .weights import sha256_of

EXAMPLES = 3


@dataclass
class FineTuned:
    """A fine-tuned model with what is needed to ask and judge it."""

    model: Any
    tokenizer: Any
    record: RunRecord
    test_rows: list[Row]
    examples: list[dict[str, str]]
    training: TrainResult

    def answer(self, questions: str | Sequence[str], max_new_tokens: int = 64) -> str | list[str]:
        """Answer one question, or a list of them, through the template it was trained with."""
        asked = [questions] if isinstance(questions, str) else list(questions)
        template = self.record.template if self.record.kind == "qa" else None
        answers = answer(self.model, self.tokenizer, asked, template, max_new_tokens)
        return answers[0] if isinstance(questions, str) else answers

    def evaluate(self) -> dict[str, Any]:
        """What was measured on the test rows: NLL before and after, and the difference with its interval."""
        return dict(self.record.results)

    def save(self, folder: str | Path) -> Path:
        """Write weights (safetensors), tokenizer, test rows and `run.json` to `folder`.

        Raises:
            UserError: the folder cannot be written or the disk is full.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.model.save_pretrained(folder)
            if self.record.full:
                self.tokenizer.save_pretrained(folder)
        except OSError as error:
            raise UserError(f"{folder}: cannot save the model ({os_reason(error)}).") from error
        save_test_rows(folder, self.test_rows)
        replace(self.record, status="complete").save(folder)
        return folder


def finetune(
    data: str | Path,
    model: str = DEFAULT_MODEL,
    output: str | Path | None = None,
    *,
    full: bool = False,
    epochs: float = 1.0,
    max_steps: int = 0,
    learning_rate: float | None = None,
    batch_size: int = 8,
    max_length: int = 512,
    seed: int = 0,
    resume: bool = False,
    test_size: float = 0.1,
    say: Callable[[str], None] = print,
) -> FineTuned:
    """Fine-tune `model` on the rows of a file and measure it on rows it never saw.

    Args:
        data: rows in any shape that `data.recognize` knows.
        output: folder for checkpoints and the result; None keeps the result in memory (`.save()` writes it).
        full: train all weights instead of a LoRA adapter.
        test_size: share of the rows kept for testing (0: none). Rows with equal answers stay on one side.
        resume: continue an interrupted run in `output`.

    Raises:
        UserError: anything wrong with the file, the settings, the model or the folder; nothing is left behind.
    """
    hardware.quiet()
    data, folder = Path(data), Path(output) if output is not None else None
    table = load_table(data)
    say(f"Recognized {describe(table)}.")
    tokenizer = load_tokenizer(model)
    template = default_template(tokenizer)
    rows, copies = deduplicate(table.rows, _columns(table.kind))
    if copies:
        say(f"Left out {len(copies)} exact {'copy' if len(copies) == 1 else 'copies'} of other rows.")
    parts = _split(rows, test_size, seed, data)
    sets = {name: tokenize_rows(part, tokenizer, template, max_length, str(data)) for name, part in parts.items()}
    for note in (note for tokenized in sets.values() for note in tokenized.notes):
        say(f"Note: {note}")
    rate = learning_rate if learning_rate is not None else default_learning_rate(full)
    settings = TrainSettings(epochs, max_steps, rate, batch_size, seed=seed)
    record = RunRecord(
        model, data.name, sha256_of(data), table.kind, template, full, max_length, test_size, asdict(settings),
        [row_hash(row) for row in parts["train"]],
    )  # fmt: skip
    fresh = folder is not None and not folder.exists()
    _prepare(folder, record, resume)
    try:
        return _train_and_measure(record, parts, sets, settings, folder, resume, say)
    except UserError:
        if fresh and folder is not None and not any(folder.glob("checkpoint-*")):
            _remove_record(folder)
        raise


def _columns(kind: str) -> list[str]:
    return {"qa": ["question", "answer"], "messages": ["messages"], "text": ["text"]}[kind]


def _split(rows: list[Row], test_size: float, seed: int, data: Path) -> dict[str, list[Row]]:
    if not 0 <= test_size < 1:
        raise UserError(f"--test-size is {test_size}: it must be at least 0 and below 1.")
    if test_size == 0:
        return {"train": rows, "test": []}
    groups = len({answer_of(row) for row in rows})
    if groups < 4:
        raise UserError.at(
            data,
            found=f"{groups} different answers",
            expected="at least 4, so that some can be kept for testing",
            do="add rows, or pass --test-size 0 to train without a test",
        )
    # Two groups at least on the test side: an interval needs something to resample.
    share = max(test_size, 2 / groups)
    return split_by_group(rows, answer_of, {"train": 1 - share, "test": share}, seed)


def _prepare(folder: Path | None, record: RunRecord, resume: bool) -> None:
    """Make the output folder and mark the run as begun, or check that it may be resumed."""
    if folder is None:
        if resume:
            raise UserError("--resume needs the --output folder of the interrupted run.")
        return
    if folder.exists() and not folder.is_dir():
        raise UserError.at(folder, found="a file", expected="a folder or nothing", do="choose another --output")
    old = read_record(folder)
    if resume:
        if old is None:
            raise UserError(f"{folder}: found no run to resume (no run.json); start without --resume.")
        if old.status == "complete":
            raise UserError(f"{folder}: this run is complete; there is nothing to resume.")
        old.check_same(record, folder)
        return
    if old is not None:
        state = "a finished run" if old.status == "complete" else "an interrupted run (--resume continues it)"
        raise UserError(f"{folder}: already holds {state}; choose another --output or delete the folder.")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: is not empty; choose another --output, so that nothing is overwritten.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({os_reason(error)}); choose another --output.") from error
    record.save(folder)


def _remove_record(folder: Path) -> None:
    """After a failure before the first checkpoint, leave nothing of the new folder."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _train_and_measure(
    record: RunRecord,
    parts: dict[str, list[Row]],
    sets: dict[str, Any],
    settings: TrainSettings,
    folder: Path | None,
    resume: bool,
    say: Callable[[str], None],
) -> FineTuned:
    model, tokenizer = load_model(record.model, say=say)
    train_set, test_set = sets["train"].examples, sets["test"].examples
    longest = max(len(e["input_ids"]) for e in train_set)
    need = estimate_memory(model, "full" if record.full else "lora", settings.batch_size, longest)
    say(
        f"{len(train_set):,} rows to train on, {len(test_set):,} to test on; {sets['train'].tokens:,} tokens an epoch. "
        f"Needs about {human_bytes(need.total)} of memory ({human_bytes(hardware.free_memory_bytes())} free)."
    )
    say(_label_preview(train_set))
    asked = [q for q in map(question_of, parts["test"][:EXAMPLES]) if q]
    before = _measure(model, tokenizer, test_set, asked, record)
    if not record.full:
        model = add_lora(model, seed=settings.seed)
    result = train(model, tokenizer, train_set, settings, output=folder, resume=resume)
    say(
        f"Trained {result.steps:,} steps in {result.seconds:.0f} s ({result.examples_per_second:.1f} examples/s), "
        f"loss {result.losses[0]:.2f} -> {_tail(result.losses):.2f}."
    )
    after = _measure(model, tokenizer, test_set, asked, record)
    record.results = _results(before[0], after[0], parts["test"]) | {"seconds": result.seconds, "steps": result.steps}
    examples = [
        {"question": q, "reference": row.get("answer", ""), "before": b, "after": a}
        for q, row, b, a in zip(asked, parts["test"], before[1], after[1], strict=False)
    ]
    tuned = FineTuned(model, tokenizer, record, parts["test"], examples, result)
    if folder is not None:
        tuned.save(folder)
    return tuned


def _measure(
    model: Any, tokenizer: Any, examples: list[Example], asked: list[str], record: RunRecord
) -> tuple[NLL | None, list[str]]:
    if not examples:
        return None, []
    score = token_nll(model, examples, tokenizer, progress=None)
    template = record.template if record.kind == "qa" else None
    return score, answer(fast_copy(model), tokenizer, asked, template) if asked else []


def _results(before: NLL | None, after: NLL | None, rows: list[Row]) -> dict[str, Any]:
    if before is None or after is None:
        return {}
    change = nll_difference(before, after, [answer_of(row) for row in rows])
    return {
        "test_rows": len(rows),
        "nll_before": before.mean,
        "nll_after": after.mean,
        "nll_change": change.estimate,
        "nll_change_low": change.low,
        "nll_change_high": change.high,
    }


def _label_preview(examples: Sequence[Example]) -> str:
    supervised = sum(label != -100 for e in examples for label in e["labels"])
    total = sum(len(e["input_ids"]) for e in examples)
    return f"Trained on {supervised / total:.0%} of the tokens: the answers and their end; prompts are masked."


def _tail(losses: Sequence[float]) -> float:
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)
