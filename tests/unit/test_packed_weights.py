"""Packed weights give the same answers, only where they may, and go away afterwards."""

import contextlib

import pytest
import torch

from finetune_utils import generation
from finetune_utils import packed_weights as module
from finetune_utils.generation import generate
from finetune_utils.lora import add_lora
from finetune_utils.packed_weights import can_pack, packed_weights

LAYERS = 15  # seven linear layers in each of two blocks, and the output layer
PROMPTS = ["What is a token?", "Which rate suits LoRA, and why does it suit it?", "Name the mask."]

needs_bf16 = pytest.mark.skipif(not can_pack(), reason="packing needs a CPU that multiplies bfloat16 in hardware")


@pytest.fixture
def anywhere(monkeypatch):
    """Let this machine count as one that packs; PyTorch's operators are replaced by plain ones that are off by 1."""
    monkeypatch.setattr(module, "can_pack", lambda: True)

    class Operators:
        @staticmethod
        def _reorder_linear_weight(weight, rows):
            return weight

        @staticmethod
        def _linear_pointwise(x, packed, bias, *rest):
            return torch.nn.functional.linear(x, packed, bias) + 1

    monkeypatch.setattr(torch.ops, "mkldnn", Operators)


def replaced(model):
    return sum("forward" in vars(m) for m in model.modules())


@needs_bf16
@pytest.mark.parametrize("rows", [1, 3])
def test_answers_are_the_same_word_for_word(tiny_model, tokenizer, monkeypatch, rows):
    model = tiny_model(dtype=torch.bfloat16)
    counts = []

    @contextlib.contextmanager
    def counted(model, rows):
        with packed_weights(model, rows) as count:
            counts.append((rows, count))
            yield count

    monkeypatch.setattr(generation, "packed_weights", counted)
    packed = generate(model, tokenizer, PROMPTS, max_new_tokens=12, batch_size=rows)
    assert counts == [(rows, LAYERS)]
    monkeypatch.setattr(module, "can_pack", lambda: False)
    assert packed == generate(model, tokenizer, PROMPTS, max_new_tokens=12, batch_size=rows)
    assert any(packed), "answers without a word compare nothing"


@needs_bf16
def test_the_products_are_the_usual_ones_with_and_without_a_bias():
    generator = torch.Generator().manual_seed(4)
    layer = torch.nn.Linear(48, 32, bias=True).to(torch.bfloat16)
    x = torch.randn(3, 5, 48, generator=generator).to(torch.bfloat16)
    for bias in (layer.bias, None):
        layer.bias = bias
        with torch.inference_mode(), packed_weights(layer, 15) as count:
            assert count == 1
            found = layer(x)
            assert found.dtype == torch.bfloat16
            assert found.shape == (3, 5, 32)
        with torch.inference_mode():
            torch.testing.assert_close(found, layer(x), rtol=0.02, atol=0.02)


def test_the_layers_take_the_packed_way_inside_and_the_usual_one_after(tiny_model, anywhere):
    model = tiny_model(dtype=torch.bfloat16)
    x = torch.ones(2, 32, dtype=torch.bfloat16)
    usual = model.lm_head(x)
    with packed_weights(model, 2) as count:
        assert count == replaced(model) == LAYERS
        torch.testing.assert_close(model.lm_head(x), usual + 1)
        # Another format than the weights' goes the usual way, with its usual error.
        with pytest.raises(RuntimeError, match="dtype"):
            model.lm_head(x.float())
    assert replaced(model) == 0
    torch.testing.assert_close(model.lm_head(x), usual)


def test_an_error_inside_puts_the_layers_back(tiny_model, anywhere):
    model = tiny_model(dtype=torch.bfloat16)
    with pytest.raises(ZeroDivisionError), packed_weights(model, 2):
        raise ZeroDivisionError
    assert replaced(model) == 0


def test_float32_weights_are_left_alone_and_an_adapter_keeps_its_own_layers(tiny_model, anywhere):
    with packed_weights(tiny_model(), 2) as count:
        assert count == 0
    model = add_lora(tiny_model(dtype=torch.bfloat16), rank=2)
    with packed_weights(model, 2) as count:
        assert count == LAYERS
        assert not any("forward" in vars(m) for name, m in model.named_modules() if "lora_" in name)


def test_without_room_for_a_copy_nothing_is_packed(tiny_model, anywhere, monkeypatch):
    model = tiny_model(dtype=torch.bfloat16)
    size = sum(m.weight.nbytes for m in model.modules() if type(m) is torch.nn.Linear)
    for free, expected in ((4 * size, LAYERS), (4 * size - 4, 0)):
        monkeypatch.setattr(module, "free_memory_bytes", lambda free=free: free)
        with packed_weights(model, 2) as count:
            assert count == expected


def test_it_needs_the_operators_and_the_hardware(monkeypatch):
    monkeypatch.setattr(module, "cpu_has_bf16", lambda: True)
    assert can_pack() is torch.backends.mkldnn.is_available()
    monkeypatch.setattr(module, "cpu_has_bf16", lambda: False)
    assert not can_pack()
    monkeypatch.setattr(module, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert not can_pack()
