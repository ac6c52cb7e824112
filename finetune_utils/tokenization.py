"""Prompt and answer to `input_ids` and `labels`; the guards; `show_mask`; the collator."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import UserError
from .prompts import apply_chat_template, render_prompt

IGNORE = -100  # PyTorch's cross-entropy skips positions with this label
Example = dict[str, list[int]]


def encode_prompts(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of every prompt, without special tokens: a prompt holds those that it needs.

    Raises:
        UserError: an empty prompt.
    """
    ids = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    for number, tokens in enumerate(ids, start=1):
        if not tokens:
            raise UserError(f"Prompt {number} of {len(prompts)} is empty: there is nothing to continue.")
    return ids


def end_of_turn_id(tokenizer: Any) -> int:
    """The id that tells the model to stop. 0 is a real id (Pythia's), so only `None` counts as missing.

    Raises:
        UserError: the tokenizer has no end token, so a model could never learn to stop.
    """
    if tokenizer.eos_token_id is None:
        raise UserError(
            "This tokenizer has no end token (eos_token): a model trained with it could never learn to stop."
        )
    return int(tokenizer.eos_token_id)


def encode_row(row: Mapping[str, Any], tokenizer: Any, template: str | None = None) -> Example:
    """Turn one normalized row into `input_ids` and `labels` of equal length, untruncated.

    Supervised (their own id as label): the answer and the end-of-turn token; of `messages`, every assistant turn; of
    `text`, every token. Everything else gets -100. The parts are tokenized apart and joined, so that a
    boundary can never fall inside a piece.
    """
    if "messages" in row:
        segments = _message_segments(row["messages"], tokenizer)
    elif "text" in row:
        segments = [(row["text"], True, True)]
    else:
        segments = [(render_prompt(row, tokenizer, template), False, False), (row["answer"], True, True)]
    ids: list[int] = []
    labels: list[int] = []
    for text, supervised, ends_turn in segments:
        piece = tokenizer(text, add_special_tokens=False)["input_ids"]
        if ends_turn:
            piece = piece + [end_of_turn_id(tokenizer)]
        ids += piece
        labels += piece if supervised else [IGNORE] * len(piece)
    return {"input_ids": ids, "labels": labels}


def _message_segments(messages: Sequence[Mapping[str, str]], tokenizer: Any) -> list[tuple[str, bool, bool]]:
    """Cut a rendered conversation into (text, supervised, ends a turn) at the borders of the assistant turns."""
    end = tokenizer.eos_token or ""
    whole = apply_chat_template(tokenizer, messages)
    segments, done = [], 0
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = apply_chat_template(tokenizer, messages[:i], add_generation_prompt=True)
        answer = message["content"] + end
        if not whole.startswith(prompt) or not whole.startswith(answer, len(prompt)):
            raise UserError(
                "This model's chat template rewrites earlier turns, so the assistant's turns cannot be told apart: "
                "give the rows as question and answer instead."
            )
        segments += [(whole[done : len(prompt)], False, False), (message["content"], True, True)]
        done = len(prompt) + len(answer)
    return segments  # what follows the last answer (a newline) would only teach the model to go on


@dataclass
class Tokenized:
    """Examples ready for training, with what happened to them on the way."""

    examples: list[Example]
    truncated: int = 0
    max_length: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """All tokens, prompts included."""
        return sum(len(e["input_ids"]) for e in self.examples)

    @property
    def supervised(self) -> int:
        """Tokens that the model is trained to predict."""
        return sum(count_supervised(e) for e in self.examples)


def tokenize_rows(
    rows: Iterable[Mapping[str, Any]],
    tokenizer: Any,
    template: str | None = None,
    max_length: int = 512,
    source: str = "rows",
) -> Tokenized:
    """Encode rows, cut them at `max_length` tokens and check every one.

    A row whose end is cut keeps the rest of its answer but loses the end-of-turn token; how many did is in
    `truncated` and in `notes`.

    Raises:
        UserError: a row's whole answer was cut away, or nothing is left to learn from (file and line are named).
    """
    result = Tokenized([], max_length=max_length)
    for number, row in enumerate(rows, start=1):
        example = encode_row(row, tokenizer, template)
        length = len(example["input_ids"])
        if length > max_length:
            result.truncated += 1
            example = {name: ids[:max_length] for name, ids in example.items()}
            if not count_supervised(example):
                raise UserError.at(
                    source,
                    row.get("line", number),
                    found=f"a prompt that fills all {max_length} tokens, so that the answer is cut away",
                    do=f"shorten the prompt or raise --max-length (this row needs {length})",
                )
        check_example(example, source, row.get("line", number))
        result.examples.append(example)
    if result.truncated:
        longer = "row is" if result.truncated == 1 else "rows are"
        result.notes.append(
            f"{result.truncated} of {len(result.examples)} {longer} longer than {max_length} tokens: the end of the answer "
            "and its end-of-turn token are cut off. Raise --max-length to keep them."
        )
    return result


def count_supervised(example: Example) -> int:
    """Positions that are trained: supervised labels, the first excepted, since nothing comes before it."""
    return sum(label != IGNORE for label in example["labels"][1:])


def check_example(example: Example, source: str = "example", line: int | None = None) -> None:
    """Guard one example: labels line up with ids, and something is left to learn.

    Raises:
        UserError: lengths differ, a label is neither -100 nor its own token, or all labels are masked.
    """
    ids, labels = example["input_ids"], example["labels"]
    if len(ids) != len(labels):
        raise UserError.at(source, line, found=f"{len(labels)} labels for {len(ids)} tokens", expected="one a token")
    for position, (token, label) in enumerate(zip(ids, labels, strict=True)):
        if label not in (IGNORE, token):
            raise UserError.at(
                source,
                line,
                found=f"label {label} at position {position}, where the token is {token}",
                expected="the token itself or -100",
                do="do not shift the labels: the model does that",
            )
    if not count_supervised(example):
        raise UserError.at(source, line, found="no supervised token (all labels are -100)", do="check the mask")


def check_ends(examples: Sequence[Example], tokenizer: Any) -> None:
    """Guard a set: the end-of-turn token must be supervised somewhere, or the model never learns to stop.

    This is what happens when a collator masks every pad token and the pad token is also the end-of-turn token.

    Raises:
        UserError: no example supervises the end-of-turn token.
    """
    end = end_of_turn_id(tokenizer)
    if not any(end in example["labels"] for example in examples):
        raise UserError(
            f"No example trains the end-of-turn token {tokenizer.eos_token!r} (id {end}), so the model would never "
            "learn to stop. Cause: truncation, or labels masked by pad id while pad and end are the same token. "
            "Mask by position instead."
        )


def check_prefix(prompt: str, answer: str, tokenizer: Any) -> None:
    """Guard the habit of tokenizing the whole text and masking `len(tokens(prompt))` positions.

    Raises:
        UserError: the prompt's tokens are not a prefix of the whole text's tokens, so the mask would be off.
    """
    alone = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    whole = tokenizer(prompt + answer, add_special_tokens=False)["input_ids"]
    if whole[: len(alone)] != alone:
        where = next(i for i, (a, b) in enumerate(zip(alone, whole + [None], strict=False)) if a != b)
        raise UserError(
            f"The prompt is tokenized differently alone and before its answer (from token {where} on: "
            f"{tokenizer.decode(alone[where:])!r} against {tokenizer.decode(whole[where : where + 2])!r}): end the prompt "
            "without a trailing space, or tokenize prompt and answer apart."
        )


def mask_text(example: Example, tokenizer: Any) -> str:
    """The example as plain text with the supervised parts inside [[double brackets]]."""
    return "".join(f"[[{text}]]" if supervised else text for text, supervised in _runs(example, tokenizer))


def mask_html(example: Example, tokenizer: Any) -> str:
    """The same for a notebook: supervised parts bold, underlined and on a colored ground."""
    style = "background:#d7ecd9;color:#10301a;font-weight:600;text-decoration:underline"
    spans = [
        f'<span style="{style}">{html.escape(text)}</span>' if supervised else html.escape(text)
        for text, supervised in _runs(example, tokenizer)
    ]
    return '<pre style="white-space:pre-wrap">' + "".join(spans) + "</pre>"


def show_mask(example: Example, tokenizer: Any) -> None:
    """Show which part of an example is trained: marked in color in a notebook, in brackets elsewhere."""
    from IPython.display import display

    text = mask_text(example, tokenizer)
    display({"text/plain": text, "text/html": mask_html(example, tokenizer)}, raw=True)


def _runs(example: Example, tokenizer: Any) -> list[tuple[str, bool]]:
    """Group neighboring tokens with the same fate: (decoded text, supervised)."""
    runs: list[tuple[list[int], bool]] = []
    for token, label in zip(example["input_ids"], example["labels"], strict=True):
        supervised = label != IGNORE
        if not runs or runs[-1][1] != supervised:
            runs.append(([], supervised))
        runs[-1][0].append(token)
    return [(tokenizer.decode(ids, skip_special_tokens=False), supervised) for ids, supervised in runs]
