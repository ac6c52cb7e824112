"""QLoRA: a model in 4 bits (bitsandbytes) with a LoRA adapter on top, and the guard that keeps its gradients right on CPUs."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from .errors import UserError
from .hardware import choose_device, choose_precision
from .models import DEFAULT_MODEL, load_model, load_tokenizer, reading
from .weights import SOURCES, ensure_model

SWITCH = "support_avx512bf16_for_cpu"


def load_4bit(
    name: str = DEFAULT_MODEL, device: torch.device | None = None, say: Callable[[str], None] = print
) -> tuple[Any, Any]:
    """Load a model with its linear layers in 4 bits (NF4, double quantization: Dettmers et al. 2023, arXiv 2305.14314).

    Embeddings and norms stay in the 16-bit format of the machine. `lora.add_lora` puts an adapter on it, `train`, `token_nll`
    and `generate` take it like any other model. The guard of `guard_4bit` is in place.

    Args:
        name: `smollm2-135m`, `tiny` (random weights, for tests), a folder that holds a model, or a hub id such as
            `mistralai/Mistral-7B-v0.1`.

    Raises:
        UserError: bitsandbytes is not installed, or the model cannot be loaded.
    """
    _bitsandbytes()
    device = device or choose_device()
    precision = choose_precision(device)
    tokenizer = load_tokenizer(name, say)
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=precision.dtype,
    )  # fmt: skip
    with _folder_or_id(name, say) as source:
        model = reading(
            lambda: AutoModelForCausalLM.from_pretrained(
                source, quantization_config=config, dtype=precision.dtype, device_map={"": device},
                use_safetensors=True, trust_remote_code=False,
            ),
            f"{Path(name).name} in 4 bits",
            "check the name, the network and the files",
        )  # fmt: skip
    if tokenizer.pad_token_id is None:  # `is None`: an id of 0 is a real token
        tokenizer.pad_token = tokenizer.eos_token
    layers = guard_4bit(model)
    say(f"Model {name}: {layers} linear layers in 4 bits, the rest in {precision.name}.")
    return model.eval(), tokenizer


@contextmanager
def _folder_or_id(name: str, say: Callable[[str], None]) -> Iterator[Path | str]:
    """Where `from_pretrained` finds the model; the random one is written to a folder first, since only files are quantized."""
    if name != "tiny":
        yield ensure_model(name, say) if name in SOURCES else name
        return
    with tempfile.TemporaryDirectory() as folder:
        load_model(name, say=say)[0].save_pretrained(folder)
        yield folder


def guard_4bit(model: torch.nn.Module) -> int:
    """Keep the gradients of 4-bit layers right on CPUs with AVX512-BF16; returns how many layers are guarded.

    There, bitsandbytes 0.50 repacks a layer's weights for speed at the first forward pass in eval mode. The kernel for
    packed weights has no backward pass, so every training step after a first evaluation would silently get wrong
    gradients. Turning the switch off before the first forward pass prevents the packing; nothing else changes.

    Raises:
        UserError: a layer has been packed already, so that it is too late.
    """
    kind = _bitsandbytes().nn.Linear4bit
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, kind)]
    for name, layer in layers:
        if is_packed(layer):
            raise UserError(
                f"{name} was packed by a forward pass in eval mode, so its gradients would be wrong: load the model again "
                "and call guard_4bit before the first forward pass."
            )
        setattr(layer, SWITCH, False)
    return len(layers)


def is_packed(layer: Any) -> bool:
    """True when bitsandbytes has repacked the weights of a 4-bit layer, which ends its training."""
    state = getattr(layer.weight, "quant_state", None)
    state = layer.quant_state if state is None else state
    return bool(getattr(state, "packing_format_for_cpu", False))


def _bitsandbytes() -> Any:
    try:
        return importlib.import_module("bitsandbytes")
    except ModuleNotFoundError as error:
        raise UserError("4-bit weights need the package bitsandbytes: run `pip install bitsandbytes`.") from error
