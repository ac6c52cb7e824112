"""`run.json`: what a fine-tuning run leaves beside its weights, so that what was trained is what is asked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import processes
from .checkpoints import last_checkpoint
from .data import fold, write_rows
from .errors import UserError, writing
from .files import Row
from .models import RUN_FILE
from .results import write_text

TEST_FILE = "test.jsonl"
HISTORY_FILE = "history.jsonl"  # loss, rate and gradient norm of every step
# What must agree between an interrupted run and its continuation.
SAME_ON_RESUME = ("model", "data_sha256", "template", "full", "max_length", "test_size", "settings")


@dataclass
class RunRecord:
    """One run of `finetune`.

    Attributes:
        model: name or folder of the untuned model.
        data: name of the file; `data_sha256` identifies its content.
        template: how a question becomes a prompt.
        full: all weights were trained (else a LoRA adapter).
        settings: everything that went into `training.TrainSettings`.
        train_rows: short hashes of the rows trained on, so that `evaluate` can tell seen rows from unseen ones.
        status: `running` until the weights are saved, then `complete`.
        results: what was measured on the test rows.
    """

    model: str
    data: str
    data_sha256: str
    kind: str
    template: str
    full: bool
    max_length: int
    test_size: float
    settings: dict[str, Any]
    train_rows: list[str]
    test_file: str = TEST_FILE
    status: str = "running"
    results: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write `run.json` (atomically).

        Raises:
            UserError: the folder cannot be written or the disk is full.
        """
        with writing(folder / RUN_FILE, "free some space, or choose a folder that may be written to"):
            write_text(folder / RUN_FILE, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    def check_same(self, other: RunRecord, folder: Path) -> None:
        """Refuse to continue a run with different data or settings.

        Raises:
            UserError: names what differs.
        """
        for name in SAME_ON_RESUME:
            old, new = getattr(self, name), getattr(other, name)
            if old != new:
                if isinstance(old, dict):
                    name, old, new = next(
                        (k, old.get(k), new.get(k)) for k in {**old, **new} if old.get(k) != new.get(k)
                    )
                raise UserError(
                    f"{folder}: the interrupted run had {name} {old!r}, this one has {new!r}; a run can only be resumed "
                    "with the same data and settings. Use them again, or choose another --output."
                )


def read_record(folder: Path) -> RunRecord | None:
    """Read a folder's `run.json`; None when there is none.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        return None
    try:
        return RunRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        # The folder may hold more than this run: never advise to delete it.
        found, do = "no record of a run, or a damaged one", "move it away, or choose another folder"
        raise UserError.at(path, found=found, expected="what `finetune` writes", do=do) from error


def row_hash(row: Mapping[str, Any]) -> str:
    """A short fingerprint of what a row asks and answers; case and spaces do not matter."""
    content = {key: fold(row[key]) for key in ("question", "answer", "text") if key in row}
    content |= {f"{i} {m['role']}": fold(m["content"]) for i, m in enumerate(row.get("messages", ()))}
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def question_of(row: Mapping[str, Any]) -> str | None:
    """The question that the row's answer belongs to (of a conversation: the last one); None for plain text."""
    if "messages" in row:
        return next(m["content"] for m in reversed(row["messages"]) if m["role"] == "user")
    return row.get("question")


def reference_of(row: Mapping[str, Any]) -> str:
    """What the model should say: the answer, the last assistant turn, or the text."""
    if "messages" in row:
        return row["messages"][-1]["content"]
    return row["text"] if "text" in row else row["answer"]


def answer_of(row: Mapping[str, Any]) -> str:
    """What makes two rows leak into each other: the reference, whatever its case and spaces."""
    return fold(reference_of(row))


def save_test_rows(folder: Path, rows: Sequence[Row]) -> None:
    """Keep the test rows beside the weights, ready for `evaluate`."""
    if rows:
        write_rows(folder / TEST_FILE, rows)


@contextlib.contextmanager
def run_folder(folder: Path | None, record: RunRecord, resume: bool, say: Callable[[str], None]) -> Iterator[bool]:
    """Mark a run as begun in its output folder; yields True when there is a checkpoint to go on from.

    After a failure before the first checkpoint nothing is left of what the run had written; later ones can be resumed.

    Raises:
        UserError: the folder holds something else, cannot be written, or does not fit the run to be resumed.
    """
    if folder is None:
        if resume:
            raise UserError("--resume needs the --output folder of the interrupted run.")
        yield False
        return
    if not processes.is_first():
        yield processes.agree(False)  # whatever the first process found
        return
    _check_folder(folder, record, resume)
    if resume:
        if last_checkpoint(folder) is None:
            say("The interrupted run had not written a checkpoint yet: starting from the beginning.")
        yield processes.agree(last_checkpoint(folder) is not None)
        return
    new = [path for path in (folder, *folder.parents) if not path.exists()]  # the outermost one last
    try:
        with writing(folder, "choose another --output"):
            folder.mkdir(parents=True, exist_ok=True)
            record.save(folder)
        yield processes.agree(False)
    except Exception:
        if last_checkpoint(folder) is None:
            for path in [new[-1]] if new else list(folder.iterdir()):
                _remove(path)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # it may never have come to be
            path.unlink()


def _check_folder(folder: Path, record: RunRecord, resume: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError.at(folder, found="a file", expected="a folder or nothing", do="choose another --output")
    old = read_record(folder)
    if resume:
        if old is None:
            raise UserError(f"{folder}: found no run to resume (no {RUN_FILE}); start without --resume.")
        if old.status == "complete":
            raise UserError(f"{folder}: this run is complete; there is nothing to resume.")
        old.check_same(record, folder)
    elif old is not None:
        state = "a finished run" if old.status == "complete" else "an interrupted run (--resume continues it)"
        raise UserError(f"{folder}: already holds {state}; choose another --output or delete the folder.")
    elif folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: is not empty; choose another --output, so that nothing is overwritten.")
