"""The three-line path: `finetune("my.jsonl")` gives an object with `.evaluate()`, `.answer()` and `.save()`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from . import hardware, processes
from .checkpoints import remove_checkpoints
from .data import deduplicate, describe, load_table, split_by_group
from .errors import UserError, writing
from .evaluation import nll_difference
from .files import Row, write_rows
from .generation import answer, fast_copy, generate
from .lora import add_lora
from .memory import estimate_memory, human_bytes
from .models import DEFAULT_MODEL, load_model, load_tokenizer, name_to_record
from .nll import NLL, token_nll
from .prompts import default_template, render_prompt
from .run_record import (
    HISTORY_FILE,
    RunRecord,
    answer_of,
    question_of,
    reference_of,
    row_hash,
    run_folder,
    save_test_rows,
)  # fmt: skip
from .runs import spread
from .tokenization import IGNORE, Example, tokenize_rows
from .training import TrainResult, TrainSettings, default_learning_rate, train
from .weights import sha256_of

EXAMPLES = 3
COLUMNS = {"qa": ["question", "answer"], "messages": ["messages"], "text": ["text"]}


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
        answers = answer(self.model, self.tokenizer, asked, self.record.template, max_new_tokens)
        return answers[0] if isinstance(questions, str) else answers

    def evaluate(self) -> dict[str, Any]:
        """What was measured on the test rows: NLL before and after, and the difference with its interval."""
        return dict(self.record.results)

    def save(self, folder: str | Path) -> Path:
        """Write weights (safetensors), tokenizer, test rows, the losses of all steps and `run.json` to `folder`.

        Raises:
            UserError: the folder cannot be written or the disk is full.
        """
        folder = Path(folder)
        with writing(folder, "free some space or choose another folder"):
            folder.mkdir(parents=True, exist_ok=True)
            self.model.save_pretrained(folder)
            if self.record.full:
                self.tokenizer.save_pretrained(folder)
        save_test_rows(folder, self.test_rows)
        write_rows(folder / HISTORY_FILE, self.training.history)
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
    """Fine-tune `model` on the rows of a file and measure it on rows it never saw (of several processes the first one does).

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
    processes.join()
    say = say if processes.is_first() else _silent
    data, folder = Path(data), Path(output) if output is not None else None
    rate = default_learning_rate(full) if learning_rate is None else learning_rate
    settings = TrainSettings(epochs, max_steps, rate, batch_size, seed=seed)
    if max_length < 1:
        raise UserError(f"max_length is {max_length}: it must be at least 1; 512 suits most rows.")
    kind, rows = _read(data, say)
    parts = _split(rows, test_size, seed, data)
    model = name_to_record(model)
    tokenizer = load_tokenizer(model, say)
    template = "plain" if kind == "text" else default_template(tokenizer)
    sets = {name: tokenize_rows(part, tokenizer, template, max_length, str(data)) for name, part in parts.items()}
    for note in (note for tokenized in sets.values() for note in tokenized.notes):
        say(f"Note: {note}")
    record = RunRecord(
        model, data.name, sha256_of(data), kind, template, full, max_length, test_size, asdict(settings),
        [row_hash(row) for row in parts["train"]],
    )  # fmt: skip
    with run_folder(folder, record, resume, say) as resume:
        return _train_and_measure(record, parts, sets, settings, folder, resume, say)


def _silent(message: str) -> None:
    """Of several processes only the first one speaks."""


def _read(data: Path, say: Callable[[str], None]) -> tuple[str, list[Row]]:
    table = load_table(data)
    say(f"Recognized {describe(table)}.")
    rows, copies = deduplicate(table.rows, COLUMNS[table.kind])
    if copies:
        say(f"Left out {len(copies)} exact {'copy' if len(copies) == 1 else 'copies'} of other rows.")
    return table.kind, rows


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
    kept = min(max(round(test_size * groups), 2), groups - 1)
    return split_by_group(rows, answer_of, {"train": groups - kept, "test": kept}, seed)


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
    say(_what_is_trained(train_set, record.kind))
    asked = _rows_to_show(parts["test"])
    if not record.full:
        # Before the first score: a new adapter changes nothing, and both scores see the frozen weights in the same format.
        model = add_lora(model, seed=settings.seed)
    before = _measure(model, tokenizer, test_set, asked, record)
    result = train(model, tokenizer, train_set, settings, output=folder, keep_checkpoints=True, resume=resume)
    say(_what_happened(result))
    after = _measure(model, tokenizer, test_set, asked, record)
    record.results = _results(before[0], after[0], parts["test"]) | {"seconds": result.seconds, "steps": result.steps}
    examples = [
        {"question": question_of(row) or "", "reference": reference_of(row), "before": b, "after": a}
        for row, b, a in zip(asked, before[1], after[1], strict=True)
    ]
    tuned = FineTuned(model, tokenizer, record, parts["test"], examples, result)
    if folder is not None:
        if processes.is_first():
            tuned.save(folder)
        remove_checkpoints(folder)
    return tuned


def _rows_to_show(rows: Sequence[Row]) -> list[Row]:
    """A few rows with a question, each with another answer, from all over the test rows."""
    by_answer = {answer_of(row): row for row in reversed(rows) if question_of(row)}
    return spread(list(by_answer.values())[::-1], EXAMPLES)


def _measure(
    model: Any, tokenizer: Any, examples: list[Example], asked: list[Row], record: RunRecord
) -> tuple[NLL | None, list[str]]:
    if not examples or not processes.is_first():
        return None, []
    score = token_nll(model, examples, tokenizer, progress=None)
    prompts = [render_prompt(row, tokenizer, record.template) for row in asked]
    return score, generate(fast_copy(model), tokenizer, prompts) if prompts else []


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


def _what_is_trained(examples: Sequence[Example], kind: str) -> str:
    supervised = sum(label != IGNORE for e in examples for label in e["labels"])
    share = f"Trained on {supervised / sum(len(e['input_ids']) for e in examples):.0%} of the tokens"
    return f"{share}." if kind == "text" else f"{share}: the answers and their ends; prompts are masked."


def _what_happened(result: TrainResult) -> str:
    if not result.losses:
        return "The interrupted run had already trained all its steps."
    last = result.losses[-max(1, len(result.losses) // 10) :]
    return (
        f"Trained {result.steps:,} steps in {result.seconds:.0f} s ({result.examples_per_second:.1f} examples/s), "
        f"loss {result.losses[0]:.2f} -> {sum(last) / len(last):.2f}."
    )
