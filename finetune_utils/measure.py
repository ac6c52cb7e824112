"""Measure the peak memory of a run in a fresh process: the figure to hold against the estimate."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass

from .errors import UserError


@dataclass(frozen=True)
class Measured:
    """Peak memory of a run minus what the process used before the model was loaded, and its estimate, in bytes."""

    peak: int
    estimate: int
    seconds: float

    @property
    def error(self) -> float:
        """How far the estimate is off, relative to the measurement."""
        return self.estimate / self.peak - 1


def measure_memory(
    model: str, method: str = "lora", batch_size: int = 8, length: int = 104, steps: int = 3, rank: int = 16
) -> Measured:
    """Train `steps` steps (or score, for `inference`) in a new process and report its peak memory.

    A process that has done other things keeps memory it no longer uses, so only a fresh one tells the truth. The
    rows are random tokens, half of them supervised.

    Raises:
        UserError: the run failed; its last line is shown.
    """
    options = {
        "model": model,
        "method": method,
        "batch_size": batch_size,
        "length": length,
        "steps": steps,
        "rank": rank,
    }
    command = [sys.executable, "-m", "finetune_utils.measure", json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"The measuring run failed: {last}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def _run(model: str, method: str, batch_size: int, length: int, steps: int, rank: int) -> Measured:
    import time

    import torch
    from transformers import AutoModelForCausalLM

    from .four_bit import load_4bit
    from .hardware import choose_precision, memory_in_use_bytes, peak_memory_bytes, quiet, set_seed
    from .lora import add_lora
    from .memory import estimate_memory
    from .models import load_model
    from .nll import token_nll
    from .training import TrainSettings, train

    quiet()
    before = memory_in_use_bytes()
    silent = {"say": lambda message: None}
    loaded, tokenizer = load_4bit(model, **silent) if method == "qlora" else load_model(model, **silent)
    set_seed(0)
    half = length // 2
    rows = torch.randint(3, len(tokenizer) - 1, (batch_size * steps, length)).tolist()
    examples = [
        {
            "input_ids": row[:-1] + [tokenizer.eos_token_id],
            "labels": [-100] * half + row[half:-1] + [tokenizer.eos_token_id],
        }
        for row in rows
    ]
    plain = loaded
    if method == "qlora":
        # Packed matrices have other shapes: take those of the same model in 16 bits, without its weights.
        with torch.device("meta"):
            plain = AutoModelForCausalLM.from_config(loaded.config)
    precision = choose_precision(next(loaded.parameters()).device)
    estimate = estimate_memory(plain, method, batch_size, length, rank, precision=precision).total
    if method in ("lora", "qlora"):
        loaded = add_lora(loaded, rank)
    started = time.perf_counter()
    if method == "inference":
        token_nll(loaded, examples[:batch_size], tokenizer)
    else:
        train(loaded, tokenizer, examples, TrainSettings(max_steps=steps, batch_size=batch_size))
    seconds = time.perf_counter() - started
    return Measured(peak_memory_bytes() - before, estimate, seconds)


if __name__ == "__main__":
    print(json.dumps(asdict(_run(**json.loads(sys.argv[1])))))
