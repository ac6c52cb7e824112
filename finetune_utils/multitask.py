"""Several tasks in one model: three tasks in one shape, sampling shares, batches that take turns, one board of scores."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .batching import BATCH_TOKENS, example_order
from .classification import LABELS
from .data import load_rows, split_by_group
from .errors import UserError
from .evaluation import Interval, mean_difference, nll_difference
from .files import Row
from .forgetting import Windows, forgotten, neutral_nll
from .multiple_choice import first_token_scores
from .nll import NLL, token_nll
from .prompts import render_prompt
from .runs import course_rows, is_fact, spread
from .scores import rouge
from .summaries import MAX_LENGTH, MAX_TOKENS, TEMPLATE, summarize, summary_rows
from .tokenization import Example, tokenize_rows
from .trials import per_fact

SUMMARIES, QUESTIONS, SENTIMENT = "summaries", "questions", "sentiment"
TASKS = (SUMMARIES, QUESTIONS, SENTIMENT)
POSTS = {"train": 400, "dev": 60, "test": 180}
MOOD_WORDINGS = (
    "Is the mood of this post negative, neutral or positive?",
    "Name the writer's feeling in one word: negative, neutral or positive.",
    "Negative, neutral or positive: how does the writer see it?",
    "Sort this post into negative, neutral or positive.",
    "Which label fits the post: negative, neutral or positive?",
)
NEW_MOOD_WORDING = (
    "Read what somebody posted. Is the person for it, against it, or neither? Say positive, negative or neutral."
)


@dataclass(frozen=True)
class Task:
    """One task as rows with `question` and `answer`: what is trained on, and what judges it."""

    train: list[Row]
    dev: list[Row]
    test: list[Row]


def three_tasks(mood_wordings: Sequence[str] = MOOD_WORDINGS, seed: int = 0) -> dict[str, Task]:
    """Summaries, questions on fine-tuning, and the mood of posts: three data sets of the course in one shape.

    Questions are tested on facts that no training row mentions, one wording of each. Wordings of an instruction take turns in
    training; tests ask in the first.
    """
    parts, dealt = summary_rows(seed=seed), course_rows(seed)
    posts = split_by_group(load_rows("tweets"), "id", POSTS, seed)
    facts = [row for row in dealt.train if is_fact(row)]
    return {
        SUMMARIES: Task(parts["train"], parts["dev"], parts["test"]),
        QUESTIONS: Task(facts, per_fact(filter(is_fact, dealt.dev), 1), per_fact(dealt.unseen, 1)),
        SENTIMENT: Task(
            mood_rows(posts["train"], mood_wordings), mood_rows(posts["dev"]), mood_rows(posts["test"])
        ),
    }  # fmt: skip


def mood_question(post: str, wording: str = MOOD_WORDINGS[0]) -> str:
    """The instruction, a blank line, the post."""
    return f"{wording}\n\n{post}"


def mood_rows(posts: Sequence[Row], wordings: Sequence[str] = MOOD_WORDINGS[:1]) -> list[Row]:
    """Posts with `text` and `label` as questions and answers, under `id`, `post` and `label`; the wordings take turns.

    The column `text` gets another name: a row of `text` counts as raw text, every token of which is trained.
    """
    return [
        {
            "id": row["id"],
            "post": row["text"],
            "label": row["label"],
            "question": mood_question(row["text"], wordings[i % len(wordings)]),
            "answer": row["label"],
        }
        for i, row in enumerate(posts)
    ]


def sampling_shares(sizes: Mapping[str, int], temperature: float = 1.0, limit: int | None = None) -> dict[str, float]:
    """Which share of the batches each task gets: its number of rows to the power 1 / `temperature`, divided by the sum.

    1 is proportional to size, `math.inf` gives all tasks the same share, and what lies between favors small tasks (Raffel
    et al. 2020, arXiv 1910.10683, section 3.5.2).

    Args:
        limit: a larger task counts as if it had only so many rows.

    Raises:
        UserError: no tasks, a task without rows, a temperature below 1, or a limit below 1.
    """
    if not sizes or min(sizes.values()) < 1:
        raise UserError(f"Sampling needs tasks with at least one row each; found {dict(sizes)}.")
    if not temperature >= 1:
        raise UserError(f"temperature is {temperature}: give 1 (proportional) or more, up to math.inf (equal).")
    if limit is not None and limit < 1:
        raise UserError(f"limit is {limit}: a task counts with at least 1 row.")
    power = 0.0 if math.isinf(temperature) else 1 / temperature
    weights = {name: min(size, limit or size) ** power for name, size in sizes.items()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def deal_steps(shares: Mapping[str, float], steps: int) -> dict[str, int]:
    """Whole numbers of steps close to the shares, `steps` in all: what is left after rounding down goes to the largest rests."""
    exact = {name: share * steps / sum(shares.values()) for name, share in shares.items()}
    dealt = {name: math.floor(value + 1e-9) for name, value in exact.items()}
    by_rest = sorted(exact, key=lambda name: dealt[name] - exact[name])
    for name in by_rest[: steps - sum(dealt.values())]:
        dealt[name] += 1
    return dealt


def mix_batches(
    examples: Mapping[str, Sequence[Example]],
    shares: Mapping[str, float],
    steps: int,
    batch_size: int = 4,
    seed: int = 0,
) -> list[Example]:
    """The examples of a mixed run in their order (train with `shuffle=False`): every batch has one task, tasks take turns.

    In a batch of several tasks, the one with the longest answers would decide the loss, which is a mean over tokens.
    With one task the order is the one that `train` itself would choose.
    """
    batches: list[list[Example]] = []
    for name, count in deal_steps(shares, steps).items():
        if count:
            rows = examples[name]
            order = example_order([len(e["input_ids"]) for e in rows], batch_size, max_steps=count, seed=seed)
            batches += [[rows[i] for i in order[k : k + batch_size]] for k in range(0, len(order), batch_size)]
    if len(shares) > 1:
        random.Random(f"{seed}-mix").shuffle(batches)
    return [example for batch in batches for example in batch]


def encode_task(rows: Sequence[Row], tokenizer: Any) -> list[Example]:
    """Rows of any of the three tasks as training examples."""
    return tokenize_rows(rows, tokenizer, TEMPLATE, MAX_LENGTH).examples


def pick_labels(
    model: Any,
    tokenizer: Any,
    questions: Sequence[str],
    labels: Sequence[str] = LABELS,
    batch_tokens: int = BATCH_TOKENS,
) -> list[str]:
    """The label whose first token the model finds most likely as the beginning of its answer, for each question.

    Raises:
        UserError: two labels begin with the same token.
    """
    prompts = [render_prompt({"question": question}, tokenizer, TEMPLATE) for question in questions]
    scores = first_token_scores(model, tokenizer, prompts, labels, batch_tokens)
    return [labels[best] for best in scores.argmax(axis=1)]


@dataclass(frozen=True)
class TaskScores:
    """What one model got on all three tasks and on neutral text, row by row."""

    rouge_l: list[float]
    questions: NLL
    right: list[bool]
    neutral: NLL


def score_tasks(
    model: Any,
    tokenizer: Any,
    tests: Mapping[str, Sequence[Row]],
    windows: Windows,
    max_new_tokens: int = MAX_TOKENS,
    texts: Sequence[str] | None = None,
) -> TaskScores:
    """Score a model on test rows of every task: ROUGE-L, NLL of answers, right labels; and the NLL of neutral text.

    `texts` are the model's summaries, where they have been written already.
    """
    if texts is None:
        texts = summarize(model, tokenizer, tests[SUMMARIES], max_new_tokens=max_new_tokens)
    found = pick_labels(model, tokenizer, [row["question"] for row in tests[SENTIMENT]])
    return TaskScores(
        rouge(texts, [row["summary"] for row in tests[SUMMARIES]])["rougeL"],
        token_nll(model, encode_task(tests[QUESTIONS], tokenizer), tokenizer),
        [label == row["label"] for label, row in zip(found, tests[SENTIMENT], strict=True)],
        neutral_nll(model, tokenizer, windows),
    )


def task_changes(before: TaskScores, after: TaskScores, windows: Windows) -> dict[str, Interval]:
    """`after` minus `before` on every test, paired by row; neutral text by piece.

    The keys: `rouge_l`, `question_nll`, `accuracy`, `neutral_nll`.
    """
    questions = range(len(before.questions.sums))
    return {
        "rouge_l": mean_difference(before.rouge_l, after.rouge_l, range(len(before.rouge_l))),
        "question_nll": nll_difference(before.questions, after.questions, questions),
        "accuracy": mean_difference(before.right, after.right, range(len(before.right))),
        "neutral_nll": forgotten(before.neutral, after.neutral, windows),
    }


def board_row(name: str, scores: TaskScores, untuned: TaskScores, windows: Windows) -> dict[str, Any]:
    """One flat row of the board: every score, and its change against the untuned model with `_low` and `_high`."""
    row: dict[str, Any] = {
        "arm": name,
        "rouge_l": sum(scores.rouge_l) / len(scores.rouge_l),
        "question_nll": scores.questions.mean,
        "accuracy": sum(scores.right) / len(scores.right),
        "neutral_nll": scores.neutral.mean,
    }
    for key, change in task_changes(untuned, scores, windows).items():
        row |= {f"{key}_change": change.estimate, f"{key}_change_low": change.low, f"{key}_change_high": change.high}
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}


def pick_tests(tasks: Mapping[str, Task], limits: Mapping[str, int]) -> dict[str, list[Row]]:
    """At most so many test rows of each task, at equal distances."""
    return {name: spread(task.test, limits[name]) for name, task in tasks.items()}
