"""Follows a training run step by step: history, progress bar, checkpoints, scores, early stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback

from . import processes


class Watcher(TrainerCallback):
    """Records every step, moves the bar, asks for checkpoints, scores, and stops early."""

    def __init__(
        self,
        settings: Any,
        per_epoch: float,
        progress: Any = None,
        score: Callable[[], float] | None = None,
        on_step: Callable[[dict[str, float]], None] | None = None,
        checkpoint_seconds: float = math.inf,
    ) -> None:
        """Prepare to follow a run.

        Args:
            settings: the run's `TrainSettings`.
            per_epoch: optimizer steps an epoch.
            progress: the bar to move.
            score: returns the NLL of the evaluation examples.
            on_step: called with each entry of the history.
            checkpoint_seconds: time between checkpoints where the settings name no steps; infinite: no checkpoints.
        """
        self.settings, self.per_epoch, self.progress, self.score = settings, per_epoch, progress, score
        self.on_step, self.checkpoint_seconds = on_step, checkpoint_seconds
        self.history: list[dict[str, float]] = []
        self.started = self.saved = time.perf_counter()
        self.best: tuple[float, int, dict[str, torch.Tensor]] | None = None
        self.worse, self.stopped_early, self.first_step = 0, False, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock; a resumed run starts its bar where it left off."""
        self.started = self.saved = time.perf_counter()
        self.first_step = state.global_step
        if self.progress is not None:
            self.progress.update(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Keep the step's loss, rate and gradient norm."""
        if not logs or "loss" not in logs:
            return
        entry = {"step": state.global_step, "epoch": state.global_step / self.per_epoch}
        entry |= {name: float(logs[name]) for name in ("loss", "learning_rate", "grad_norm") if name in logs}
        entry["seconds"] = time.perf_counter() - self.started
        if self.history and self.history[-1]["step"] == state.global_step:  # the score came first
            entry = self.history.pop() | entry
        self.history.append(entry)
        if self.progress is not None:
            self.progress.set_postfix_str(f"loss {entry['loss']:.3f}", refresh=False)
            self.progress.update(1)
        if self.on_step:
            self.on_step(entry)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> Any:
        """Score where it is due, and ask for a checkpoint where one is due."""
        every = self.settings.evaluate_every or state.max_steps
        if self.score and state.global_step % every == 0:
            self._score(state.global_step, model, control)
        every = self.settings.checkpoint_every
        waited = time.perf_counter() - self.saved
        due = state.global_step % every == 0 if every else waited > self.checkpoint_seconds
        if self.checkpoint_seconds < math.inf and processes.agree(due):
            control.should_save = True
            self.saved = time.perf_counter()
        return control

    def _score(self, step: int, model: Any, control: Any) -> None:
        value = processes.agree(self.score())
        model.train()
        self.history.append({"step": step, "epoch": step / self.per_epoch, "eval_nll": value})
        if self.best is None or value < self.best[0]:
            kept = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
            self.best, self.worse = (value, step, kept if self.settings.patience else {}), 0
        else:
            self.worse += 1
        if self.settings.patience and self.worse >= self.settings.patience:
            control.should_training_stop = self.stopped_early = True

    def restore_best(self, model: Any) -> None:
        """Give the model back its best-scored weights, where the settings ask for early stopping."""
        if self.settings.patience and self.best:
            model.load_state_dict(self.best[2], strict=False)
