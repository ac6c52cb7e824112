"""Prompt templates: how a row becomes the text that the model sees before it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .errors import UserError

ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
ALPACA_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
QUESTION = "### Question:\n{question}\n\n### Answer:\n"
TEMPLATES = ("chat", "short-chat", "bare-chat", "question", "alpaca", "plain", "forecast", "yes-no")
# Short, since every token of every row is paid for: the end of a forecasting question says what to answer with.
ENDINGS = {"plain": "", "forecast": "\nJSON:", "yes-no": "\nYes or No:"}
# SmolLM2's template puts 21 tokens of its own into every prompt; a message of ours replaces them.
SHORT_SYSTEM = "Fine-tuning assistant"


def question_prompt(question: str) -> str:
    """A heading for the question, a heading for the answer. For models without a chat template."""
    return QUESTION.format(question=question)


def alpaca_prompt(instruction: str, input: str = "") -> str:
    """The template of Stanford Alpaca (github.com/tatsu-lab/stanford_alpaca): two texts, with and without input."""
    if input.strip():
        return ALPACA_WITH_INPUT.format(instruction=instruction, input=input)
    return ALPACA_WITHOUT_INPUT.format(instruction=instruction)


def chat_prompt(
    tokenizer: Any,
    question: str,
    system: str | None = None,
    examples: Sequence[tuple[str, str]] = (),
) -> str:
    """The model's own chat template, ending where its answer begins.

    `examples` are earlier (question, answer) turns: that is few-shot prompting for a chat model. Without `system`,
    SmolLM2's template puts in its own system message.
    """
    messages = [{"role": "system", "content": system}] if system is not None else []
    for asked, answered in examples:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    messages.append({"role": "user", "content": question})
    return apply_chat_template(tokenizer, messages, add_generation_prompt=True)


def apply_chat_template(
    tokenizer: Any, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = False
) -> str:
    """Render messages as text with the tokenizer's chat template.

    Raises:
        UserError: the tokenizer has none.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            "This model's tokenizer has no chat template: use the template `question` or an instruct model."
        )
    return tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=add_generation_prompt)


def few_shot_prompt(examples: Sequence[tuple[str, str]], question: str) -> str:
    """Solved examples and then the question, as plain text. For base models."""
    solved = "".join(question_prompt(q) + a + "\n\n" for q, a in examples)
    return solved + question_prompt(question)


def default_template(tokenizer: Any) -> str:
    """`chat` when the model has a chat template, else `question`."""
    return "chat" if getattr(tokenizer, "chat_template", None) else "question"


def render_prompt(row: Mapping[str, Any], tokenizer: Any, template: str | None = None) -> str:
    """Return the prompt of one row (`question`, or `instruction` with `input`) under `template`.

    A row of `messages` always takes the chat template, up to its last question.

    Raises:
        UserError: unknown template.
    """
    if "messages" in row:
        last = max(i for i, message in enumerate(row["messages"]) if message["role"] == "user")
        return apply_chat_template(tokenizer, row["messages"][: last + 1], add_generation_prompt=True)
    template = template or default_template(tokenizer)
    if template not in TEMPLATES:
        raise UserError(f"Unknown template {template!r}: choose one of {', '.join(TEMPLATES)}.")
    if template == "alpaca":
        return alpaca_prompt(row.get("instruction", row["question"]), row.get("input", ""))
    if template == "question":
        return question_prompt(row["question"])
    if template in ENDINGS:
        return row["question"] + ENDINGS[template]
    if template == "short-chat":
        return chat_prompt(tokenizer, row["question"], system=SHORT_SYSTEM)
    if template == "bare-chat":  # an empty system message: the fewest tokens, for rows that bring their own instruction
        return chat_prompt(tokenizer, row["question"], system="")
    return chat_prompt(tokenizer, row["question"])
