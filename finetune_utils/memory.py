"""How much memory a run needs, before it starts: weights, gradients, optimizer, activations, logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .errors import UserError
from .hardware import Precision, choose_precision

METHODS = ("full", "lora", "inference")


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by cause. `total` is the peak: everything at once."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    libraries: int

    @property
    def total(self) -> int:
        """The sum of all parts, in bytes."""
        return (
            self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.libraries
        )


def human_bytes(count: float) -> str:
    """1_234_567_890 -> '1.2 GB' (decimal units, as disks and library papers count)."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


def estimate_memory(
    model: Any,
    method: str = "lora",
    batch_size: int = 8,
    length: int = 128,
    rank: int = 16,
    supervised: float = 0.6,
    precision: Precision | None = None,
) -> MemoryEstimate:
    """Estimate the peak memory of a run on `model` before it starts.

    PLACEHOLDER
    """
    if method not in METHODS:
        raise UserError(f"Unknown method {method!r}: choose one of {', '.join(METHODS)}.")
    precision = precision or choose_precision(next(model.parameters()).device)
    total = sum(p.numel() for p in model.parameters())
    return MemoryEstimate(total * 4, 0, 0, 0, 0, 0)
