"""LoRA from scratch: one linear layer with a trainable detour of low rank. `peft` does the same for real runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from .errors import UserError


class LoRALinear(nn.Module):
    """y = x W' + alpha / rank * (x A') B' with W frozen, A random and B zero (Hu et al. 2021, arXiv 2106.09685).

    W is (out, in), A (rank, in), B (out, rank). With B = 0 the detour adds exactly 0, so that training starts from what
    the layer did before. A starts as `peft` starts it (Kaiming uniform).
    """

    def __init__(self, base: nn.Linear, rank: int = 16, alpha: float | None = None) -> None:
        if rank < 1:
            raise UserError(f"The rank is {rank}: a LoRA adapter has rank 1 or more.")
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = (2 * rank if alpha is None else alpha) / rank
        self.a = nn.Parameter(torch.empty(rank, base.in_features, device=base.weight.device))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank, device=base.weight.device))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., in) -> (..., out)."""
        return self.base(x) + self.scale * (x @ self.a.T @ self.b.T)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain layer with the product of B and A added into the weights."""
        layer = nn.Linear(self.base.in_features, self.base.out_features, bias=self.base.bias is not None)
        layer.weight.copy_(self.base.weight + self.scale * self.b @ self.a)
        if self.base.bias is not None:
            layer.bias.copy_(self.base.bias)
        return layer


def wrap_linears(
    model: nn.Module, rank: int = 16, alpha: float | None = None, skip: Sequence[str] = ("lm_head",)
) -> int:
    """Freeze `model` and put a `LoRALinear` around every linear layer but those in `skip`; returns how many.

    Raises:
        UserError: there is no linear layer to wrap.
    """
    model.requires_grad_(False)
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    layers = [(name, layer) for name, layer in layers if name.split(".")[-1] not in skip]
    if not layers:
        raise UserError("The model has no linear layer to adapt.")
    for name, layer in layers:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, LoRALinear(layer, rank, alpha))
    return len(layers)
