"""Benchmark: `train()` against its peers on the same rows, model, batch and LoRA rank, in one process.

Run it with `python tests/benchmarks/training.py` (about 15 minutes on 2 cores; `--rows 32` is quicker). Every peer runs
with its defaults and at the best setting known. Rounds are interleaved, so that a slow minute of the machine hits
everyone; speeds are medians over steps, with quartiles. The figure that counts is the ratio within one run.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import peft
import torch
import transformers
from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

from finetune_utils import hardware
from finetune_utils.lora import add_lora
from finetune_utils.models import load_model
from finetune_utils.nll import token_nll
from finetune_utils.runs import course_rows
from finetune_utils.tokenization import tokenize_rows
from finetune_utils.training import TrainSettings, train

BATCH, RANK, RATE = 8, 16, 5e-4
WARM_UP = 2  # steps not counted: each new length compiles its kernels once


class StepTimes(TrainerCallback):
    """Seconds of every optimizer step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_begin(self, *args, **kwargs) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, *args, **kwargs) -> None:
        self.times.append(time.perf_counter() - self.started)


def peft_model(model, low_base: bool = False):
    """LoRA as its documentation shows it; `low_base` stores the frozen weights in bfloat16."""
    if low_base:
        model = model.to(torch.bfloat16)
    hardware.set_seed(0)
    config = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    return peft.get_peft_model(model, config)


def arguments(folder: str, steps: int, **extra) -> TrainingArguments:
    options = {
        "output_dir": folder,
        "max_steps": steps,
        "per_device_train_batch_size": BATCH,
        "learning_rate": RATE,
        "use_cpu": True,
        "lr_scheduler_type": "cosine",
        "warmup_steps": round(0.1 * steps),
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }
    return TrainingArguments(**(options | extra))


def run_ours(model, tokenizer, rows, steps, **_):
    tuned = add_lora(model, rank=RANK)
    watch = StepTimes()
    times: list[float] = []
    last = [time.perf_counter()]

    def on_step(entry):
        now = time.perf_counter()
        times.append(now - last[0])
        last[0] = now

    examples = tokenize_rows(rows, tokenizer).examples
    train(
        tuned,
        tokenizer,
        examples,
        TrainSettings(max_steps=steps, learning_rate=RATE, batch_size=BATCH),
        on_step=on_step,
    )
    watch.times = times
    return tuned, watch.times


def run_trainer(model, tokenizer, rows, steps, low_base=False, pad_to=None, **extra):
    tuned = peft_model(model, low_base)
    examples = tokenize_rows(rows, tokenizer).examples
    collator = DataCollatorForSeq2Seq(
        tokenizer, padding="max_length" if pad_to else True, max_length=pad_to, label_pad_token_id=-100
    )
    watch = StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            tuned, arguments(folder, steps, **extra), data_collator=collator, train_dataset=examples, callbacks=[watch]
        )
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        trainer.train()
    return tuned, watch.times


def run_trl(model, tokenizer, rows, steps, low_base=False, **extra):
    import datasets
    import trl

    data = datasets.Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": r["question"]}],
                "completion": [{"role": "assistant", "content": r["answer"]}],
            }
            for r in rows
        ]
    )
    if low_base:
        model = model.to(torch.bfloat16)
    hardware.set_seed(0)
    lora = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    watch = StepTimes()
    with tempfile.TemporaryDirectory() as folder:
        config = trl.SFTConfig(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            use_cpu=True,
            bf16=True,
            lr_scheduler_type="cosine",
            warmup_steps=round(0.1 * steps),
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            completion_only_loss=True,
            **extra,
        )
        trainer = trl.SFTTrainer(
            model, config, train_dataset=data, processing_class=tokenizer, peft_config=lora, callbacks=[watch]
        )
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        trainer.train()
    return trainer.model, watch.times


RUNS: dict[str, tuple[Callable, dict]] = {
    "train()": (run_ours, {}),
    "Trainer, bf16, dynamic padding": (run_trainer, {"bf16": True}),
    "Trainer, best: + bf16 base, grouped by length": (
        run_trainer,
        {"bf16": True, "low_base": True, "train_sampling_strategy": "group_by_length"},
    ),
    "TRL SFTTrainer, bf16, completion only": (run_trl, {}),
    "TRL SFTTrainer, best: + bf16 base, no checkpointing": (
        run_trl,
        {"gradient_checkpointing": False, "low_base": True},
    ),
    "Trainer, fp32, padded to 512": (run_trainer, {"pad_to": 512, "short": True}),
}


def main() -> None:
    """Run every peer in interleaved rounds and print the table; `--output` also stores it as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    hardware.quiet()
    untuned, tokenizer = load_model(options.model, say=lambda message: None)
    rows = course_rows().train[: options.rows]
    steps = max(WARM_UP + 2, options.rows // BATCH)
    check = tokenize_rows(rows, tokenizer).examples
    times: dict[str, list[float]] = {name: [] for name in RUNS}
    loss: dict[str, float] = {}
    for turn in range(options.rounds):
        for name, (run, extra) in RUNS.items():
            extra = dict(extra)
            short = extra.pop("short", False)
            if short and turn:
                continue
            tuned, measured = run(copy.deepcopy(untuned), tokenizer, rows, WARM_UP + 1 if short else steps, **extra)
            times[name] += measured[WARM_UP:]
            if not short:
                loss[name] = token_nll(tuned, check, tokenizer).mean
            del tuned
            gc.collect()
            print(
                f"round {turn + 1}: {name}: {BATCH / statistics.median(measured[WARM_UP:]):.2f} examples/s", flush=True
            )
    report(times, loss, options)


def report(times: dict[str, list[float]], loss: dict[str, float], options: argparse.Namespace) -> None:
    """Print medians, quartiles, ratios and final losses."""
    ours = statistics.median(times["train()"])
    rows = []
    print(f"\n{'peer':<52} {'examples/s':>10} {'quartiles':>15} {'train() is':>11} {'NLL after':>10}")
    for name, values in times.items():
        middle = statistics.median(values)
        low, high = (min(values), max(values)) if len(values) < 4 else statistics.quantiles(values, n=4)[::2]
        rows.append(
            {
                "peer": name,
                "examples_per_second": BATCH / middle,
                "low": BATCH / high,
                "high": BATCH / low,
                "ratio": middle / ours,
                "nll_after": loss.get(name),
            }
        )
        after = f"{loss[name]:.3f}" if name in loss else "-"
        spread = f"{BATCH / high:.2f} to {BATCH / low:.2f}"
        print(f"{name:<52} {BATCH / middle:>10.2f} {spread:>15} {middle / ours:>10.2f}x {after:>10}")
    if options.output:
        options.output.write_text(json.dumps({"rows": rows, "machine": hardware.describe()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
