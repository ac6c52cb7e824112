"""Did it learn: a trained adapter passes every check, and each thing that can go wrong fails its own."""

import pytest
import torch

from finetune_utils.errors import UserError
from finetune_utils.hardware import FP32, Precision
from finetune_utils.lora import add_lora
from finetune_utils.lora_checks import (
    MERGE_TOLERANCE,
    adapter_gradients,
    did_it_learn,
    fingerprint,
    gradient_gap,
    layer_updates,
)

BF16 = Precision(torch.bfloat16, "bf16", "a test")
TOKENS = torch.tensor([[11, 40, 96, 212, 300, 27], [11, 50, 7, 361, 90, 13]])


def trained(model, precision=FP32):
    """An adapter after a few real steps, with the fingerprint from before them."""
    model = add_lora(model, rank=4, precision=precision)
    before = fingerprint(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        model(input_ids=TOKENS, labels=TOKENS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, before


@pytest.mark.parametrize("precision", [FP32, BF16])
def test_a_trained_adapter_passes_every_check(tiny_model, precision):
    model, before = trained(tiny_model(), precision)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    found = did_it_learn(model, TOKENS, before)
    assert found.ok, str(found)
    assert (found.adapters, found.moved, found.changed) == (14, 14, [])
    assert found.base_tensors == len(tiny_model().state_dict())
    assert 0 < found.merged_gap <= MERGE_TOLERANCE < found.rounded_gap
    assert found.output_gap > 0.01
    assert 0 < found.update < 1
    assert str(found).count("yes  ") == 4
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())  # it comes back as it was


def test_an_adapter_that_was_never_trained_fails(tiny_model):
    model = add_lora(tiny_model(), rank=4, precision=FP32)
    found = did_it_learn(model, TOKENS, fingerprint(model))
    assert not found.ok
    assert (found.moved, found.update, found.output_gap) == (0, 0.0, 0.0)
    assert "NO   every B has moved away from zero (0 of 14 layers" in str(found)
    assert "NO   the outputs differ" in str(found)


def test_one_layer_that_stayed_behind_is_found(tiny_model):
    model, before = trained(tiny_model())
    model.base_model.model.model.layers[1].mlp.up_proj.lora_B["default"].weight.data.zero_()
    found = did_it_learn(model, TOKENS, before)
    assert (found.moved, found.ok) == (13, False)


def test_a_base_weight_that_changed_in_one_bit_is_named(tiny_model):
    model, before = trained(tiny_model())
    weight = model.base_model.model.model.norm.weight
    weight.data[3] = torch.nextafter(weight.data[3], torch.tensor(9.0))
    found = did_it_learn(model, TOKENS, before)
    assert found.changed == ["model.norm.weight"]
    assert not found.ok
    assert "NO   the base weights are bit-identical" in str(found)
    assert "changed: model.norm.weight" in str(found)


def test_a_fingerprint_of_the_plain_model_will_do(tiny_model):
    model, _ = trained(tiny_model())
    assert did_it_learn(model, TOKENS, fingerprint(tiny_model())).ok


def test_another_model_and_a_model_without_adapter_are_refused(tiny_model):
    model, _ = trained(tiny_model())
    with pytest.raises(UserError, match="belongs to another model"):
        did_it_learn(model, TOKENS, fingerprint(tiny_model(num_hidden_layers=1)))
    with pytest.raises(UserError, match="needs a model with a LoRA adapter"):
        did_it_learn(tiny_model(), TOKENS, {})


def test_the_update_of_every_matrix_is_listed_by_kind_and_layer(tiny_model):
    model, before = trained(tiny_model())
    found = layer_updates(model)
    assert list(found) == ["q", "k", "v", "o", "gate", "up", "down"]
    assert all(len(values) == 2 for values in found.values())
    assert max(v for values in found.values() for v in values) == did_it_learn(model, TOKENS, before).update
    layer = model.base_model.model.model.layers[1].mlp.up_proj
    merged = layer.base_layer.weight + layer.get_delta_weight("default")
    change = (merged - layer.base_layer.weight).norm() / layer.base_layer.weight.norm()
    assert found["up"][1] == pytest.approx(change.item(), rel=1e-4)


def test_gradients_taken_twice_are_equal_and_tell_when_the_model_changed_in_between(tiny_model):
    model = add_lora(tiny_model(), rank=2, precision=FP32).eval()
    ids = torch.tensor([[11, 40, 96, 212]])
    first = adapter_gradients(model, ids)
    assert len(first) == 28  # A and B of seven layers in each of two blocks
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert gradient_gap(first, adapter_gradients(model, ids)) == 0
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if "lora_A" in n).mul_(3)
    assert gradient_gap(first, adapter_gradients(model, ids)) > 0.5
    with pytest.raises(UserError, match="different models"):
        gradient_gap(first, {})
