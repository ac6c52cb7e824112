"""Where to draw the line: how far an opening leads when an answer begins, what a prompt's hidden states say of it, and the
shift that dev rows ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .batching import BATCH_TOKENS, length_batches
from .classification import reading_batches
from .errors import UserError
from .generation import first_token
from .nll import autocast
from .prefix import last_logits
from .tokenization import encode_prompts


def opening_lead(
    model: Any, tokenizer: Any, prompts: Sequence[str], opening: str, batch_tokens: int = BATCH_TOKENS
) -> np.ndarray:
    """How far the first token of `opening` leads the best other token right after each prompt: logits, (prompts,).

    Above 0, greedy decoding begins with it. `generate(lean=(opening, shift))` adds `shift` to every lead.

    Raises:
        UserError: an opening without a token, or an empty prompt.
    """
    token = first_token(tokenizer, opening)
    ids = encode_prompts(tokenizer, prompts)
    leads = np.zeros(len(ids))
    was_training = model.training
    model.eval()
    with torch.inference_mode(), autocast(model):
        for rows in length_batches([len(tokens) for tokens in ids], batch_tokens):
            logits = last_logits(model, [ids[i] for i in rows], tokenizer.pad_token_id)[0]
            own = logits[:, token].clone()
            logits[:, token] = -torch.inf
            leads[rows] = (own - logits.max(dim=1).values).cpu().numpy()
    model.train(was_training)
    return leads


@torch.inference_mode()
def prompt_features(model: Any, tokenizer: Any, prompts: Sequence[str], batch_tokens: int = BATCH_TOKENS) -> np.ndarray:
    """What `model` has made of each prompt: means over its tokens of the hidden states, float32 (prompts, 3 x width).

    They are taken at a quarter, half and three quarters of the depth: layers in between often serve other tasks better than
    the last one (Skean et al. 2025, arXiv 2502.02013).

    Raises:
        UserError: an empty prompt.
    """
    examples = [{"input_ids": ids, "labels": ids} for ids in encode_prompts(tokenizer, prompts)]
    body = (model.get_base_model() if hasattr(model, "get_base_model") else model).base_model
    layers = [max(round(share * model.config.num_hidden_layers), 1) for share in (0.25, 0.5, 0.75)]
    features = np.zeros((len(examples), len(layers) * model.config.hidden_size), np.float32)
    with autocast(model):
        for batch, tensors in reading_batches(model, examples, tokenizer, batch_tokens):
            states = body(**tensors, output_hidden_states=True).hidden_states
            mask = tensors["attention_mask"][..., None].float()
            means = [(states[layer].float() * mask).sum(dim=1) / mask.sum(dim=1) for layer in layers]
            features[batch] = torch.cat(means, dim=1).cpu().numpy()
    return features


def mistakes(wanted: np.ndarray, others: np.ndarray, shift: float) -> tuple[float, float]:
    """With this shift: the share of `wanted` leads that stay at or below 0 (misses), and of `others` above it (false alarms)."""
    return float((np.asarray(wanted) + shift <= 0).mean()), float((np.asarray(others) + shift > 0).mean())


def choose_shift(wanted: Sequence[float], others: Sequence[float], misses_for_one: float = 1.0) -> float:
    """The shift at which misses are `misses_for_one` times as frequent as false alarms, as nearly as these leads allow.

    Both shares change in steps, so a range of shifts does equally well: the middle of it is returned.

    Raises:
        UserError: one of the groups is empty.
    """
    if not len(wanted) or not len(others):
        raise UserError("A threshold needs rows of both kinds: those to be turned back and those to be answered.")
    edges = np.unique(-np.concatenate([wanted, others]))
    edges = np.concatenate([[edges[0] - 1], edges, [edges[-1] + 1]])
    middles = (edges[1:] + edges[:-1]) / 2
    gaps = []
    for shift in middles:
        missed, alarms = mistakes(wanted, others, shift)
        gaps.append(abs(missed - misses_for_one * alarms))
    best = np.flatnonzero(np.isclose(gaps, min(gaps)))
    return float((edges[best[0]] + edges[best[-1] + 1]) / 2)
