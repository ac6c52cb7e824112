"""Adapters of which only the upper blocks learn."""

import pytest
import torch

from finetune_utils.errors import UserError
from finetune_utils.hardware import FP32
from finetune_utils.lora import add_lora, freeze_below
from finetune_utils.tokenization import tokenize_rows
from finetune_utils.training import TrainSettings, train

ROWS = [{"question": "Why?", "answer": "The loss is nan."}, {"question": "What is a rate?", "answer": "One step."}]
TOKENS = torch.tensor([[11, 40, 96, 212, 300, 27], [11, 50, 7, 361, 90, 13]])


def test_frozen_blocks_stay_as_they_are_and_the_backward_pass_ends_above_them(tiny_model, tokenizer):
    model = add_lora(tiny_model(), rank=4, precision=FP32)
    freeze_below(model, 1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    settings = TrainSettings(max_steps=4, batch_size=2, learning_rate=1e-2)
    train(model, tokenizer, tokenize_rows(ROWS, tokenizer, "plain").examples, settings, precision=FP32)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert len([name for name in before if ".layers.0." in name and "lora_" in name]) == 14
    assert moved == {name for name in before if ".layers.1." in name and "lora_" in name}

    needed = {}
    for number, layer in enumerate(model.get_base_model().model.layers):
        layer.register_forward_hook(lambda _, __, out, number=number: needed.update({number: out.requires_grad}))
    model(input_ids=TOKENS)
    assert needed == {0: False, 1: True}


def test_frozen_blocks_teach_the_upper_ones_the_same_first_step(tiny_model):
    gradients = []
    for block in (0, 1):
        model = add_lora(tiny_model(), rank=4, precision=FP32)
        freeze_below(model, block)
        model(input_ids=TOKENS, labels=TOKENS).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert len(gradients[0]) == 2 * len(gradients[1]) == 28
    assert all(torch.equal(grad, gradients[0][name]) for name, grad in gradients[1].items())


@pytest.mark.parametrize(("block", "expected"), [(2, "found block 2; expected 0 to 1"), (-1, "found block -1")])
def test_a_block_that_is_not_there_is_named(tiny_model, block, expected):
    with pytest.raises(UserError, match=expected):
        freeze_below(add_lora(tiny_model(), rank=4, precision=FP32), block)
    with pytest.raises(UserError, match="no block has an adapter"):
        freeze_below(tiny_model(), 0)
