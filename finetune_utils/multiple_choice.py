"""Multiple choice by log-likelihood: the choice that the model finds most likely is its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .batching import BATCH_TOKENS, length_batches
from .errors import UserError
from .nll import autocast, token_nll
from .prefix import last_logits
from .tokenization import IGNORE, Example, encode_prompts

DELIMITER = " "  # between context and choice


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question with its choices; `answer` is the position of the right one, from 0."""

    question: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class ChoiceScores:
    """What a model made of each question.

    `log_likelihoods[i]` has one number a choice, in nats: the sum over the choice's tokens. The two readings are those
    of lm-evaluation-harness 0.4.13: `acc` takes the largest sum, `acc_norm` the largest sum divided by the length of
    the choice in characters, since a long choice has more tokens to lose likelihood on. Of equal ones the first counts.
    """

    questions: list[ChoiceQuestion]
    log_likelihoods: list[np.ndarray]

    @property
    def picked(self) -> np.ndarray:
        """Position of the most likely choice of each question."""
        return np.array([int(np.argmax(scores)) for scores in self.log_likelihoods])

    @property
    def picked_norm(self) -> np.ndarray:
        """Position of the choice with the highest log-likelihood a character."""
        return np.array(
            [
                int(np.argmax(scores / np.array([len(choice) for choice in question.choices])))
                for question, scores in zip(self.questions, self.log_likelihoods, strict=True)
            ]
        )

    @property
    def right(self) -> np.ndarray:
        """1.0 where `picked` is the answer; the mean is `acc`."""
        return (self.picked == [q.answer for q in self.questions]).astype(float)

    @property
    def right_norm(self) -> np.ndarray:
        """1.0 where `picked_norm` is the answer; the mean is `acc_norm`."""
        return (self.picked_norm == [q.answer for q in self.questions]).astype(float)

    @property
    def acc(self) -> float:
        """Share of questions answered right."""
        return float(self.right.mean())

    @property
    def acc_norm(self) -> float:
        """Share answered right when likelihoods are compared per character."""
        return float(self.right_norm.mean())


def question_context(question: str) -> str:
    """The context of ARC in lm-evaluation-harness; the choice follows after a space."""
    return f"Question: {question}\nAnswer:"


def read_choices(row: Mapping[str, Any], source: str = "rows", line: int | None = None) -> ChoiceQuestion:
    """Read one row: `question`, `choices` (texts), `answer` (position from 0, letter, or the right text).

    Rows of ARC (`choices` with `text` and `label`, `answerKey`) are read too.

    Raises:
        UserError: columns are missing, there are fewer than two choices, two are equal, or the answer is none of them.
    """
    choices, key = row.get("choices"), row.get("answer", row.get("answerKey"))
    labels: Sequence[Any] = ()
    if isinstance(choices, Mapping):
        choices, labels = choices.get("text"), choices.get("label", ())
    line = row.get("line", line)
    if not isinstance(row.get("question"), str) or not isinstance(choices, (list, tuple)) or key is None:
        expected = "question (text), choices (a list of texts) and answer"
        raise UserError.at(source, line, found="the columns " + ", ".join(row), expected=expected)
    if (
        len(choices) < 2
        or not all(isinstance(c, str) and c.strip() for c in choices)
        or len(set(choices)) < len(choices)
    ):
        found = f"choices {list(choices)!r}"
        raise UserError.at(source, line, found=found, expected="two or more different texts, none of them empty")
    names = list(labels) or [chr(ord("A") + i) for i in range(len(choices))]
    if isinstance(key, int) and not isinstance(key, bool) and 0 <= key < len(choices):
        return ChoiceQuestion(row["question"], tuple(choices), key)
    for place in (names, list(choices)):
        if key in place:
            return ChoiceQuestion(row["question"], tuple(choices), place.index(key))
    expected = f"a position from 0 to {len(choices) - 1}, a letter or one of the choices"
    raise UserError.at(source, line, found=f"answer {key!r}", expected=expected)


def encode_pair(tokenizer: Any, context: str, continuation: str) -> Example:
    """Tokens of context and continuation with only the continuation supervised, as lm-evaluation-harness 0.4.13 cuts them.

    The two are tokenized as one text and cut after as many tokens as the context has alone; blanks at the end of the context
    go to the continuation. An empty context becomes the start token, or the end token of a tokenizer without one.

    Raises:
        UserError: the continuation has no token of its own.
    """
    if not context:
        start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        ids = tokenizer.encode(continuation, add_special_tokens=False)
        ids, cut = ids if ids[:1] == [start] else [start, *ids], 1
    else:
        blanks = len(context) - len(context.rstrip())
        ids = tokenizer.encode(context + continuation)
        cut = len(tokenizer.encode(context[: len(context) - blanks]))
    if len(ids) <= cut:
        raise UserError(f"The choice {continuation!r} has no token of its own after {context[-20:]!r}.")
    return {"input_ids": ids, "labels": [IGNORE] * cut + ids[cut:]}


def log_likelihoods(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[tuple[str, str]],
    batch_tokens: int = BATCH_TOKENS,
    progress: bool | None = False,
) -> np.ndarray:
    """Log-likelihood in nats of each continuation after its context, summed over its tokens; shape (pairs,).

    What is longer than the model's window loses tokens from the left.
    """
    window = getattr(model.config, "max_position_embeddings", None) or 10**9
    examples = [encode_pair(tokenizer, context, continuation) for context, continuation in pairs]
    examples = [{name: ids[-window:] for name, ids in example.items()} for example in examples]
    return -token_nll(model, examples, tokenizer, batch_tokens, progress).sums


def first_token_scores(
    model: Any, tokenizer: Any, prompts: Sequence[str], choices: Sequence[str], batch_tokens: int = BATCH_TOKENS
) -> np.ndarray:
    """Logits of the choices' first tokens right after each prompt, (prompts, choices): one pass, however many choices.

    Enough to compare choices of one token, and to pick a label by how an answer begins. A prompt longer than the
    model's window loses tokens from the left.

    Raises:
        UserError: two choices begin with the same token, or a prompt or a choice has none.
    """
    first = [tuple(tokenizer(choice, add_special_tokens=False)["input_ids"][:1]) for choice in choices]
    if len(set(first)) < len(choices) or () in first:
        raise UserError(f"The labels {', '.join(choices)} do not begin with different tokens: choose other words.")
    window = getattr(model.config, "max_position_embeddings", None) or 10**9
    ids = [tokens[-window:] for tokens in encode_prompts(tokenizer, prompts)]
    scores = np.zeros((len(ids), len(first)))
    was_training = model.training
    model.eval()
    with torch.inference_mode(), autocast(model):
        for rows in length_batches([len(tokens) for tokens in ids], batch_tokens):
            logits = last_logits(model, [ids[i] for i in rows], tokenizer.pad_token_id)[0]
            scores[rows] = logits[:, [token for (token,) in first]].cpu().numpy()
    model.train(was_training)
    return scores


def multiple_choice(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    context: Callable[[str], str] = question_context,
    delimiter: str = DELIMITER,
    progress: bool | None = False,
) -> ChoiceScores:
    """Score every choice of every row (see `read_choices`) as a continuation of its question.

    Args:
        context: question -> the text before the choice. For a chat prompt, which ends where the answer begins, set
            `delimiter=""`.

    Raises:
        UserError: no rows, or a row that is not a multiple-choice question.
    """
    questions = [read_choices(row, line=number) for number, row in enumerate(rows, start=1)]
    if not questions:
        raise UserError("There are no multiple-choice questions to score.")
    pairs = [(context(q.question), delimiter + choice) for q in questions for choice in q.choices]
    found = log_likelihoods(model, tokenizer, pairs, progress=progress)
    borders = np.cumsum([len(q.choices) for q in questions])[:-1]
    return ChoiceScores(questions, np.split(found, borders))
