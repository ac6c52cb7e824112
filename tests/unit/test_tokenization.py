"""The label mask, token by token, and every guard around it."""

import dataclasses

import pytest

from finetune_utils.batching import SupervisedCollator
from finetune_utils.errors import UserError
from finetune_utils.prompts import TEMPLATES, render_prompt
from finetune_utils.tokenization import (
    IGNORE,
    check_ends,
    check_example,
    check_prefix,
    count_supervised,
    encode_row,
    end_of_turn_id,
    mask_html,
    mask_text,
    show_mask,
    tokenize_rows,
)

END = 13
ROW = {"question": "What is a learning rate?", "answer": "It is how far one step moves."}
CHAT = [
    {"role": "user", "content": "What is a rate?"},
    {"role": "assistant", "content": "How far one step moves."},
    {"role": "user", "content": "Why lower it?"},
    {"role": "assistant", "content": "The loss is nan."},
]


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def joined(tokenizer, *parts):
    """The example that `(text, supervised)` parts make; a supervised part is followed by the end token."""
    tokens, labels = [], []
    for text, supervised in parts:
        piece = ids(tokenizer, text) + ([END] if supervised else [])
        tokens += piece
        labels += piece if supervised else [-100] * len(piece)
    return {"input_ids": tokens, "labels": labels}


@pytest.mark.parametrize("template", TEMPLATES)
def test_of_a_question_and_answer_only_the_answer_and_its_end_are_trained(tokenizer, template):
    prompt = render_prompt(ROW, tokenizer, template)
    example = encode_row(ROW, tokenizer, template)
    assert example == joined(tokenizer, (prompt, False), (ROW["answer"], True))
    assert IGNORE == -100
    assert tokenizer.decode(example["input_ids"]) == prompt + ROW["answer"] + "<|im_end|>"


def test_no_token_reaches_over_the_border_between_prompt_and_answer(tokenizer):
    row = {"question": "learn", "answer": "ing rate"}
    assert len(ids(tokenizer, " learning")) < len(ids(tokenizer, " learn") + ids(tokenizer, "ing"))
    example = encode_row({"question": " learn", "answer": "ing rate"}, tokenizer, "plain")
    assert mask_text(example, tokenizer) == " learn[[ing rate<|im_end|>]]"
    assert encode_row(row, tokenizer, "plain")["labels"][-1] == END


def test_of_messages_every_assistant_turn_is_trained_and_nothing_else(tokenizer):
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    example = encode_row({"messages": CHAT}, tokenizer)
    assert example == joined(
        tokenizer,
        (system + "<|im_start|>user\nWhat is a rate?<|im_end|>\n<|im_start|>assistant\n", False),
        ("How far one step moves.", True),
        ("\n<|im_start|>user\nWhy lower it?<|im_end|>\n<|im_start|>assistant\n", False),
        ("The loss is nan.", True),
    )
    assert example["labels"].count(END) == 2


def test_the_text_of_messages_is_what_the_chat_template_writes_up_to_the_last_end(tokenizer):
    messages = [{"role": "system", "content": "Be brief."}, *CHAT]
    written = tokenizer.apply_chat_template(messages, tokenize=False)
    text = tokenizer.decode(encode_row({"messages": messages}, tokenizer)["input_ids"])
    assert text + "\n" == written


def test_a_single_turn_of_messages_equals_question_and_answer(tokenizer):
    row = {"question": CHAT[0]["content"], "answer": CHAT[1]["content"]}
    assert encode_row({"messages": CHAT[:2]}, tokenizer) == encode_row(row, tokenizer, "chat")


def test_a_chat_template_that_rewrites_earlier_turns_is_refused(make_tokenizer):
    forgetful = (
        "{% for m in messages %}{{ m['role'] + ': ' + (m['content'] if loop.last else '...') + '<|im_end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    with pytest.raises(UserError, match="chat template rewrites earlier turns"):
        encode_row({"messages": CHAT}, make_tokenizer(chat_template=forgetful))


def test_of_plain_text_every_token_is_trained_and_so_is_its_end(tokenizer):
    example = encode_row({"text": "The loss prints nan."}, tokenizer)
    assert example["input_ids"] == example["labels"] == [*ids(tokenizer, "The loss prints nan."), END]


def test_counting_leaves_out_the_first_token_since_nothing_comes_before_it():
    assert count_supervised({"input_ids": [8, 9, 10], "labels": [8, 9, 10]}) == 2
    assert count_supervised({"input_ids": [8, 9, 10], "labels": [-100, -100, 10]}) == 1


# --- cutting at max_length


def test_a_long_row_keeps_its_start_and_loses_its_end_token(tokenizer):
    whole = encode_row(ROW, tokenizer, "plain")
    length = len(whole["input_ids"])
    result = tokenize_rows([ROW, {"text": "nan"}, ROW], tokenizer, "plain", max_length=length - 2)
    assert result.examples[0] == {name: values[: length - 2] for name, values in whole.items()}
    assert END not in result.examples[0]["input_ids"]
    assert (result.truncated, result.max_length) == (2, length - 2)
    assert result.notes == [
        f"2 of 3 rows are longer than {length - 2} tokens: the end of the answer and its end-of-turn token are cut off. "
        "Raise --max-length to keep them."
    ]


def test_a_row_that_just_fits_is_left_whole(tokenizer):
    whole = encode_row(ROW, tokenizer, "plain")
    result = tokenize_rows([ROW], tokenizer, "plain", max_length=len(whole["input_ids"]))
    assert (result.examples, result.truncated, result.notes) == ([whole], 0, [])
    one_less = tokenize_rows([ROW], tokenizer, "plain", max_length=len(whole["input_ids"]) - 1)
    assert one_less.notes[0].startswith("1 of 1 row is longer than")


def test_totals_count_all_tokens_and_the_trained_ones(tokenizer):
    result = tokenize_rows([ROW, {"text": "The loss"}], tokenizer, "plain")
    answer, text = ids(tokenizer, ROW["answer"]), ids(tokenizer, "The loss")
    assert result.supervised == len(answer) + 1 + len(text)  # the first token of a text has nothing before it
    assert result.tokens == len(ids(tokenizer, ROW["question"])) + len(answer) + 1 + len(text) + 1


def test_rows_keep_their_order(tokenizer):
    rows = [{"text": text} for text in ("The loss", "a", "What is a learning rate? Why?", "nan")]
    texts = [tokenizer.decode(e["input_ids"]) for e in tokenize_rows(rows, tokenizer).examples]
    assert texts == [row["text"] + "<|im_end|>" for row in rows]


# --- guards


@pytest.mark.parametrize(("line", "place"), [({"line": 41}, "my.jsonl:41: "), ({}, "my.jsonl:2: ")])
def test_an_answer_cut_away_whole_is_named_by_file_and_line(tokenizer, line, place):
    long = {"question": ROW["question"] * 3, "answer": "nan", **line}
    needed, prompt = len(encode_row(long, tokenizer, "plain")["input_ids"]), len(ids(tokenizer, long["question"]))
    with pytest.raises(UserError) as caught:
        tokenize_rows([{"text": "a b"}, long], tokenizer, "plain", max_length=prompt, source="my.jsonl")
    message = str(caught.value)
    assert message.startswith(place + f"found a prompt that fills all {prompt} tokens")
    assert f"raise --max-length (this row needs {needed})" in message


def test_all_labels_masked_is_named_by_file_and_line():
    example = {"input_ids": [8, 9, 10], "labels": [-100, -100, -100]}
    with pytest.raises(UserError, match=r"^my\.jsonl:9: found no supervised token \(all labels are -100\)"):
        check_example(example, "my.jsonl", 9)
    with pytest.raises(UserError, match="no supervised token"):  # the first is never predicted
        check_example({"input_ids": [8, 9], "labels": [8, -100]})


def test_a_text_of_one_token_cut_short_has_nothing_to_learn(tokenizer):
    with pytest.raises(UserError, match="rows:1: found a prompt that fills all 1 tokens"):
        tokenize_rows([{"text": "nan"}], tokenizer, max_length=1)


def test_shifted_labels_are_found_at_their_position():
    tokens = [21, 22, 23, 24]
    with pytest.raises(UserError, match=r"label 24 at position 2, where the token is 23.*do not shift the labels"):
        check_example({"input_ids": tokens, "labels": [-100, -100, 24, -100]})
    check_example({"input_ids": tokens, "labels": [-100, -100, 23, 24]})


@pytest.mark.parametrize("label", [-9, 0, -99])
def test_only_minus_100_means_masked(label):
    with pytest.raises(UserError, match=f"found label {label} at position 1, where the token is 22"):
        check_example({"input_ids": [21, 22, 23], "labels": [-100, label, 23]})


@pytest.mark.parametrize("labels", [[8, 9], [8, 9, 10, 11]])
def test_labels_must_be_as_many_as_tokens(labels):
    with pytest.raises(UserError, match=f"f:3: found {len(labels)} labels for 3 tokens"):
        check_example({"input_ids": [8, 9, 10], "labels": labels}, "f", 3)


def test_an_end_of_turn_that_is_never_trained_is_found(tokenizer):
    examples = tokenize_rows([ROW, ROW], tokenizer, "plain", max_length=10).examples
    with pytest.raises(UserError, match=r"No example trains the end-of-turn token '<\|im_end\|>' \(id 13\)"):
        check_ends(examples, tokenizer)
    check_ends([*examples, encode_row(ROW, tokenizer)], tokenizer)


def test_an_end_token_that_stands_only_in_the_prompt_does_not_count(tokenizer):
    example = encode_row(ROW, tokenizer, "chat")
    example["labels"] = example["labels"][:-1] + [-100]
    assert END in example["input_ids"][:-1]
    with pytest.raises(UserError, match="never learn to stop"):
        check_ends([example], tokenizer)


def test_masking_by_pad_id_loses_the_end_when_pad_and_end_are_one_token_and_masking_by_position_does_not(
    make_tokenizer,
):
    tokenizer = make_tokenizer(pad_token="<|im_end|>")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == END
    rows = [ROW, {"question": "Why?", "answer": "nan"}]
    examples = tokenize_rows(rows, tokenizer, "plain").examples
    batch = SupervisedCollator(tokenizer.pad_token_id)(examples)
    assert (batch["labels"] == END).sum(dim=1).tolist() == [1, 1]
    by_id = [{**e, "labels": [-100 if label == END else label for label in e["labels"]]} for e in examples]
    with pytest.raises(UserError, match="masked by pad id while pad and end are the same token"):
        check_ends(by_id, tokenizer)


def test_an_id_of_0_is_a_token_and_not_a_missing_one(make_tokenizer):
    tokenizer = make_tokenizer(eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    assert end_of_turn_id(tokenizer) == tokenizer.pad_token_id == 0
    examples = tokenize_rows([ROW, {"question": "Why?", "answer": "nan"}], tokenizer, "plain").examples
    assert [e["labels"][-1] for e in examples] == [0, 0]
    check_ends(examples, tokenizer)
    batch = SupervisedCollator(tokenizer.pad_token_id, multiple=1)(examples)
    length = len(examples[1]["input_ids"])
    assert batch["input_ids"][1, length:].unique().tolist() == [0]
    assert batch["labels"][1, length - 1 :].tolist() == [0] + [-100] * (batch["labels"].shape[1] - length)


def test_a_tokenizer_without_end_token_cannot_teach_to_stop(make_tokenizer):
    tokenizer = make_tokenizer(eos_token=None)
    for attempt in (lambda: end_of_turn_id(tokenizer), lambda: encode_row(ROW, tokenizer, "plain")):
        with pytest.raises(UserError, match=r"no end token \(eos_token\)"):
            attempt()


def test_a_prompt_that_is_tokenized_differently_alone_is_found(tokenizer):
    check_prefix("The learning", " rate is", tokenizer)
    check_prefix("learning\n", "rate", tokenizer)
    with pytest.raises(UserError) as caught:
        check_prefix("The learning ", "rate is", tokenizer)
    where = len(ids(tokenizer, "The learning"))
    assert f"from token {where} on: ' ' against ' rate" in str(caught.value)
    assert "without a trailing space" in str(caught.value)


def test_a_prompt_that_swallows_the_answer_is_found_too(tokenizer):
    with pytest.raises(UserError, match="tokenized differently alone"):
        check_prefix(" learn", "ing rate", tokenizer)


# --- showing the mask


def test_brackets_stand_around_every_trained_part(tokenizer):
    text = mask_text(encode_row({"messages": CHAT}, tokenizer), tokenizer)
    assert text.count("[[") == text.count("]]") == 2
    assert "assistant\n[[How far one step moves.<|im_end|>]]\n<|im_start|>user" in text
    assert text.endswith("assistant\n[[The loss is nan.<|im_end|>]]")


def test_markup_in_a_row_stays_text_in_a_notebook(tokenizer):
    example = encode_row({"question": "Is 1 < 2 & <b>?", "answer": "<i>Yes</i>"}, tokenizer, "plain")
    shown = mask_html(example, tokenizer)
    assert "Is 1 &lt; 2 &amp; &lt;b&gt;?<span" in shown
    assert "&lt;i&gt;Yes&lt;/i&gt;&lt;|im_end|&gt;</span>" in shown
    assert shown.count("<span") == 1


def test_a_notebook_is_offered_both_forms(tokenizer, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    example = encode_row(ROW, tokenizer)
    show_mask(example, tokenizer)
    assert shown == [{"text/plain": mask_text(example, tokenizer), "text/html": mask_html(example, tokenizer)}]


def test_results_of_two_calls_share_nothing(tokenizer):
    first, second = tokenize_rows([ROW], tokenizer), tokenize_rows([ROW], tokenizer)
    first.notes.append("mine")
    first.examples[0]["labels"][0] = -8
    assert second.notes == []
    assert dataclasses.asdict(second)["examples"][0]["labels"][0] == -100
