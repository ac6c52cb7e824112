"""Checkpoints of a run: which one is complete, going on from it, and what to say when one cannot be written or read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from transformers import Trainer

from . import processes
from .errors import UserError, out_of_memory, writing

STATE = "trainer_state.json"  # the Trainer writes it last: a checkpoint without it was cut short
NEEDED = ("optimizer.pt", "scheduler.pt")  # without them the Trainer would silently begin with fresh ones


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint below `folder`; one that was cut short is passed over."""
    numbered = [p for p in folder.glob("checkpoint-*") if step_of(p) is not None]
    for path in sorted(numbered, key=step_of, reverse=True):
        try:
            json.loads((path / STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if all((path / name).is_file() for name in NEEDED):
            return path
    return None


def step_of(checkpoint: Path) -> int | None:
    """The step at which a checkpoint was written; None when the name does not say."""
    number = checkpoint.name.removeprefix("checkpoint-")
    return int(number) if number.isdigit() else None


def run_trainer(trainer: Trainer, folder: Path, resume: bool) -> None:
    """Train, from the last complete checkpoint in `folder` when `resume` is set.

    Raises:
        UserError: nothing to resume from, a damaged checkpoint, a full disk.
    """
    checkpoint = last_checkpoint(folder) if resume else None
    if resume and checkpoint is None:
        raise UserError(f"{folder}: found no complete checkpoint to resume from; start without --resume.")
    for path in folder.glob("checkpoint-*") if checkpoint and processes.is_first() else ():
        if (step_of(path) or 0) > (step_of(checkpoint) or 0):
            shutil.rmtree(path)  # cut short: the Trainer keeps the highest number and would drop the good ones
    try:
        with writing(folder, "free some space, then go on from the last complete checkpoint with --resume"):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except Exception as error:
        begun = checkpoint is None or trainer.state.global_step > (step_of(checkpoint) or 0)
        if begun or out_of_memory(error):
            raise
        cause = error.__cause__ or error  # nothing was trained, so nothing was written: reading failed
        first_line = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:120]
        do = "delete this folder and run the same command again"
        raise UserError.at(checkpoint, found=f"a damaged checkpoint ({first_line})", do=do) from error


def remove_checkpoints(folder: Path) -> None:
    """Remove the Trainer's own state once a run is complete (its optimizer state is a pickle and of no more use)."""
    processes.wait()  # each process has written a part of it
    for path in folder.glob("checkpoint-*") if processes.is_first() else ():
        shutil.rmtree(path)
