"""How much memory a run needs, before it starts: weights, gradients, optimizer, activations, logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from .errors import UserError
from .hardware import Precision, choose_precision

METHODS = ("full", "lora", "qlora", "inference")
# Kernels that PyTorch compiles and buffers that it keeps once the first steps have run.
LIBRARIES = 150_000_000
# NF4 with double quantization (Dettmers et al. 2023, arXiv 2305.14314): half a byte a weight, one byte of scale for 64 of them,
# and four bytes for 256 scales.
NF4_BYTES = 1 / 2 + 1 / 64 + 4 / (64 * 256)
# Shapes of public models, from 0.1 to 70 billion parameters: the `config.json` that each carries on the Hugging Face hub.
_NAMES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
SHAPES: dict[str, tuple[str, tuple[int, ...], int, bool]] = {  # kind, the five sizes above, vocabulary, tied embeddings
    "SmolLM2-135M": ("llama", (576, 1536, 30, 9, 3), 49_152, True),
    "SmolLM2-360M": ("llama", (960, 2560, 32, 15, 5), 49_152, True),
    "SmolLM2-1.7B": ("llama", (2048, 8192, 24, 32, 32), 49_152, True),
    "Llama-3.2-3B": ("llama", (3072, 8192, 28, 24, 8), 128_256, True),
    "Mistral-7B": ("mistral", (4096, 14_336, 32, 32, 8), 32_000, False),
    "Llama-2-13B": ("llama", (5120, 13_824, 40, 40, 40), 32_000, False),
    "Qwen2.5-32B": ("qwen2", (5120, 27_648, 64, 40, 8), 152_064, False),
    "Llama-2-70B": ("llama", (8192, 28_672, 80, 64, 8), 32_000, False),
}


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

    def on_each(self, cards: int) -> int:
        """Bytes on each of `cards` cards that share weights, gradients and optimizer state (FSDP).

        Every card works on rows of its own, so activations, logits and libraries stay whole.
        """
        shared = self.weights + self.gradients + self.optimizer
        return -(-shared // cards) + self.total - shared


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


def shape_of(name: str) -> Any:
    """A model of `SHAPES` without its weights: enough to estimate what it needs.

    Raises:
        UserError: no such shape.
    """
    if name not in SHAPES:
        raise UserError(f"There is no shape {name!r}: choose one of {', '.join(SHAPES)}.")
    kind, sizes, vocabulary, tied = SHAPES[name]
    config = AutoConfig.for_model(
        kind, **dict(zip(_NAMES, sizes, strict=True)), vocab_size=vocabulary, tie_word_embeddings=tied
    )
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def memory_table(
    names: Sequence[str] = tuple(SHAPES), batch_size: int = 1, length: int = 512, rank: int = 16
) -> dict[str, dict[str, MemoryEstimate]]:
    """What every method needs for every shape on a GPU with 16-bit arithmetic: `{model: {method: estimate}}`.

    Answering is counted without the cache of keys and values: it adds `cache_bytes` for every token of every row.
    """
    half = Precision(torch.bfloat16, "bf16", "an estimate for a GPU")
    table = {}
    for name in names:
        model = shape_of(name)
        table[name] = {m: estimate_memory(model, m, batch_size, length, rank, precision=half) for m in METHODS}
    return table


def cache_bytes(config: Any, low: int = 2) -> int:
    """Bytes that one token leaves in the cache of keys and values while a model answers."""
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * size * low
