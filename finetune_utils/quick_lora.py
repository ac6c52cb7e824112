"""The same LoRA arithmetic in fewer passes over memory, for training on a CPU.

peft computes an adapted layer in eight steps, several of which copy or convert the whole activation. On a CPU those
passes cost as much as the products themselves. Here the layer is one autograd step: two products added into the output
of the frozen layer, and the matching five in the backward pass.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any

import torch
from peft.tuners.lora.layer import Linear


class _LoraLinear(torch.autograd.Function):
    """y = x W' + s (x A') B' with A, B kept in float32 and multiplied in the format of W."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor, a: torch.Tensor, b: torch.Tensor, s: float) -> Any:
        """Two products added into the output of the frozen layer."""
        flat = x.reshape(-1, x.shape[-1]).to(w.dtype)
        a_cast, b_cast = a.to(w.dtype), (b * s).to(w.dtype)
        down = flat @ a_cast.T
        y = flat @ w.T
        y.addmm_(down, b_cast.T)
        ctx.save_for_backward(flat, down, w, a_cast, b_cast)
        ctx.scale, ctx.shape, ctx.dtype = s, x.shape, x.dtype
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """Gradients of x, A and B; the frozen W gets none."""
        flat, down, w, a_cast, b_cast = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1]).to(w.dtype)
        up = grad @ b_cast
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ w).addmm_(up, a_cast).view(ctx.shape).to(ctx.dtype)
        return grad_x, None, (up.T @ flat).float(), (grad.T @ down).float() * ctx.scale, None


def _can_be_quick(layer: Any) -> bool:
    """Only the plain case: one active adapter, no dropout, no bias, no variant, bfloat16 or float32 on the CPU."""
    if len(layer.active_adapters) != 1 or layer.merged or layer.disable_adapters:
        return False
    name, base = layer.active_adapters[0], layer.base_layer
    return (
        type(base) is torch.nn.Linear
        and base.bias is None
        and base.weight.dtype in (torch.bfloat16, torch.float32)
        and base.weight.device.type == "cpu"
        and isinstance(layer.lora_dropout[name], torch.nn.Identity)
        and layer.lora_B[name].bias is None
        and name not in getattr(layer, "lora_variant", {})
    )


def _forward(layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    if layer.base_layer.weight.dtype == torch.float32 and torch.is_autocast_enabled("cpu"):
        return type(layer).forward(layer, x, *args, **kwargs)  # the 16 bits that the caller asked for
    name = layer.active_adapters[0]
    weights = layer.base_layer.weight, layer.lora_A[name].weight, layer.lora_B[name].weight
    with torch.autocast("cpu", enabled=False):
        return _LoraLinear.apply(x, *weights, layer.scaling[name])


@contextlib.contextmanager
def quick_lora(model: torch.nn.Module) -> Iterator[int]:
    """Inside this context the plain LoRA layers of `model` take the quick path; yields how many it put there.

    Contexts may be nested (a score in the middle of training): the outer one keeps its layers.
    """
    layers = [m for m in model.modules() if isinstance(m, Linear) and "forward" not in vars(m) and _can_be_quick(m)]
    for layer in layers:
        layer.forward = types.MethodType(_forward, layer)
    try:
        yield len(layers)
    finally:
        for layer in layers:
            del layer.forward


@contextlib.contextmanager
def plain_attention(model: Any, longest: int) -> Iterator[None]:
    """Inside this context short rows on a CPU use the plain attention formula.

    The fused kernel saves memory on long rows, but its backward pass on a CPU is slow on short ones. The plain formula
    keeps rows x heads x length x length numbers a layer, hence the limit.
    """
    before = getattr(model.config, "_attn_implementation", None)
    device = next(model.parameters()).device.type
    if before != "sdpa" or device != "cpu" or longest > 256 or not hasattr(model, "set_attn_implementation"):
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
