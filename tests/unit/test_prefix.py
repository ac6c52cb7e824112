"""A shared beginning is found, read once, and changes no answer."""

import pytest
import torch
from transformers import GPTNeoConfig, GPTNeoForCausalLM

from finetune_utils import generation, prefix
from finetune_utils.errors import UserError
from finetune_utils.generation import generate
from finetune_utils.hardware import FP32
from finetune_utils.lora import add_lora, add_soft_prompt
from finetune_utils.prefix import can_share, last_logits, read_shared, shared_prefix

PAD = 7
SAID = "The loss falls while the weights learn the label. " * 3
PROMPTS = [SAID + end for end in ("Why?", "What is a learning rate?", "How far", "few weights hold the rest of it")]


@pytest.mark.parametrize(
    ("rows", "length", "group"),
    [
        ([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 9]], 3, [0, 0, 0]),
        ([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3]], 2, [0, 0, 0]),  # every row keeps its last token
        ([[1, 2, 3, 8], [5, 6, 7, 8], [1, 2, 3, 9], [5, 6, 7, 9]], 3, [0, 1, 0, 1]),
        ([[1, 5, 6, 7, 8], [1, 2, 9, 9, 9], [1, 2, 9, 9, 4]], 4, [0, 1, 1]),  # 1 x 4 saves more than 2 x 1
    ],
)
def test_the_beginning_that_saves_most_is_found(rows, length, group):
    found = shared_prefix(rows)
    assert (found.length, found.group) == (length, group)
    assert [rows[i][:length] for i in found.firsts] == [rows[group.index(g)][:length] for g in range(max(group) + 1)]


@pytest.mark.parametrize(
    "rows", [[], [[1, 2, 3]], [[1, 2], [3, 4]], [[1], [1]], [[1, *range(20, 40)], [1, *range(50, 70)]]]
)
def test_nothing_is_shared_where_little_is_alike(rows):
    assert shared_prefix(rows) is None


def test_padding_stands_behind_the_beginning_and_states_are_those_of_each_row(tiny_model):
    model = tiny_model().eval()
    rows = [[11, 12, 13, 14, 15], [11, 12, 13, 16, 17, 18], [21, 22, 23, 24]]
    with torch.inference_mode():
        ids, mask, states = read_shared(model, rows, PAD)
        assert ids.tolist() == [[11, 12, 13, PAD, 14, 15], [11, 12, 13, 16, 17, 18], [21, 22, 23, PAD, PAD, 24]]
        assert mask.tolist() == [[1, 1, 1, 0, 1, 1], [1] * 6, [1, 1, 1, 0, 0, 1]]
        assert states.get_seq_length() == 3
        alone = model(input_ids=torch.tensor([rows[2][:3]]), use_cache=True).past_key_values
        assert torch.allclose(states.layers[-1].keys[2], alone.layers[-1].keys[0], atol=1e-6)
        assert not torch.allclose(states.layers[-1].keys[0], alone.layers[-1].keys[0], atol=1e-3)


def test_without_sharing_padding_stands_on_the_left(tiny_model):
    with torch.inference_mode():
        ids, mask, states = read_shared(tiny_model(), [[11, 12, 13], [11, 12]], PAD, share=False)
    assert ids.tolist() == [[11, 12, 13], [PAD, 11, 12]]
    assert mask.tolist() == [[1, 1, 1], [0, 1, 1]]
    assert states is None


@pytest.mark.parametrize("adapted", [False, True])
def test_answers_are_the_same_with_the_beginning_read_once(tiny_model, tokenizer, monkeypatch, adapted):
    model = tiny_model()
    if adapted:
        model = add_lora(model, rank=2)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.5)
    together, reads = generate(model, tokenizer, PROMPTS, 12), []

    def _watched(*args, **options):
        reads.append(read_shared(*args, **{**options, "share": False}))
        return reads[-1]

    monkeypatch.setattr(generation, "read_shared", _watched)
    assert generate(model, tokenizer, PROMPTS, 12) == together
    assert len(set(together)) > 2
    assert [states for _, _, states in reads] == [None]


def test_a_model_with_trained_vectors_before_its_rows_shares_nothing(tiny_model, tokenizer):
    rows = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    assert shared_prefix(rows)
    model = tiny_model()
    with torch.inference_mode():
        assert read_shared(model, rows, PAD)[2] is not None
        assert read_shared(add_soft_prompt(model, tokens=3), rows, PAD)[2] is None


def test_weights_of_16_bits_share_nothing(tiny_model):
    rows = [[11, 12, 13, 14], [11, 12, 13, 15]]
    with torch.inference_mode():
        assert read_shared(tiny_model(), rows, PAD)[2] is not None
        assert read_shared(tiny_model().bfloat16(), rows, PAD)[2] is None


def test_states_that_forget_are_not_shared(tiny_model, monkeypatch):
    monkeypatch.setattr(prefix, "DynamicLayer", type("Another", (), {}))
    with torch.inference_mode():
        ids, _, states = read_shared(tiny_model(), [[11, 12, 13, 14], [11, 12, 13]], PAD)
    assert states is None
    assert ids[1].tolist() == [PAD, 11, 12, 13]


def test_what_is_expected_after_a_row_stands_behind_trained_vectors_too(tiny_model):
    model = add_soft_prompt(tiny_model(), tokens=3, precision=FP32).eval()  # exact on every machine
    rows = [[11, 12, 13, 14], [11, 12, 13, 15]]
    with torch.inference_mode():
        logits = last_logits(model, rows, PAD)[0]
        for row, found in zip(rows, logits, strict=True):
            alone = model(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row))).logits[0]
            assert torch.allclose(found, alone[-1], atol=1e-4)
            assert not torch.allclose(alone[-1], alone[-4], atol=1e-2)


def test_a_model_whose_windows_count_places_shares_nothing():
    config = GPTNeoConfig(
        vocab_size=40,
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        window_size=4,
        attention_types=[[["global", "local"], 1]],
    )
    model = GPTNeoForCausalLM(config).eval()
    assert not can_share(model)
    rows = [[*range(10, 20), 1, 2, 3, 4], [*range(10, 20), 5]]
    with torch.inference_mode():
        logits = last_logits(model, rows, 0)[0]
        assert torch.allclose(logits[1], model(torch.tensor([rows[1]])).logits[0, -1], atol=1e-4)


def test_rows_of_unequal_length_need_a_pad_token(tiny_model):
    model = tiny_model()
    with torch.inference_mode():
        assert read_shared(model, [[11, 12], [13, 14]], None)[0].tolist() == [[11, 12], [13, 14]]
        with pytest.raises(UserError, match="no pad token: set tokenizer.pad_token"):
            read_shared(model, [[11, 12], [13]], None)
