"""How much memory a run needs, before it starts: weights, gradients, optimizer, activations, logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .errors import UserError
from .hardware import Precision, choose_precision

METHODS = ("full", "lora", "qlora", "inference")
# Kernels that PyTorch compiles and buffers that it keeps once the first steps have run.
LIBRARIES = 150_000_000
# NF4 with double quantization (Dettmers et al. 2023, arXiv 2305.14314): half a byte a weight, one byte of scale for 64 of them,
# and four bytes for 256 scales.
NF4_BYTES = 1 / 2 + 1 / 64 + 4 / (64 * 256)


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
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.libraries


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
    supervised: float = 0.5,
    precision: Precision | None = None,
) -> MemoryEstimate:
    """Estimate the peak memory of a run on `model` (a Llama-like model) before it starts.

    Weights, gradients and AdamW's two moments are counted exactly. Activations are what the backward pass needs of every
    token in every layer (see `activation_bytes`). Logits exist for supervised tokens only.

    Args:
        method: `full`, `lora`, `qlora` (linear layers in 4 bits; one at a time is expanded) or `inference`.
        batch_size: rows a step; `length`: tokens a row, padding included.
        rank: LoRA rank, on all linear layers.
        supervised: share of the tokens that are trained.
        precision: default: what this machine has.

    Returns:
        Bytes by cause, on top of what Python and the libraries take before the model is loaded.
    """
    if method not in METHODS:
        raise UserError(f"Unknown method {method!r}: choose one of {', '.join(METHODS)}.")
    precision = precision or choose_precision(next(model.parameters()).device)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    total = sum(p.numel() for n, p in base.named_parameters() if "lora_" not in n)
    low, tokens = 2 if precision.low else 4, batch_size * length
    logits = tokens * supervised * base.config.vocab_size
    if method == "inference":
        return MemoryEstimate(total * low, 0, 0, 0, int(logits * 8), LIBRARIES)
    activations = tokens * base.config.num_hidden_layers * activation_bytes(base.config, length, low)
    # The logits, their float32 copy, log-softmax and the gradients of each are alive at once.
    head = int(logits * (3 * low + 12))
    if method == "full":
        # Under autocast a 16-bit copy of every weight is kept until the step ends.
        weights = total * (4 + (low if precision.low else 0))
        return MemoryEstimate(weights, total * 4, total * 8, activations, head, LIBRARIES)
    layers = [(out * inner, rank * (out + inner)) for out, inner in linear_shapes(base)]
    adapter = sum(size for _, size in layers)
    weights = total * low
    if method == "qlora":
        packed = sum(size for size, _ in layers)
        weights = int(packed * NF4_BYTES) + (total - packed) * low + max((size for size, _ in layers), default=0) * low
    return MemoryEstimate(weights + adapter * 4, adapter * 4, adapter * 8, activations, head, LIBRARIES)


def linear_shapes(base: torch.nn.Module) -> list[tuple[int, int]]:
    """(out, in) of every linear layer that gets an adapter: all but the output layer."""
    return [
        (layer.out_features, layer.in_features)
        for name, layer in base.named_modules()
        if isinstance(layer, torch.nn.Linear) and not name.endswith("lm_head") and "lora_" not in name
    ]


def activation_bytes(config: Any, length: int, low: int) -> int:
    """Bytes that one token keeps in one Llama layer for the backward pass, `low` bytes a 16-bit number.

    Two norms keep a float32 and a low-precision copy of their input; attention keeps queries, repeated keys and values, its
    output, and per head one float32 and one low-precision weight for every other token; the gated MLP keeps four
    intermediate vectors.
    """
    hidden, heads = config.hidden_size, config.num_attention_heads
    inner = getattr(config, "intermediate_size", None) or 4 * hidden  # GPT-2 does not name it
    norms = 2 * hidden * (4 + low)
    attention = 4 * hidden * low + heads * length * (4 + 2 * low)
    return norms + attention + 4 * inner * low
