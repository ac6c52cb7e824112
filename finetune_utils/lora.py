"""LoRA and its relatives: add a small trainable adapter to a frozen model, save it, load it, merge it."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer

from .class_labels import is_classifier
from .errors import UserError
from .hardware import Precision, cast_weights, choose_precision, set_seed
from .profiles import Profile
from .seq2seq import is_encoder_decoder

BASE = "__base__"  # peft's name for "no adapter" among the adapters of a mixed batch


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


def lora_config(
    rank: int = 16,
    alpha: int | None = None,
    targets: str | list[str] = "all-linear",
    dropout: float = 0.0,
    profile: Profile | None = None,
    **more: Any,
) -> LoraConfig:
    """The settings of a LoRA adapter in peft's form.

    Args:
        alpha: the adapter's output is scaled by `alpha / rank`; default twice the rank.
        targets: which linear layers, in peft's terms.
        profile: takes the rank of a profile instead of `rank`.
        more: anything else that `LoraConfig` knows, such as `use_dora=True` or `use_rslora=True`.

    Raises:
        UserError: a rank below 1.
    """
    rank = profile.lora_rank if profile is not None else rank
    if rank < 1:
        raise UserError(f"The rank is {rank}: a LoRA adapter has rank 1 or more.")
    more = {"task_type": "CAUSAL_LM"} | more
    return LoraConfig(
        r=rank, lora_alpha=alpha if alpha is not None else 2 * rank, target_modules=targets, lora_dropout=dropout, **more
    )  # fmt: skip


def add_lora(
    model: Any,
    rank: int = 16,
    alpha: int | None = None,
    targets: str | list[str] = "all-linear",
    dropout: float = 0.0,
    seed: int = 0,
    precision: Precision | None = None,
    **more: Any,
) -> PeftModel:
    """Freeze `model` and add a LoRA adapter of `rank` to its linear layers (Hu et al. 2021, arXiv 2106.09685).

    The frozen weights are stored in the 16-bit format of `precision` (default: what this machine
    has), which halves their memory and speeds training up; the adapter itself stays float32. A model in 4 bits
    (`four_bit.load_4bit`) stays as it is: that is QLoRA. A classification head is trained whole beside the adapter, in float32,
    and saved with it.

    Args: see `lora_config`; `seed` decides where the adapter starts.
    """
    _prepare(model, seed, precision)
    if is_encoder_decoder(model):
        more = {"task_type": "SEQ_2_SEQ_LM"} | more
    if not is_classifier(model):
        return get_peft_model(model, lora_config(rank, alpha, targets, dropout, **more))
    adapted = get_peft_model(model, lora_config(rank, alpha, targets, dropout, **{"task_type": "SEQ_CLS"} | more))
    for parameter in adapted.parameters():
        if parameter.requires_grad:  # the copy of the head takes the format of the frozen weights
            parameter.data = parameter.data.float()
    return adapted


def add_soft_prompt(model: Any, tokens: int = 20, seed: int = 0, precision: Precision | None = None) -> PeftModel:
    """Freeze `model` and put `tokens` trainable vectors before every row (Lester et al. 2021, arXiv 2104.08691).

    The vectors start as the embeddings of words drawn at random. The layers stay as they are; the frozen weights are
    stored as `add_lora` stores them.

    Raises:
        UserError: fewer than one vector.
    """
    if tokens < 1:
        raise UserError(f"A soft prompt of {tokens} vectors: it needs 1 or more.")
    _prepare(model, seed, precision)
    config = PromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=tokens, prompt_tuning_init="SAMPLE_VOCAB"
    )  # fmt: skip
    return get_peft_model(model, config)


def _prepare(model: Any, seed: int, precision: Precision | None) -> None:
    _check_torchao()
    precision = precision or choose_precision(next(model.parameters()).device)
    if precision.low and not is_4bit(model):
        cast_weights(model, precision.dtype)
    set_seed(seed)


def lora_plus(ratio: float = 16.0) -> Callable[[Any, float], torch.optim.Optimizer]:
    """AdamW for `train(..., optimizer=...)` in which B learns `ratio` times as fast as A (LoRA+: arXiv 2402.12354)."""

    def build(model: Any, rate: float) -> torch.optim.Optimizer:
        """The optimizer of `model`; `rate` is the learning rate of A."""
        return create_loraplus_optimizer(model, torch.optim.AdamW, lr=rate, loraplus_lr_ratio=ratio)

    return build


def attach_adapter(model: Any, folder: Path, name: str = "default") -> PeftModel:
    """Load a saved adapter onto its model (frozen, ready to answer); one that has adapters already gets one more.

    The new adapter is the active one: `use_adapter` chooses another, and `with model.disable_adapter():` none.
    """
    _check_torchao()
    if not is_lora(model):
        return PeftModel.from_pretrained(model, str(folder), adapter_name=name).eval()
    if name in model.peft_config:
        raise UserError(f"The model has an adapter called {name!r} already: choose another name.")
    model.load_adapter(str(folder), adapter_name=name, is_trainable=False)
    use_adapter(model, name)
    return model.eval()


def use_adapter(model: Any, name: str) -> None:
    """Make `name` the adapter that answers; all adapters stay frozen.

    Raises:
        UserError: the model has no such adapter.
    """
    if name not in getattr(model, "peft_config", {}):
        there = ", ".join(getattr(model, "peft_config", {})) or "none"
        raise UserError(f"No adapter called {name!r}: the model has {there}.")
    model.set_adapter(name)
    for parameter_name, parameter in model.named_parameters():  # choosing an adapter makes it trainable
        if "lora_" in parameter_name:
            parameter.requires_grad = False


def freeze_below(model: Any, block: int) -> None:
    """Keep the adapters of the blocks before number `block` (counted from 0) as they are: at the start they add nothing.

    The backward pass ends at the lowest block that still learns, which saves its part of the time: below it, nothing has
    to be kept for a gradient. What it costs in quality differs from task to task: score both on dev rows. Meant for an
    adapter that is about to be trained; one that is made for some blocks only takes peft's `layers_to_transform`.

    Raises:
        UserError: no adapter, or a number that leaves none of its blocks.
    """
    adapters = [(n, p) for n, p in model.named_parameters() if "lora_" in n]
    numbers = {name: int(found[1]) for name, _ in adapters if (found := re.search(r"\.(\d+)\.", name))}
    if not 0 <= block <= max(numbers.values(), default=-1):
        last = f"0 to {max(numbers.values())}" if numbers else "none, since no block has an adapter"
        raise UserError(f"freeze_below: found block {block}; expected {last}.")
    for name, parameter in adapters:
        if numbers.get(name, block) < block:
            parameter.requires_grad = False


def is_lora(model: Any) -> bool:
    """True when `model` carries an adapter."""
    return isinstance(model, PeftModel)


def is_4bit(model: Any) -> bool:
    """True when the weights of `model` are stored in 4 bits by bitsandbytes."""
    return bool(getattr(model, "is_loaded_in_4bit", False))


def merge(model: Any, dtype: torch.dtype | None = None) -> Any:
    """Return a plain model with the adapter's product added into the weights.

    Merging is done in float32 and rounded to `dtype` afterwards (default: keep float32), since adding a small
    update to 16-bit weights would lose part of it. `model` is used up: its layers become the result's.

    Raises:
        UserError: the weights have 4 bits, which cannot hold the sum.
    """
    if is_4bit(model):
        raise UserError(
            "4-bit weights cannot take an adapter in: load the model in 16 or 32 bits, attach it there, merge."
        )
    if is_lora(model):
        model = cast_weights(model, torch.float32).merge_and_unload()
    return cast_weights(model, dtype) if dtype is not None else model
