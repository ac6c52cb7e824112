"""What the model sees before it answers, letter by letter."""

import pytest

from finetune_utils.errors import UserError
from finetune_utils.prompts import (
    SHORT_SYSTEM,
    TEMPLATES,
    alpaca_prompt,
    chat_prompt,
    default_template,
    few_shot_prompt,
    question_prompt,
    render_prompt,
)

SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
QUESTION = "What is a {learning} rate? %s {0}"  # braces and percent signs are the user's own


def test_alpaca_with_input_has_both_headings_and_ends_where_the_answer_begins():
    prompt = alpaca_prompt("Add {x}.", "2 and 3")
    assert "### Instruction:\nAdd {x}.\n\n### Input:\n2 and 3\n\n### Response:\n" in prompt
    assert prompt.startswith("Below is an instruction")
    assert "further context" in prompt
    assert prompt.endswith("### Response:\n")


@pytest.mark.parametrize("nothing", ["", " \n\t"])
def test_alpaca_without_input_does_not_speak_of_one(nothing):
    prompt = alpaca_prompt("Say {hello}.", nothing)
    assert "nput" not in prompt
    assert prompt.endswith("### Instruction:\nSay {hello}.\n\n### Response:\n")


def test_the_question_stands_under_its_heading():
    assert question_prompt(QUESTION) == f"### Question:\n{QUESTION}\n\n### Answer:\n"


def test_a_chat_prompt_ends_where_the_answer_begins(tokenizer):
    expected = f"{SYSTEM}<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    assert chat_prompt(tokenizer, QUESTION) == expected


def test_earlier_turns_come_in_the_order_given_and_a_system_message_replaces_the_templates_own(tokenizer):
    prompt = chat_prompt(tokenizer, "q3", system="Be brief.", examples=[("q1", "a1"), ("q2", "a2")])
    turns = [("system", "Be brief."), ("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")]
    rendered = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in [*turns, ("user", "q3")])
    assert prompt == rendered + "<|im_start|>assistant\n"


def test_an_empty_system_message_is_still_a_message(tokenizer):
    assert chat_prompt(tokenizer, "q", system="").startswith("<|im_start|>system\n<|im_end|>\n<|im_start|>user")


def test_a_tokenizer_without_chat_template_is_told_what_to_use_instead(make_tokenizer):
    bare = make_tokenizer(chat_template=None)
    with pytest.raises(UserError, match="no chat template: use the template `question`"):
        chat_prompt(bare, "q")
    assert default_template(bare) == "question"
    assert render_prompt({"question": "q"}, bare) == question_prompt("q")


def test_solved_examples_come_before_the_question():
    prompt = few_shot_prompt([("q1", "a1"), ("q2", "a2")], "q3")
    places = [prompt.index(text) for text in ("q1", "a1", "q2", "a2", "q3")]
    assert places == sorted(places)
    assert prompt.endswith("a2\n\n" + question_prompt("q3"))
    assert few_shot_prompt([], "q3") == question_prompt("q3")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "q"),
        ("question", question_prompt("q")),
        ("alpaca", alpaca_prompt("do", "this")),
        ("chat", f"{SYSTEM}<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"),
        (
            "short-chat",
            f"<|im_start|>system\n{SHORT_SYSTEM}<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "bare-chat",
            "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n",
        ),
    ],
)
def test_every_template_renders_its_own_columns(tokenizer, template, expected):
    row = {"question": "q", "instruction": "do", "input": "this", "answer": "never shown"}
    assert template in TEMPLATES
    assert render_prompt(row, tokenizer, template) == expected


def test_alpaca_takes_the_question_of_a_row_without_instruction(tokenizer):
    assert render_prompt({"question": "q"}, tokenizer, "alpaca") == alpaca_prompt("q")


def test_chat_is_the_default_of_a_model_that_has_it(tokenizer):
    assert default_template(tokenizer) == "chat"
    assert render_prompt({"question": "q"}, tokenizer) == chat_prompt(tokenizer, "q")


def test_messages_are_asked_up_to_their_last_question_whatever_the_template(tokenizer):
    turns = [("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    assert render_prompt(row, tokenizer, "alpaca") == chat_prompt(tokenizer, "q2", examples=[("q1", "a1")])


def test_an_unknown_template_is_answered_with_the_known_ones(tokenizer):
    with pytest.raises(UserError, match=f"Unknown template 'llama': choose one of {', '.join(TEMPLATES)}"):
        render_prompt({"question": "q"}, tokenizer, "llama")
