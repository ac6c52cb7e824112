"""Sentence vectors from MiniLM: texts that mean similar things point in similar directions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from .hardware import choose_device
from .weights import ensure_model

MAX_TOKENS = 256  # what MiniLM was trained with; the rest of a longer text is not read


class Encoder:
    """A sentence encoder: `encoder(texts)` gives one vector of length 1 a text.

    all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0): a six-layer encoder trained so that texts of similar
    meaning get similar vectors. A vector is the mean of the last layer over the text's tokens, padding left out.
    """

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 64) -> None:
        self.model, self.tokenizer, self.batch_size = model.eval(), tokenizer, batch_size

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts in batches of similar length; returns float32 (texts, width), in the order given."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = np.zeros((len(texts), self.model.config.hidden_size), np.float32)
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            vectors[chosen] = self._encode([texts[i] for i in chosen])
        return vectors

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> np.ndarray:
        device = next(self.model.parameters()).device
        batch = self.tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt").to(
            device
        )
        hidden = self.model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return torch.nn.functional.normalize(mean, dim=-1).float().cpu().numpy()


def load_encoder(
    folder: Path | None = None, device: torch.device | None = None, say: Callable[[str], None] = print
) -> Encoder:
    """Load MiniLM from the course's cache (fetched once by `setup`), or any encoder saved in `folder`.

    Raises:
        UserError: the model is not there and cannot be fetched.
    """
    folder = folder or ensure_model("minilm", say)
    model = AutoModel.from_pretrained(folder, use_safetensors=True, trust_remote_code=False)
    return Encoder(model.to(device or choose_device()), AutoTokenizer.from_pretrained(folder, trust_remote_code=False))


@functools.lru_cache(maxsize=1)
def default_encoder() -> Encoder:
    """MiniLM, loaded once a process without a word: what `scores.embedding_similarity` takes when it is given nothing."""
    return load_encoder(say=lambda message: None)
