"""Write a Llama-like model as one GGUF file, the format of llama.cpp, Ollama and LM Studio.

The library `gguf` is llama.cpp's own writer. Names, order and the rearranged rows of queries and keys are those of llama.cpp's
`convert_hf_to_gguf.py` for the architecture "llama".
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from .errors import UserError, writing

KINDS = {
    "f32": gguf.GGMLQuantizationType.F32,
    "f16": gguf.GGMLQuantizationType.F16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
}
_FILE_KINDS = {"f32": 0, "f16": 1, "q8_0": 7}  # llama.cpp's names for whole files
_BLOCK = 32  # Q8_0 stores 32 weights with one scale
_PARTS = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def write_gguf(model: Any, tokenizer: Any, path: Path, kind: str = "f16", pre: str = "smollm") -> Path:
    """Write model and tokenizer to `path`, whole or not at all.

    Args:
        model: a plain Llama-like model in float32 (`lora.merge` gives one).
        kind: `f32`, `f16`, or `q8_0` (8 bits a weight; norms stay in float32).
        pre: llama.cpp's name for the way the tokenizer cuts text into words; `smollm` is that of SmolLM2.

    Raises:
        UserError: another architecture or tokenizer (llama.cpp's own script converts many), parts that would be lost, an
            unknown kind, a full disk.
    """
    if kind not in KINDS:
        raise UserError(f"Unknown kind of GGUF file {kind!r}: choose one of {', '.join(KINDS)}.")
    vocabulary = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if model.config.model_type != "llama" or vocabulary["type"] != "BPE" or hasattr(model, "peft_config"):
        raise UserError(
            f"A model of the kind {model.config.model_type!r} cannot be written here, only a merged Llama with a byte-level "
            "tokenizer: save it with `save_pretrained` and use llama.cpp's convert_hf_to_gguf.py."
        )
    if missing := _left_out(model.config):
        raise UserError(
            f"The model has {missing}, which this writer would leave out: use llama.cpp's convert_hf_to_gguf.py instead."
        )
    part = path.with_name(f".{path.name}.part")
    with writing(path, "free some space or choose another folder"):
        try:
            writer = gguf.GGUFWriter(part, "llama")
            _add_shape(writer, model.config, kind)
            _add_tokenizer(writer, tokenizer, vocabulary, model.config.vocab_size, pre)
            for name, tensor in _tensors(model):
                _add_tensor(writer, name, tensor, kind)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    return path


def _left_out(config: Any) -> str:
    """What a model of the kind "llama" may have and the file would not hold, in words; empty when there is nothing."""
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        return f"scaled positions ({rope['rope_type']})"
    if getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False):
        return "biases in its linear layers"
    usual = config.hidden_size // config.num_attention_heads
    size = getattr(config, "head_dim", None) or usual
    return "" if size == usual else f"heads of {size} numbers instead of {usual}"


def _add_shape(writer: gguf.GGUFWriter, config: Any, kind: str) -> None:
    rope = getattr(config, "rope_parameters", None) or {}
    writer.add_name(Path(config._name_or_path or "model").name)
    writer.add_file_type(_FILE_KINDS[kind])
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or getattr(config, "rope_theta", None) or 10_000.0))
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Any, vocabulary: dict[str, Any], size: int, pre: str) -> None:
    names = {number: text for text, number in tokenizer.get_vocab().items()}
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    kinds = gguf.TokenType
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([names.get(i, f"[PAD{i}]") for i in range(size)])
    writer.add_token_types(
        [kinds.UNUSED if i not in names else kinds.CONTROL if i in special else kinds.NORMAL for i in range(size)]
    )
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in vocabulary["merges"]]
    writer.add_token_merges(pairs)
    writer.add_add_bos_token(False)
    for add, number in [
        (writer.add_bos_token_id, tokenizer.bos_token_id), (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id), (writer.add_unk_token_id, tokenizer.unk_token_id),
    ]:  # fmt: skip
        if number is not None:  # an id of 0 is a real token
            add(number)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor under llama.cpp's name."""
    state = {name: tensor.detach().float().cpu() for name, tensor in model.state_dict().items()}
    config = model.config
    yield "token_embd.weight", state["model.embed_tokens.weight"]
    yield "output_norm.weight", state["model.norm.weight"]
    if not config.tie_word_embeddings:
        yield "output.weight", state["lm_head.weight"]
    for layer in range(config.num_hidden_layers):
        for short, long in _PARTS.items():
            tensor = state[f"model.layers.{layer}.{long}.weight"]
            if short == "attn_q":
                tensor = pair_rows(tensor, config.num_attention_heads)
            elif short == "attn_k":
                tensor = pair_rows(tensor, config.num_key_value_heads)
            yield f"blk.{layer}.{short}.weight", tensor


def pair_rows(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Put rows that the position code rotates together next to each other, as llama.cpp expects them.

    `weight` has the shape (heads x size, inputs). transformers rotates row i of a head with row i + size / 2; llama.cpp
    rotates rows 2i and 2i + 1.
    """
    rows, inputs = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, inputs).transpose(1, 2).reshape(rows, inputs)


def _add_tensor(writer: gguf.GGUFWriter, name: str, tensor: torch.Tensor, kind: str) -> None:
    array = np.ascontiguousarray(tensor.numpy())
    if array.ndim == 1:
        kind = "f32"
    elif kind == "q8_0" and array.shape[1] % _BLOCK:
        kind = "f16"
    writer.add_tensor(name, gguf.quants.quantize(array, KINDS[kind]), raw_dtype=KINDS[kind])
