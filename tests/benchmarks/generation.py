"""Benchmark: batched greedy answers against one question at a time, 64 course questions, 64 new tokens.

Run it with `python tests/benchmarks/generation.py` (about 8 minutes on 2 cores). It prints ratios from one run, compares the
texts, and traces each difference to the two best next tokens where the texts part.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from finetune_utils import hardware
from finetune_utils.generation import answer
from finetune_utils.models import load_model
from finetune_utils.prompts import render_prompt
from finetune_utils.runs import course_rows, spread

NEAR_TIE = 0.05  # logits closer than this may change places when sums are taken in another order


def timed(model, tokenizer, questions, batch_size, max_new_tokens):
    """Answers and seconds."""
    started = time.perf_counter()
    texts = answer(model, tokenizer, questions, max_new_tokens=max_new_tokens, batch_size=batch_size)
    return texts, time.perf_counter() - started


def trace(model, tokenizer, question: str, one: str, other: str) -> tuple[int, float]:
    """Where two answers part (token number) and how far apart the two candidates' logits are there."""
    prompt = tokenizer(render_prompt({"question": question}, tokenizer), add_special_tokens=False)["input_ids"]
    a, b = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (one, other))
    place = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + a[:place]])).logits[0, -1].float()
    best = logits.topk(2).values
    return place, float(best[0] - best[1])


def main() -> None:
    """Time all three ways and print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    hardware.quiet()
    hardware.use_fast_fp32()
    questions = [row["question"] for row in spread(course_rows().unseen, options.questions)]
    model, tokenizer = load_model(options.model, say=lambda message: None)
    timed(model, tokenizer, questions[:4], 4, 4)  # warm-up
    single, slow = timed(model, tokenizer, questions, 1, options.max_new_tokens)
    batched, quick = timed(model, tokenizer, questions, 32, options.max_new_tokens)
    same = sum(a == b for a, b in zip(single, batched, strict=True))
    print(f"one by one, float32:      {slow:7.1f} s")
    print(
        f"32 at a time, float32:    {quick:7.1f} s  {slow / quick:5.1f} x faster; {same} of {len(questions)} texts equal"
    )
    gaps = []
    for question, a, b in zip(questions, single, batched, strict=True):
        if a != b:
            place, gap = trace(model, tokenizer, question, a, b)
            gaps.append(gap)
            verdict = "a near tie" if gap < NEAR_TIE else "NOT a near tie"
            print(f"  differs from token {place} on; the two best logits are {gap:.4f} apart: {verdict}: {question}")
    low = hardware.cast_weights(model, hardware.choose_precision().dtype)
    timed(low, tokenizer, questions[:4], 4, 4)
    _, quickest = timed(low, tokenizer, questions, 32, options.max_new_tokens)
    print(
        f"32 at a time, {hardware.choose_precision().name} weights: {quickest:6.1f} s  {slow / quickest:5.1f} x faster"
    )
    if options.output:
        result = {"one_by_one": slow, "batched": quick, "low": quickest, "same": same, "questions": len(questions),
                  "gaps": gaps, "machine": hardware.describe()}  # fmt: skip
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
