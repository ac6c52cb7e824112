"""Three readings of one model: the Yes/No token, the stated number, the distribution over its digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..batching import BATCH_TOKENS, length_batches
from ..errors import UserError
from ..generation import generate
from ..nll import autocast
from ..prefix import last_logits
from ..progress import bar
from ..quick_lora import plain_attention, quick_lora
from ..soft_labels import choice_tokens
from ..tokenization import encode_prompts
from .answers import Reading, read_answers

YES_NO = (" Yes", " No")
OPENING = ' {"probability": 0.'  # what the first digit of a stated probability follows


def yes_no_words(tokenizer: Any) -> tuple[str, str]:
    """The words of a Yes/No answer: with a space before them, or without where the tokenizer puts it in by itself (Mistral's).

    Raises:
        UserError: in this tokenizer they are several tokens either way.
    """
    try:
        choice_tokens(YES_NO, tokenizer)
        return YES_NO
    except UserError:
        bare = ("Yes", "No")
        choice_tokens(bare, tokenizer)
        return bare


def yes_no(
    model: Any, tokenizer: Any, prompts: Sequence[str], words: tuple[str, str] = YES_NO, batch_tokens: int = BATCH_TOKENS,
    progress: bool | None = False,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """P(first word) / (P(first word) + P(second word)) for the token after each prompt, and that sum itself.

    Both have shape (prompts,). A sum far below 1 says that the model would answer something else.

    Raises:
        UserError: a word that is not one token, or an empty prompt.
    """
    yes, no = choice_tokens(words, tokenizer)
    shares = torch.empty(len(prompts), 2)
    for rows, logits, _ in _last_logits(model, tokenizer, prompts, batch_tokens, progress):
        shares[rows] = logits.softmax(-1)[:, [yes, no]].cpu()
    total = shares.sum(dim=1)
    return shares[:, 0] / total, total


def stated(
    model: Any, tokenizer: Any, prompts: Sequence[str], kind: str = "win", max_new_tokens: int = 40,
    batch_size: int = 128, progress: bool | None = False,
) -> tuple[Reading, list[str]]:  # fmt: skip
    """Let the model answer freely and greedily, parse what it wrote, and return both. Nothing is repaired.

    Questions and answers are short and alike in length, so many of them fit a batch.
    """
    texts = generate(model, tokenizer, prompts, max_new_tokens, batch_size, progress)
    return read_answers(texts, kind), texts


@dataclass(frozen=True)
class Digits:
    """The distribution over a stated probability.

    `grid` (prompts, 10, 10): probability of 0.d1d2, given that two digits follow. `mass` (prompts,): how probable the
    model finds any digit after the opening.
    """

    grid: torch.Tensor
    mass: torch.Tensor

    @property
    def expected(self) -> torch.Tensor:
        """Mean of 0.d1d2 under the grid, (prompts,)."""
        values = torch.arange(100, dtype=torch.float32).reshape(10, 10) / 100
        return (self.grid * values).sum(dim=(1, 2))

    def quantile(self, share: float) -> torch.Tensor:
        """The smallest 0.d1d2 at which the cumulative probability reaches `share`, (prompts,)."""
        reached = self.grid.flatten(1).cumsum(dim=1)
        return (reached < share - 1e-6).sum(dim=1).clamp(max=99) / 100


def digit_distribution(
    model: Any, tokenizer: Any, prompts: Sequence[str], opening: str = OPENING, batch_tokens: int = 1024,
    progress: bool | None = False,
) -> Digits:  # fmt: skip
    """Read the model's distribution over 0.00 to 0.99 instead of one number: eleven short passes a prompt.

    One pass over prompt and opening gives the first digit; one more token for each of its ten values, on the kept
    attention states, gives the second.

    Raises:
        UserError: a tokenizer that does not write digits as one token each, or an empty prompt.
    """
    digits = choice_tokens([str(d) for d in range(10)], tokenizer)
    if tokenizer(opening + "62", add_special_tokens=False)["input_ids"][-2:] != [digits[6], digits[2]]:
        raise UserError("This tokenizer writes several digits as one token: read the stated number instead.")
    grid, mass = torch.empty(len(prompts), 10, 10), torch.empty(len(prompts))
    for rows, logits, state in _last_logits(model, tokenizer, prompts, batch_tokens, progress, opening):
        first = logits.softmax(-1)[:, digits]
        mask, cache = state
        cache.batch_repeat_interleave(10)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1).repeat_interleave(10, dim=0)
        tokens = torch.tensor(digits, device=mask.device).repeat(len(rows))[:, None]
        positions = mask.sum(dim=1, keepdim=True) - 1
        with torch.inference_mode(), autocast(model):
            after = model(input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache).logits
        second = after[:, -1].float()[:, digits].softmax(-1).reshape(len(rows), 10, 10)
        grid[rows] = (first / first.sum(dim=1, keepdim=True))[:, :, None].cpu() * second.cpu()
        mass[rows] = first.sum(dim=1).cpu()
    return Digits(grid, mass)


def _last_logits(
    model: Any, tokenizer: Any, prompts: Sequence[str], batch_tokens: int, progress: bool | None, opening: str = ""
) -> Any:
    """Yield (row numbers, float32 logits after the last token, (mask, cache)) for batches of similar length.

    With `opening`, the answer's beginning is tokenized apart, as in training, and the cache is kept for what follows.
    """
    ids = encode_prompts(tokenizer, prompts)
    begun = tokenizer(opening, add_special_tokens=False)["input_ids"] if opening else []
    ids = [tokens + begun for tokens in ids]
    was_training = model.training
    model.eval()
    longest = max(map(len, ids), default=0)
    with (
        bar(len(ids), "Reading", "question", progress) as progress_bar,
        quick_lora(model),
        plain_attention(model, longest),
    ):
        for rows in length_batches([len(tokens) for tokens in ids], batch_tokens):
            with torch.inference_mode(), autocast(model):
                batch = [ids[i] for i in rows]
                logits, mask, states = last_logits(model, batch, tokenizer.pad_token_id, keep=bool(opening))
            yield rows, logits, (mask, states)
            progress_bar.update(len(rows))
    model.train(was_training)
