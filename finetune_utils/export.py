"""Export a fine-tuned model: adapter merged into plain weights, as safetensors and as one GGUF file."""

from __future__ import annotations

import contextlib
import importlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from . import hardware
from .errors import UserError, writing
from .generation import generate
from .gguf_file import write_gguf
from .lora import is_lora, merge
from .models import RUN_FILE, load_model
from .publish import write_card
from .run_record import read_record

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def export_merged(
    source: str | Path, output: str | Path, dtype: str = "fp32", gguf: str | None = None,
    say: Callable[[str], None] = print,
) -> Path:  # fmt: skip
    """Write the model in `source` to `output` as plain safetensors with its tokenizer, record and card.

    Args:
        source: a folder that `finetune` made, or any name that `load_model` knows.
        dtype: `fp32` keeps the sum of weights and adapter exactly; `bf16` and `fp16` round it and halve the file.
        gguf: also write one GGUF file of this kind (see `gguf_file.write_gguf`), `model-KIND.gguf`.

    Raises:
        UserError: an output that exists, an unknown format, a model that cannot be read or written.
    """
    hardware.quiet()
    output = Path(output)
    if output.exists():
        raise UserError(f"{output}: exists already; choose another --output, so that nothing is overwritten.")
    if dtype not in DTYPES:
        raise UserError(f"Unknown number format {dtype!r}: choose one of {', '.join(DTYPES)}.")
    model, tokenizer = load_model(str(source), device=torch.device("cpu"), say=say)
    adapter, model = is_lora(model), merge(model)
    try:
        with writing(output, "free some space or choose another --output"):
            output.mkdir(parents=True)
            if gguf is not None:
                write_gguf(model, tokenizer, output / f"model-{gguf}.gguf", gguf)
            model.to(DTYPES[dtype]).save_pretrained(output)
            tokenizer.save_pretrained(output)
        if read_record(Path(source)) is not None:
            shutil.copy2(Path(source) / RUN_FILE, output / RUN_FILE)
            write_card(output)
    except Exception:
        shutil.rmtree(output, ignore_errors=True)
        raise
    say(f"{'Merged the adapter and wrote' if adapter else 'Wrote'} {dtype} weights to {output}.")
    return output


def load_gguf(path: str | Path) -> Any:
    """Load the model in a GGUF file into transformers, expanded to float32: to check what other programs will read."""
    path = Path(path)
    options: dict[str, Any] = {"gguf_file": path.name, "dtype": torch.float32}
    if hasattr(transformers, "GgufConfig"):  # older releases always expand
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    with _no_bar():
        return transformers.AutoModelForCausalLM.from_pretrained(str(path.parent), **options).eval()


@contextlib.contextmanager
def _no_bar() -> Iterator[None]:
    """The reader of GGUF files always shows a progress bar; a notebook would keep it."""
    place = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    shown = getattr(place, "tqdm", None)
    place.tqdm = lambda items, **_: items
    try:
        yield
    finally:
        place.tqdm = shown


def same_texts(
    one: tuple[Any, Any], other: tuple[Any, Any], prompts: Sequence[str], max_new_tokens: int = 24
) -> list[bool]:
    """For each prompt: do two loaded models with their tokenizers write the same text?"""
    texts = [generate(model, tokenizer, prompts, max_new_tokens, progress=None) for model, tokenizer in (one, other)]
    return [a == b for a, b in zip(*texts, strict=True)]
