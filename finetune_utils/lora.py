"""LoRA: add a small trainable adapter to a frozen model, save it, load it, merge it."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from .errors import UserError
from .hardware import Precision, choose_precision, set_seed


def _check_torchao() -> None:
    """peft refuses to work beside an old torchao (Colab ships one), with a long traceback. Say it in a line."""
    try:
        version = importlib.metadata.version("torchao")
    except importlib.metadata.PackageNotFoundError:
        return
    if tuple(int(x) for x in version.split(".")[:2] if x.isdigit()) < (0, 16):
        raise UserError(
            f"torchao {version} is installed and peft needs 0.16 or newer, or none: run `pip uninstall -y torchao` and "
            "restart the session."
        )


def add_lora(
    model: Any,
    rank: int = 16,
    alpha: int | None = None,
    targets: str | list[str] = "all-linear",
    dropout: float = 0.0,
    seed: int = 0,
    precision: Precision | None = None,
) -> PeftModel:
    """Freeze `model` and add a LoRA adapter of `rank` to its linear layers (Hu et al. 2021, arXiv 2106.09685).

    The frozen weights are stored in the 16-bit format of `precision` (default: what this machine
    has), which halves their memory and speeds training up; the adapter itself stays float32.

    Args:
        alpha: the adapter's output is scaled by `alpha / rank`; default twice the rank.
        targets: which linear layers, in peft's terms.
    """
    _check_torchao()
    precision = precision or choose_precision(next(model.parameters()).device)
    if precision.low:
        model.to(precision.dtype)
    set_seed(seed)
    config = LoraConfig(
        r=rank, lora_alpha=alpha if alpha is not None else 2 * rank, target_modules=targets, lora_dropout=dropout,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    return get_peft_model(model, config)


def attach_adapter(model: Any, folder: Path) -> PeftModel:
    """Load a saved adapter onto its model (frozen, ready to answer)."""
    _check_torchao()
    return PeftModel.from_pretrained(model, str(folder)).eval()


def is_lora(model: Any) -> bool:
    """True when `model` carries an adapter."""
    return isinstance(model, PeftModel)


def merge(model: Any, dtype: torch.dtype | None = None) -> Any:
    """Return a plain model with the adapter's product added into the weights.

    Merging is done in float32 and rounded to `dtype` afterwards (default: keep float32), since adding a small
    update to 16-bit weights would lose part of it. `model` is used up: its layers become the result's.
    """
    if is_lora(model):
        model = model.to(torch.float32).merge_and_unload()
    return model.to(dtype) if dtype is not None else model
