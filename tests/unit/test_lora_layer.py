"""The layer written by hand gives what peft gives: outputs, gradients, merged weights."""

import pytest
import torch
from torch import nn

from finetune_utils.errors import UserError
from finetune_utils.hardware import FP32
from finetune_utils.lora import add_lora
from finetune_utils.lora_layer import LoRALinear, wrap_linears

TOKENS = torch.tensor([[11, 40, 96, 212, 300, 27], [11, 50, 7, 361, 90, 13]])


def loss_of(model):
    return model(input_ids=TOKENS, labels=TOKENS).loss


@pytest.fixture
def pair(tiny_model):
    """The same adapter on the same model, once by hand and once by peft."""
    ours, theirs = tiny_model(), add_lora(tiny_model(), rank=3, alpha=5, precision=FP32)
    wrap_linears(ours, rank=3, alpha=5)
    torch.manual_seed(4)
    layers = {name: m for name, m in theirs.base_model.model.named_modules() if hasattr(m, "lora_A")}
    for name, layer in layers.items():
        nn.init.normal_(layer.lora_B["default"].weight, std=0.1)
        mine = ours.get_submodule(name)
        mine.a.data.copy_(layer.lora_A["default"].weight)
        mine.b.data.copy_(layer.lora_B["default"].weight)
    return ours, theirs, layers


def test_outputs_and_gradients_of_a_whole_model_equal_those_of_peft(pair):
    ours, theirs, layers = pair
    torch.testing.assert_close(ours(TOKENS).logits, theirs(TOKENS).logits, rtol=0, atol=1e-6)
    loss_of(ours).backward()
    loss_of(theirs).backward()
    assert len(layers) == 14
    for name, layer in layers.items():
        mine = ours.get_submodule(name)
        for gradient, other in ((mine.a.grad, layer.lora_A), (mine.b.grad, layer.lora_B)):
            assert gradient.abs().max() > 0
            torch.testing.assert_close(gradient, other["default"].weight.grad, rtol=0, atol=1e-6)
        assert mine.base.weight.grad is None


def test_a_fresh_layer_changes_no_bit_of_the_logits(tiny_model):
    model = tiny_model()
    before = model(TOKENS).logits
    assert wrap_linears(model, rank=4) == 14
    assert torch.equal(model(TOKENS).logits, before)
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trainable) == 28
    assert all(name.endswith((".a", ".b")) for name in trainable)
    assert isinstance(model.lm_head, nn.Linear)


def test_the_output_of_one_layer_is_worked_out_by_hand():
    base = nn.Linear(2, 1, bias=True)
    base.weight.data, base.bias.data = torch.tensor([[1.0, 2.0]]), torch.tensor([0.5])
    layer = LoRALinear(base, rank=1, alpha=3)
    layer.a.data, layer.b.data = torch.tensor([[1.0, -1.0]]), torch.tensor([[2.0]])
    # W x + bias = 1*5 + 2*3 + 0.5; A x = 5 - 3; scale B A x = 3 * 2 * 2
    assert layer(torch.tensor([5.0, 3.0])).item() == 11.5 + 12
    assert layer.merged().weight.tolist() == [[1 + 6, 2 - 6]]
    assert layer.merged()(torch.tensor([5.0, 3.0])).item() == pytest.approx(23.5)


def test_twice_the_rank_is_the_default_alpha_and_a_starts_like_that_of_peft(tiny_model):
    assert LoRALinear(nn.Linear(8, 4), rank=4).scale == 2.0
    theirs = add_lora(tiny_model(), rank=4, precision=FP32).base_model.model.model.layers[0].mlp.down_proj
    ours = LoRALinear(nn.Linear(48, 32), rank=4)
    assert ours.a.abs().max() <= 1 / 48**0.5 + 1e-6
    assert ours.a.std().item() == pytest.approx(theirs.lora_A["default"].weight.std().item(), rel=0.2)
    assert ours.b.abs().max() == 0


def test_a_rank_below_1_and_a_model_without_linear_layers_are_refused():
    with pytest.raises(UserError, match="The rank is 0"):
        LoRALinear(nn.Linear(2, 2), rank=0)
    with pytest.raises(UserError, match="no linear layer"):
        wrap_linears(nn.Sequential(nn.ReLU()))
