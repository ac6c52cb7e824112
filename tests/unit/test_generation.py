"""Answers: the same one by one and together, in the order asked, without the prompt, and with an end."""

import copy

import pytest
import torch

from finetune_utils import generation
from finetune_utils.errors import UserError
from finetune_utils.generation import answer, fast_copy, generate
from finetune_utils.hardware import FP32, Precision
from finetune_utils.lora import add_lora, is_lora
from finetune_utils.prompts import chat_prompt, question_prompt
from finetune_utils.tokenization import tokenize_rows
from finetune_utils.training import TrainSettings, train

PAD, END = 7, 13
BF16 = Precision(torch.bfloat16, "bf16", "a test")
PROMPTS = [
    "What is a learning rate?",
    "Why",
    "The loss prints nan after a while; lower it, and the label mask hides the prompt",
    "few weights",
    "An adapter holds the rest. " * 4,
    "is",
    "How far",
]


class Parrot(torch.nn.Module):
    """Answers every prompt with the prompt itself, then an end, then noise; remembers what it was asked."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.asked = []

    def generate(self, input_ids, attention_mask, **options):
        self.asked.append((input_ids, attention_mask, options))
        end = torch.full((len(input_ids), 1), END)
        return torch.cat([input_ids, input_ids, end, end], dim=1)


@pytest.mark.parametrize("batch_size", [2, 3, 32])
def test_answers_are_the_same_one_by_one_and_together_and_in_the_order_asked(tiny_model, tokenizer, batch_size):
    model = tiny_model()
    alone = [generate(model, tokenizer, [prompt], 12)[0] for prompt in PROMPTS]
    assert len(set(alone)) > 4  # answers that were all alike would prove nothing
    assert generate(model, tokenizer, PROMPTS, 12, batch_size) == alone
    assert generate(model, tokenizer, PROMPTS[::-1], 12, batch_size) == alone[::-1]


def test_the_prompt_is_removed_by_counting_also_when_the_answer_repeats_it(tokenizer):
    parrot = Parrot()
    assert generate(parrot, tokenizer, PROMPTS, batch_size=3) == [prompt.strip() for prompt in PROMPTS]


def test_prompts_are_padded_on_the_left_and_the_padding_is_masked(tokenizer):
    parrot = Parrot()
    generate(parrot, tokenizer, ["Why", "What is a learning rate?"], max_new_tokens=9, batch_size=8)
    (tokens, mask, options) = parrot.asked[0]
    long, short = (tokenizer(text)["input_ids"] for text in ("What is a learning rate?", "Why"))
    gap = len(long) - len(short)
    assert gap > 0
    assert tokens.tolist() == [long, [PAD] * gap + short]
    assert mask.tolist() == [[1] * len(long), [0] * gap + [1] * len(short)]
    assert (options["max_new_tokens"], options["do_sample"], options["eos_token_id"]) == (9, False, END)
    assert options["pad_token_id"] == PAD


def test_prompts_of_similar_length_share_a_batch(tokenizer):
    parrot = Parrot()
    generate(parrot, tokenizer, PROMPTS, batch_size=3)
    widths = [tokens.shape[1] for tokens, _, _ in parrot.asked]
    assert [len(tokens) for tokens, _, _ in parrot.asked] == [3, 3, 1]
    assert widths == sorted(widths, reverse=True)
    shortest = min(len(tokenizer(prompt)["input_ids"]) for prompt in PROMPTS)
    assert widths[-1] == shortest


def test_a_pad_id_of_0_is_used_as_it_is(make_tokenizer):
    parrot = Parrot()
    generate(parrot, make_tokenizer(pad_token="<|endoftext|>"), ["Why", "What is a learning rate?"])
    tokens, mask, options = parrot.asked[0]
    assert options["pad_token_id"] == 0
    assert tokens[mask == 0].unique().tolist() == [0]


def test_a_model_that_learned_its_answers_gives_them_and_stops(tiny_model, tokenizer):
    rows = [
        {"question": "What is a rate?", "answer": "How far one step moves."},
        {"question": "Why lower it?", "answer": "The loss is nan."},
        {"question": "What holds few weights?", "answer": "An adapter."},
    ]
    model = tiny_model()
    settings = TrainSettings(max_steps=60, batch_size=3, learning_rate=1e-2)
    train(model, tokenizer, tokenize_rows(rows, tokenizer).examples, settings, precision=FP32)
    questions = [row["question"] for row in rows]
    assert answer(model, tokenizer, questions, max_new_tokens=40) == [row["answer"] for row in rows]
    assert answer(model, tokenizer, questions[:1], max_new_tokens=2) != [rows[0]["answer"]]


def test_questions_go_through_the_template_asked_for_or_the_models_own(tokenizer, make_tokenizer):
    parrot = Parrot()
    answer(parrot, tokenizer, ["Why?"], template="question")
    answer(parrot, tokenizer, ["Why?"])
    answer(parrot, make_tokenizer(chat_template=None), ["Why?"])
    texts = [tokenizer.decode(tokens[0]) for tokens, _, _ in parrot.asked]
    assert texts == [question_prompt("Why?"), chat_prompt(tokenizer, "Why?"), question_prompt("Why?")]


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_while_answering_and_the_mode_is_put_back(tiny_model, tokenizer, training):
    model = tiny_model(attention_dropout=0.9).train(training)
    answers = generate(model, tokenizer, PROMPTS[:3], 8)
    assert model.training == training
    assert answers == generate(tiny_model(), tokenizer, PROMPTS[:3], 8)


def test_an_empty_prompt_is_named_by_its_number(tiny_model, tokenizer):
    with pytest.raises(UserError, match="Prompt 2 of 3 is empty"):
        generate(tiny_model(), tokenizer, ["Why", "", "What"])


@pytest.mark.parametrize("sizes", [{"max_new_tokens": 0}, {"batch_size": 0}, {"batch_size": -3}])
def test_sizes_below_1_are_refused(tokenizer, sizes):
    with pytest.raises(UserError, match="must be at least 1"):
        generate(Parrot(), tokenizer, ["Why"], **sizes)


def test_no_prompts_give_no_answers(tokenizer):
    assert generate(Parrot(), tokenizer, []) == []


# --- a copy made for answering


def snapshot(model):
    return {name: (p.dtype, p.requires_grad, p.detach().clone()) for name, p in model.named_parameters()}


@pytest.mark.parametrize("precision", [FP32, BF16])
def test_a_fast_copy_is_plain_and_rounded_and_the_model_stays_as_it_is(tiny_model, precision):
    model = add_lora(tiny_model(), rank=4, precision=FP32).train()
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    before = snapshot(model)
    fast = fast_copy(model, precision)
    after = snapshot(model)
    assert before.keys() == after.keys()
    assert all(a[:2] == after[name][:2] and torch.equal(a[2], after[name][2]) for name, a in before.items())
    assert (is_lora(model), model.training) == (True, True)
    assert (is_lora(fast), fast.training) == (False, False)
    assert {p.dtype for p in fast.parameters()} == {precision.dtype}
    assert not {p.data_ptr() for p in fast.parameters()} & {p.data_ptr() for p in model.parameters()}


def test_a_fast_copy_gives_the_answers_of_the_adapted_model(tiny_model, tokenizer):
    model = add_lora(tiny_model(), rank=4, precision=FP32)
    untuned = generate(model, tokenizer, PROMPTS, 8)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.3)
    tuned = generate(model, tokenizer, PROMPTS, 8)
    assert generate(fast_copy(model, FP32), tokenizer, PROMPTS, 8) == tuned != untuned


def test_a_fast_copy_takes_the_precision_of_the_machine(tiny_model, monkeypatch):
    monkeypatch.setattr(generation, "choose_precision", lambda device: BF16)
    model = tiny_model()
    kept = copy.deepcopy(model.state_dict())
    assert next(fast_copy(model).parameters()).dtype == torch.bfloat16
    assert all(torch.equal(weight, kept[name]) for name, weight in model.state_dict().items())
