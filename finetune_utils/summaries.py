"""Summaries of dialogues: rows and instructions, the first-two-turns baseline, scores with intervals, names nobody said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .data import load_rows, split_by_group
from .errors import UserError
from .evaluation import Interval, mean_difference, rate
from .files import Row
from .generation import generate
from .prompts import chat_prompt
from .quick_lora import plain_attention
from .scores import ROUGE_TYPES, rouge
from .tokenization import Example, tokenize_rows
from .training import TrainResult, TrainSettings, train

SPLIT = {"train": 100, "dev": 20, "test": 40}
# Every row brings its instruction, so the system message is empty.
TEMPLATE = "bare-chat"
# One instruction in several wordings: the training rows take turns, dev and test rows have the first.
WORDINGS = (
    "Summarize the dialogue in one or two sentences.",
    "What happens in this conversation? Answer in two sentences at most.",
    "Write a short summary of this talk.",
    "Tell in a sentence or two who wants what and how it ends.",
    "Sum up the following conversation.",
)
NEW_WORDING = "Please give me the gist of what these people said."  # no training row has it
MAX_LENGTH = 1024  # tokens of a row: nothing is cut, since a cut would take the summary first
MAX_TOKENS = 60  # the longest reference summary is shorter
CHECKLIST = ("right person", "right fact", "nothing invented")
WORD = re.compile(r"[A-Za-z][\w-]*")
NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")


def summary_question(dialogue: str, wording: str = WORDINGS[0]) -> str:
    """The instruction, a blank line, the dialogue."""
    return f"{wording}\n\n{dialogue}"


def with_wordings(rows: Iterable[Row], wordings: Sequence[str] = WORDINGS[:1]) -> list[Row]:
    """Rows with `dialogue` and `summary` as `question` and `answer`; the wordings take turns."""
    return [
        {**row, "question": summary_question(row["dialogue"], wordings[i % len(wordings)]), "answer": row["summary"]}
        for i, row in enumerate(rows)
    ]


def summary_rows(wordings: Sequence[str] = WORDINGS, seed: int = 0) -> dict[str, list[Row]]:
    """The rows of `dialogues.jsonl` in three parts, as questions and answers: `train`, `dev` and `test`.

    Args:
        wordings: instructions of the training rows. Dev and test rows have the first of the course's wordings.
    """
    parts = split_by_group(load_rows("dialogues"), "id", SPLIT, seed)
    return {name: with_wordings(rows, wordings if name == "train" else WORDINGS[:1]) for name, rows in parts.items()}


def first_turns(dialogue: str, count: int = 2) -> str:
    """A summary that costs nothing: the first turns of the dialogue as they stand."""
    return " ".join(dialogue.split("\n")[:count])


def solved_examples(rows: Sequence[Row], count: int) -> list[tuple[str, str]]:
    """The `count` shortest rows as solved examples for a prompt: (question, answer). Short ones, since all prompts carry them."""
    return [(row["question"], row["answer"]) for row in sorted(rows, key=lambda row: len(row["question"]))[:count]]


def summarize(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    wording: str = WORDINGS[0],
    examples: Sequence[tuple[str, str]] = (),
    max_new_tokens: int = MAX_TOKENS,
    batch_size: int = 40,
    system: str | None = "",
) -> list[str]:
    """Ask for a summary of every row's `dialogue`, greedily and in batches.

    Args:
        examples: solved examples before the question: one-shot or few-shot.
        system: the system message. Empty as in the training rows; None takes the model's own, which an untuned model
            knows best.
    """
    questions = [summary_question(row["dialogue"], wording) for row in rows]
    prompts = [chat_prompt(tokenizer, question, system, examples) for question in questions]
    return generate(model, tokenizer, prompts, max_new_tokens, batch_size)


def encode_summaries(rows: Sequence[Row], tokenizer: Any) -> list[Example]:
    """Prompt and summary as training examples; only the summary and its end-of-turn token are supervised."""
    return tokenize_rows(rows, tokenizer, TEMPLATE, MAX_LENGTH).examples


def train_long_rows(model: Any, tokenizer: Any, examples: Sequence[Example], settings: TrainSettings) -> TrainResult:
    """`train` for rows of up to 300 tokens: here every batch takes the quick attention that `train` keeps for shorter ones."""
    with plain_attention(model, 0):
        return train(model, tokenizer, examples, settings)


def rouge_intervals(predictions: Sequence[str | None], references: Sequence[str]) -> dict[str, Interval]:
    """Mean F1 of ROUGE-1, ROUGE-2 and ROUGE-L (0 to 1) with 95 % intervals, resampled by row."""
    found = rouge(predictions, references)
    return {name: mean_interval(found[name]) for name in ROUGE_TYPES}


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of one number a row with its 95 % interval, resampled by row."""
    return mean_difference([0.0] * len(values), values, range(len(values)))


def rouge_gap(
    before: Sequence[str | None], after: Sequence[str | None], references: Sequence[str], kind: str = "rougeL"
) -> Interval:
    """How much higher `after` scores than `before` on the same rows, paired, with its 95 % interval."""
    low, high = (rouge(texts, references)[kind] for texts in (before, after))
    return mean_difference(low, high, range(len(references)))


def ordinary_words(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """Words that are no names: written small somewhere in the rows, or opening a summary without standing in its dialogue."""
    known: set[str] = set()
    for row in rows:
        known |= {word for word in WORD.findall(row["dialogue"] + " " + row["summary"]) if word[0].islower()}
        said = set(WORD.findall(row["dialogue"]))
        openings = (WORD.search(sentence) for sentence in re.split(r"(?<=[.!?])\s+", row["summary"]))
        known |= {match.group().lower() for match in openings if match and match.group() not in said}
    return known


def invented(summary: str, dialogue: str, ordinary: set[str]) -> list[str]:
    """Names and numbers of a summary that stand nowhere in its dialogue, in their order, each once.

    A name is a capitalized word whose small form is not in `ordinary`; a number is written in digits. The rule sees
    neither a wrong fact nor a right name in the wrong place: that takes a reader.
    """
    said = set(WORD.findall(dialogue))
    digits = set(NUMBER.findall(dialogue))
    names = [w for w in WORD.findall(summary) if w[0].isupper() and w not in said and w.lower() not in ordinary]
    return list(dict.fromkeys([*names, *(n for n in NUMBER.findall(summary) if n not in digits)]))


def reader_counts(marks: Mapping[str, int | None], rows: int) -> dict[str, Interval]:
    """Shares with 95 % intervals from a reader's counts, such as {"right person": 7} of `rows`; None is left out.

    Raises:
        UserError: a count above the number of rows, or below 0.
    """
    found = {}
    for name, count in marks.items():
        if count is None:
            continue
        if not 0 <= count <= rows:
            raise UserError(f"{name}: found {count} of {rows} rows; expected a number from 0 to {rows}.")
        found[name] = rate([True] * count + [False] * (rows - count))
    return found
