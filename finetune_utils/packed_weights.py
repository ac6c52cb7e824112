"""Weights in the order that the processor reads them, while a model answers in bfloat16 on a CPU.

A token for 32 rows needs every weight once and little arithmetic. From its usual order PyTorch rearranges a weight for the
processor at each product; here that is done once for all tokens of an answer. The products are the same. PyTorch's own
compiler does this to a model whose weights will not change (`torch._inductor.config.freezing`), with the same two operators.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any

import torch

from .hardware import cpu_has_bf16, free_memory_bytes

SHARE = 0.25  # of the free memory that a second copy of the weights may take


def can_pack() -> bool:
    """True when this PyTorch has the two operators and the CPU multiplies bfloat16 in hardware."""
    there = all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise"))
    return there and torch.backends.mkldnn.is_available() and cpu_has_bf16()


def _forward(layer: torch.nn.Linear, x: torch.Tensor, packed: torch.Tensor) -> torch.Tensor:
    if x.dtype != torch.bfloat16:
        return torch.nn.functional.linear(x, layer.weight, layer.bias)
    return torch.ops.mkldnn._linear_pointwise(x, packed, layer.bias, "none", [], "")


@contextlib.contextmanager
def packed_weights(model: Any, rows: int) -> Iterator[int]:
    """Inside this context the linear layers of `model` that have bfloat16 weights on a CPU use a packed copy; yields how many do.

    The copy takes as much memory as the weights; without four times as much free memory, the layers stay as they are.

    Args:
        rows: how many rows a product will mostly have.
    """
    layers = [m for m in model.modules() if type(m) is torch.nn.Linear and _fits(m)] if can_pack() else []
    if sum(layer.weight.nbytes for layer in layers) > SHARE * free_memory_bytes():
        layers = []
    try:
        for layer in layers:
            packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), rows)
            layer.forward = types.MethodType(lambda layer, x, packed=packed: _forward(layer, x, packed), layer)
        yield len(layers)
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _fits(layer: torch.nn.Linear) -> bool:
    weight = layer.weight
    return weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and "forward" not in vars(layer)
