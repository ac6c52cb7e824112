"""Answers in batches: left-padded, sorted by length, given back in the order asked."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor

from .errors import UserError
from .hardware import Precision, choose_precision
from .lora import BASE, is_4bit, merge
from .packed_weights import packed_weights
from .prefix import read_shared
from .progress import bar
from .prompts import render_prompt
from .seq2seq import is_encoder_decoder
from .tokenization import encode_prompts, end_of_turn_id

# An opening, and what is added to the logit of its first token: for all prompts, or for each.
Lean = tuple[str, float | Sequence[float]]


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    max_new_tokens: int = 64,
    batch_size: int = 32,
    progress: bool | None = False,
    adapters: Sequence[str] | None = None,
    lean: Lean | None = None,
) -> list[str]:
    """Continue every prompt greedily and return the new text only, in the order of `prompts`.

    Prompts of similar length share a batch, since a short one would wait for the longest. They are padded on the
    left, so that every answer starts right after its prompt. With float32 weights a beginning that they share is
    read once. The prompt is removed by token count, never by comparing text.

    Args:
        adapters: for a model with several adapters, which one answers each prompt (`lora.BASE` for none). Rows for different
            adapters share a batch: the weights of the model are read once for all of them.
        lean: an opening and how many logits its first token gains, or loses, when an answer begins: one number, or one for
            each prompt. It moves the line between answers that open like this and all others (see `threshold`).

    Raises:
        UserError: an empty prompt, sizes below 1, adapters that are not there, or another number of shifts than prompts.
    """
    _check_adapters(model, prompts, adapters)
    if max_new_tokens < 1 or batch_size < 1:
        raise UserError("max_new_tokens and batch_size must be at least 1.")
    ending = [end_of_turn_id(tokenizer)] if is_encoder_decoder(model) else []  # what an encoder was trained to see
    ids = encode_prompts(tokenizer, prompts)
    shifts = None if lean is None else _shifts(lean[1], len(ids))
    was_training = model.training
    model.eval()
    answers = [""] * len(ids)
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    with (
        bar(len(ids), "Answering", "answer", progress) as progress_bar,
        packed_weights(model, min(batch_size, len(ids))),
    ):
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            options: dict[str, Any] = {} if adapters is None else {"adapter_names": [adapters[i] for i in chosen]}
            if lean is not None:
                options["logits_processor"] = [_Leaning(first_token(tokenizer, lean[0]), shifts[chosen])]
            texts = _continue([ids[i] + ending for i in chosen], model, tokenizer, max_new_tokens, options)
            for i, text in zip(chosen, texts, strict=True):
                answers[i] = text
            progress_bar.update(len(chosen))
    model.train(was_training)
    return answers


def first_token(tokenizer: Any, text: str) -> int:
    """The first token of `text`.

    Raises:
        UserError: it has none.
    """
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise UserError(f"The opening {text!r} has no token.")
    return ids[0]


def _shifts(shift: float | Sequence[float], count: int) -> torch.Tensor:
    """The shift of each of `count` prompts."""
    shifts = torch.as_tensor(shift, dtype=torch.float32)
    if shifts.ndim and len(shifts) != count:
        raise UserError(f"Found {count} prompts and {len(shifts)} shifts: expected one for each, or a single number.")
    return shifts.expand(count)


class _Leaning(LogitsProcessor):
    """Add to the score of one token when an answer begins, for each row its own shift, and never after."""

    def __init__(self, token: int, shifts: torch.Tensor) -> None:
        self.token, self.shifts, self.begun = token, shifts, False

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (rows, vocabulary) of the next token."""
        if self.begun:
            return scores
        self.begun = True
        scores = scores.clone()
        scores[:, self.token] += self.shifts.to(scores)
        return scores


def _check_adapters(model: Any, prompts: Sequence[str], adapters: Sequence[str] | None) -> None:
    if adapters is None:
        return
    if len(adapters) != len(prompts):
        raise UserError(f"Found {len(prompts)} prompts and {len(adapters)} names of adapters: expected one for each.")
    there = list(getattr(model, "peft_config", {}))
    for name in adapters:
        if name != BASE and name not in there:
            raise UserError(
                f"No adapter called {name!r}: the model has {', '.join(there) or 'none'}, and {BASE} for none."
            )


def _continue(
    batch: list[list[int]], model: Any, tokenizer: Any, max_new_tokens: int, options: dict[str, Any]
) -> list[str]:
    pad, device = tokenizer.pad_token_id, next(model.parameters()).device
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    if "logits_to_keep" in inspect.signature(plain.forward).parameters:
        # The position of the last token, not the usual number 1: a slice of the last states makes PyTorch copy the whole
        # output layer for every row when its weights are frozen.
        options = {**options, "logits_to_keep": torch.tensor([-1], device=device)}
    with torch.inference_mode():
        input_ids, mask, states = read_shared(model, batch, pad, share="adapter_names" not in options)
        if states is not None:
            options = {**options, "past_key_values": states}
        output = model.generate(
            input_ids=input_ids,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=pad,
            eos_token_id=end_of_turn_id(tokenizer),
            **options,
        )
    start = 1 if is_encoder_decoder(model) else input_ids.shape[1]  # a decoder of its own begins with one start token
    return [text.strip() for text in tokenizer.batch_decode(output[:, start:], skip_special_tokens=True)]


def answer(
    model: Any,
    tokenizer: Any,
    questions: Sequence[str],
    template: str | None = None,
    max_new_tokens: int = 64,
    batch_size: int = 32,
    progress: bool | None = False,
    lean: Lean | None = None,
) -> list[str]:
    """Ask questions through the prompt template (default: the model's own) and return the answers."""
    prompts = [render_prompt({"question": question}, tokenizer, template) for question in questions]
    return generate(model, tokenizer, prompts, max_new_tokens, batch_size, progress, lean=lean)


def fast_copy(model: Any, precision: Precision | None = None) -> Any:
    """Return a copy of `model` made for answering: adapter merged, weights in this machine's 16-bit format.

    An adapter costs two extra small products in every layer, and float32 weights cost twice the memory traffic of
    16-bit ones; both are felt token by token. `model` itself stays as it is. A 4-bit model is returned as it is: there
    is nothing to merge into.
    """
    if is_4bit(model):
        return model.eval()
    precision = precision or choose_precision(next(model.parameters()).device)
    return merge(copy.deepcopy(model), precision.dtype).eval()
