"""`train()` on the stock `transformers.Trainer`, and the token-weighted NLL that judges it."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import Trainer, TrainingArguments

from . import processes
from .batching import collator_for, example_order, fill_last_batch
from .checkpoints import remove_checkpoints, run_trainer
from .class_labels import is_classifier
from .errors import UserError
from .hardware import Precision, choose_precision, peak_memory_bytes, set_seed, use_fast_fp32
from .nll import token_nll
from .progress import bar
from .quick_lora import quick_lora
from .tokenization import Example, check_ends
from .trainer import CourseTrainer
from .watcher import Watcher

# Seconds between checkpoints: a killed run loses less than two minutes.
CHECKPOINT_SECONDS = float(os.environ.get("FINETUNE_CHECKPOINT_SECONDS") or 110)


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides how a run goes, apart from model and data.

    Attributes:
        epochs: passes over the examples; `max_steps` (when above 0) overrules it.
        learning_rate: None takes `default_learning_rate` for the kind of model.
        batch_size: examples per forward pass, of all processes together.
        accumulation: forward passes per optimizer step.
        warmup: share of the steps in which the rate rises from 0.
        schedule: what the rate does after that, in the Trainer's words (`linear`, `cosine`, `constant`).
        weight_decay: AdamW's pull toward zero.
        max_grad_norm: longer gradients are shortened to this length.
        seed: order of the examples, dropout, new weights.
        group_by_length: batches of similar length waste less padding.
        shuffle: False keeps the given order (and does not group).
        evaluate_every: steps between scores on the evaluation examples (0: only at the end).
        patience: stop after so many scores without improvement and go back to the best weights (0: never).
        checkpoint_every: steps between checkpoints (0: by the clock, one every two minutes).
    """

    epochs: float = 1.0
    max_steps: int = 0
    learning_rate: float | None = None
    batch_size: int = 8
    accumulation: int = 1
    warmup: float = 0.1
    schedule: str = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 0
    group_by_length: bool = True
    shuffle: bool = True
    evaluate_every: int = 0
    patience: int = 0
    checkpoint_every: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulation"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: it must be at least 1.")
        if not 0 < self.epochs < math.inf and self.max_steps <= 0:
            raise UserError(f"epochs is {self.epochs}: it must be above 0 (or give max_steps).")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed is {self.seed}: it must be a whole number from 0 to {2**32 - 1}.")
        if self.learning_rate is not None and not 0 <= self.learning_rate <= 1:
            raise UserError(
                f"learning_rate is {self.learning_rate}: it must lie between 0 and 1; usual are 1e-5 to 1e-3."
            )

    @property
    def step_size(self) -> int:
        """Examples that decide one optimizer step."""
        return self.batch_size * self.accumulation


def default_learning_rate(full: bool) -> float:
    """LoRA trains few weights that start at zero, so it takes larger steps than full fine-tuning."""
    return 5e-5 if full else 1e-3


@dataclass
class TrainResult:
    """What a run did.

    `history` has one entry a step: step, epoch, loss (mean NLL a supervised token, nats), learning_rate,
    grad_norm, seconds since the start; and `eval_nll` where the evaluation examples were scored. `operations` is the
    Trainer's count of floating-point operations: 6 x tokens x parameters outside the embeddings.
    """

    history: list[dict[str, float]]
    steps: int
    seconds: float
    examples_per_second: float
    tokens_per_second: float
    peak_memory_bytes: int
    operations: float
    stopped_early: bool = False
    best_step: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def losses(self) -> list[float]:
        """The training loss of every step."""
        return [entry["loss"] for entry in self.history if "loss" in entry]


def train(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    settings: TrainSettings | None = None,
    *,
    eval_examples: Sequence[Example] | None = None,
    precision: Precision | None = None,
    output: Path | None = None,
    keep_checkpoints: bool = False,
    resume: bool = False,
    optimizer: Callable[[Any, float], torch.optim.Optimizer] | None = None,
    on_step: Callable[[dict[str, float]], None] | None = None,
    progress: bool | None = None,
) -> TrainResult:
    """Fine-tune `model` in place and return what happened; of several processes each takes its share of every batch.

    Args:
        examples: dicts of `input_ids`, `labels` (-100: nothing is learned) and perhaps `soft_labels` (see that module).
            A model with a classification head takes those of `class_labels`.
        eval_examples: scored (token-weighted NLL) every `settings.evaluate_every` steps.
        output: folder for checkpoints, at least one every two minutes; they go at the end unless `keep_checkpoints`.
        resume: go on from the last checkpoint in `output`, to the weights an uninterrupted run reaches.
        optimizer: makes another optimizer than AdamW from the model and the learning rate.
        on_step: called with each entry of the history, for a live plot.

    Raises:
        UserError: unusable examples, nothing to resume from, a damaged checkpoint, a full disk.
    """
    processes.join()
    settings = settings or TrainSettings()
    _check_examples(model, examples, tokenizer)
    precision = precision or choose_precision(next(model.parameters()).device)
    use_fast_fp32()
    set_seed(settings.seed)
    order = [examples[i] for i in _order(examples, settings)]
    with contextlib.ExitStack() as stack:
        folder = output or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="finetune-")))
        progress_bar = stack.enter_context(bar(_steps(order, settings), "Training", "step", progress))
        score = (lambda: token_nll(model, eval_examples, tokenizer).mean) if eval_examples else None
        pause = CHECKPOINT_SECONDS if output else math.inf
        watcher = Watcher(settings, len(examples) / settings.step_size, progress_bar, score, on_step, pause)
        trainer = _make_trainer(model, tokenizer, order, settings, precision, folder, watcher, optimizer)
        seconds = _run(trainer, folder, resume)
        if output and not keep_checkpoints:
            remove_checkpoints(folder)
    watcher.restore_best(model)
    model.eval()
    return _result(trainer, watcher, seconds, order, settings, precision)


@contextlib.contextmanager
def own_forward(model: Any) -> Iterator[None]:
    """Take back what the Trainer does to `model.forward`: it would go on computing in 16 bits after the run."""
    try:
        yield
    finally:
        if vars(model).pop("_original_forward", None) is not None:
            del model.forward


def _check_examples(model: Any, examples: Sequence[Example], tokenizer: Any) -> None:
    if not examples:
        raise UserError("There are no examples to train on.")
    if not is_classifier(model):  # a class has no end
        check_ends(examples, tokenizer)


def _run(trainer: Trainer, folder: Path, resume: bool) -> float:
    """Train with the quick steps that this machine has; returns seconds."""
    with quick_lora(trainer.model), own_forward(trainer.model):
        started = time.perf_counter()
        run_trainer(trainer, folder, resume)
        return time.perf_counter() - started


def _order(examples: Sequence[Example], settings: TrainSettings) -> list[int]:
    """Which example comes when, over the whole run."""
    return example_order(
        [len(e["input_ids"]) for e in examples], settings.batch_size, settings.accumulation, settings.epochs,
        settings.max_steps, settings.seed, settings.group_by_length, settings.shuffle,
    )  # fmt: skip


def _steps(order: Sequence[Example], settings: TrainSettings) -> int:
    return math.ceil(len(order) / settings.step_size)


def _make_trainer(
    model: Any,
    tokenizer: Any,
    examples: list[Example],
    settings: TrainSettings,
    precision: Precision,
    folder: Path,
    watcher: Watcher,
    optimizer: Callable[[Any, float], torch.optim.Optimizer] | None,
) -> Trainer:
    device, rate = next(model.parameters()).device, learning_rate_of(model, settings)
    if processes.count() > 1:
        examples = fill_last_batch(examples, settings.batch_size, tokenizer.pad_token_id)
    trainer = CourseTrainer(
        model=model,
        args=_arguments(folder, settings, _steps(examples, settings), precision, device, rate),
        optimizers=(optimizer(model, rate) if optimizer else None, None),
        train_dataset=examples,
        data_collator=collator_for(model, tokenizer),
        callbacks=[watcher],
    )
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    return trainer


def _result(
    trainer: Trainer,
    watcher: Watcher,
    seconds: float,
    order: Sequence[Example],
    settings: TrainSettings,
    precision: Precision,
) -> TrainResult:
    trained = order[watcher.first_step * settings.step_size : trainer.state.global_step * settings.step_size]
    return TrainResult(
        history=watcher.history,
        steps=trainer.state.global_step,
        seconds=seconds,
        examples_per_second=len(trained) / seconds,
        tokens_per_second=sum(len(e["input_ids"]) for e in trained) / seconds,
        peak_memory_bytes=peak_memory_bytes(),
        operations=trainer.state.total_flos,
        stopped_early=watcher.stopped_early,
        best_step=watcher.best[1] if watcher.best else None,
        settings=asdict(settings) | {"precision": precision.name, "learning_rate": trainer.args.learning_rate},
    )


def learning_rate_of(model: Any, settings: TrainSettings) -> float:
    """The rate of the settings, or the default for this kind of model."""
    if settings.learning_rate is not None:
        return settings.learning_rate
    return default_learning_rate(full=not hasattr(model, "peft_config"))


def _arguments(
    folder: Path, settings: TrainSettings, steps: int, precision: Precision, device: torch.device, rate: float
) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=processes.share_of(settings.batch_size),
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=round(settings.warmup * steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        bf16=precision.dtype == torch.bfloat16,
        fp16=precision.dtype == torch.float16,
        use_cpu=device.type == "cpu",
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss of nan must be seen, not replaced
        save_strategy="no",  # the watcher asks for checkpoints by the clock
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
        dataloader_drop_last=False,
        ddp_find_unused_parameters=False,  # every trained weight has a part in every step
        remove_unused_columns=False,
        label_names=["labels"],
    )
