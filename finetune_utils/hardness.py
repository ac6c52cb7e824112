"""Toy models of growing width on three tasks of growing hardness: one form, one rule, many facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from .errors import UserError

NUMBERS = 32  # a row is two numbers, a sign, and one number as the answer
FACTS = 512
WIDTHS = (4, 8, 16, 32, 64)


def toy_rows(task: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Training and test rows of a task, each of shape (rows, 4): first number, second number, sign, answer.

    `form`: the answer is always the same. `rule`: the answer is the larger number; the test pairs were not trained.
    `facts`: each pair has an answer drawn at random, so nothing but the pair tells it; the test is
    recall of trained pairs.

    Raises:
        UserError: no such task.
    """
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.cartesian_prod(torch.arange(NUMBERS), torch.arange(NUMBERS))
    pairs = pairs[torch.randperm(len(pairs), generator=generator)]
    rules: dict[str, Callable[[], torch.Tensor]] = {
        "form": lambda: torch.full((len(pairs),), 7),
        "rule": lambda: pairs.max(dim=1).values,
        "facts": lambda: torch.randint(NUMBERS, (len(pairs),), generator=generator),
    }
    if task not in rules:
        raise UserError(f"There is no toy task {task!r}: choose one of {', '.join(rules)}.")
    rows = torch.cat([pairs, torch.full((len(pairs), 1), NUMBERS), rules[task]()[:, None]], dim=1)
    return (rows[:FACTS], rows[:FACTS]) if task == "facts" else (rows[:FACTS], rows[FACTS:])


def toy_model(width: int, seed: int = 0) -> LlamaForCausalLM:
    """A Llama of two layers with random weights, `width` numbers wide."""
    config = LlamaConfig(
        vocab_size=NUMBERS + 1, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=8, tie_word_embeddings=True,
        initializer_range=width**-0.5,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def toy_point(task: str, width: int, steps: int = 400, batch: int = 128, seed: int = 0) -> dict[str, Any]:
    """Train one toy model on one task; `accuracy` is the share of test rows answered right."""
    train, test = toy_rows(task, seed)
    model = toy_model(width, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = train[torch.randint(len(train), (batch,), generator=generator)]
        loss = torch.nn.functional.cross_entropy(model(rows[:, :3], use_cache=False).logits[:, -1], rows[:, 3])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        right = model(test[:, :3], use_cache=False).logits[:, -1].argmax(dim=1) == test[:, 3]
    weights = sum(p.numel() for p in model.parameters())
    return {"task": task, "width": width, "weights": weights, "accuracy": float(right.float().mean()), "steps": steps}


def toy_points(
    widths: Sequence[int] = WIDTHS, tasks: Sequence[str] = ("form", "rule", "facts"), seeds: Sequence[int] = (0, 1, 2),
    steps: int = 400,
) -> list[dict[str, Any]]:  # fmt: skip
    """Every task at every width: mean, lowest and highest accuracy over the seeds."""
    rows = []
    for task in tasks:
        for width in widths:
            points = [toy_point(task, width, steps, seed=seed) for seed in seeds]
            found = [point["accuracy"] for point in points]
            spread = {"accuracy": sum(found) / len(found), "low": min(found), "high": max(found)}
            rows.append({**points[0], **spread, "seeds": len(found)})
    return rows
