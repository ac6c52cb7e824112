"""QLoRA: the guard against packed weights, on a stand-in for bitsandbytes and, where it is installed, on itself."""

import importlib.util
import subprocess
import sys
import types

import pytest
import torch
from torch import nn

from finetune_utils.errors import UserError
from finetune_utils.four_bit import SWITCH, guard_4bit, load_4bit
from finetune_utils.generation import fast_copy, generate
from finetune_utils.hardware import cpu_has_bf16
from finetune_utils.lora import add_lora, is_4bit
from finetune_utils.lora_checks import adapter_gradients, did_it_learn, fingerprint, gradient_gap
from finetune_utils.lora_layer import LoRALinear
from finetune_utils.nll import token_nll
from finetune_utils.tokenization import tokenize_rows
from finetune_utils.training import TrainSettings, train

INPUT = torch.randn(3, 8, generator=torch.Generator().manual_seed(2))


class FakeLinear4bit(nn.Linear):
    """Packs at the first forward pass in eval mode, like bitsandbytes 0.50 on AVX512-BF16; packed, it has no gradient."""

    def __init__(self, *sizes):
        super().__init__(*sizes, bias=False)
        self.support_avx512bf16_for_cpu = True
        self.quant_state = types.SimpleNamespace()

    def forward(self, x):
        if self.support_avx512bf16_for_cpu and not self.training and not x.requires_grad:
            self.quant_state.packing_format_for_cpu = True
        packed = getattr(self.quant_state, "packing_format_for_cpu", False)
        return super().forward(x.detach() if packed else x)


class Stack(nn.Module):
    """Two adapted layers with a detour around each, as in a transformer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = (LoRALinear(FakeLinear4bit(8, 8), rank=2) for _ in range(2))
        for layer in (self.first, self.second):
            nn.init.normal_(layer.b)

    def forward(self, x):
        x = x + self.first(x)
        return x + self.second(x)


@pytest.fixture
def fake(monkeypatch):
    module = types.ModuleType("bitsandbytes")
    module.nn = types.SimpleNamespace(Linear4bit=FakeLinear4bit)
    monkeypatch.setitem(sys.modules, "bitsandbytes", module)


def gradient_of_the_first(model):
    model.train()
    model.zero_grad()
    model(INPUT).square().mean().backward()
    return model.first.b.grad.clone()


def evaluate(model):
    model.eval()
    with torch.no_grad():
        model(INPUT)


def test_with_the_guard_an_evaluation_changes_no_gradient(fake):
    model = Stack()
    assert guard_4bit(model) == 2
    before = gradient_of_the_first(model)
    evaluate(model)
    assert torch.equal(gradient_of_the_first(model), before)


def test_without_the_guard_it_does(fake):
    model = Stack()
    before = gradient_of_the_first(model)
    evaluate(model)
    assert not torch.allclose(gradient_of_the_first(model), before, rtol=0.05)


def test_a_guard_that_comes_too_late_says_so(fake):
    model = Stack()
    evaluate(model)
    with pytest.raises(UserError, match="^first.base was packed by a forward pass in eval mode"):
        guard_4bit(model)


def test_a_missing_bitsandbytes_is_named_with_its_remedy(monkeypatch, model_dir):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError, match="pip install bitsandbytes"):
        load_4bit(str(model_dir))


# --- the real thing

real = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
ROWS = [{"question": "Why?", "answer": "The loss is nan."}, {"question": "What is a rate?", "answer": "One step."}] * 4


@pytest.fixture
def folder(tiny_model, tokenizer, tmp_path):
    """A tiny model whose layers are wide enough for blocks of 64 weights."""
    path = tmp_path / "wide"
    tiny_model(hidden_size=64, intermediate_size=128).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def loaded(folder):
    return load_4bit(str(folder), device=torch.device("cpu"), say=lambda message: None)


def with_adapter(model):
    """The model with an adapter that already changes something: B is not zero."""
    tuned = add_lora(model, rank=4)
    for name, p in tuned.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(p, std=0.02)
    return tuned


@real
def test_qlora_on_a_cpu_trains_evaluates_midway_and_learns(loaded, capsys):
    model, tokenizer = loaded
    assert is_4bit(model)
    examples = tokenize_rows(ROWS, tokenizer, "plain").examples
    tuned = add_lora(model, rank=4)
    before, start = fingerprint(tuned), token_nll(tuned, examples, tokenizer).mean
    settings = TrainSettings(max_steps=12, batch_size=4, learning_rate=2e-2, evaluate_every=3)
    result = train(tuned, tokenizer, examples, settings, eval_examples=examples)
    scores = [entry["eval_nll"] for entry in result.history if "eval_nll" in entry]
    assert len(scores) == 4
    assert scores[-1] < scores[0] < start
    found = did_it_learn(tuned, torch.tensor([examples[0]["input_ids"]]), before)
    assert found.ok, str(found)
    assert found.merged_gap is None
    assert fast_copy(tuned) is tuned
    assert len(generate(tuned, tokenizer, ["Why?", "What is a rate?"], 4)) == 2


@real
def test_an_evaluation_leaves_the_gradients_of_a_guarded_4_bit_model_as_they_were(loaded):
    model, tokenizer = loaded
    examples = tokenize_rows(ROWS, tokenizer, "plain").examples
    tuned = with_adapter(model)
    ids = torch.tensor([examples[0]["input_ids"]])
    before = adapter_gradients(tuned, ids)
    token_nll(tuned, examples, tokenizer)
    assert gradient_gap(before, adapter_gradients(tuned, ids)) < 1e-3


@real
@pytest.mark.skipif(not cpu_has_bf16(), reason="only CPUs with AVX512-BF16 pack weights")
def test_without_the_guard_bitsandbytes_loses_gradients(loaded):
    model, tokenizer = loaded
    examples = tokenize_rows(ROWS, tokenizer, "plain").examples
    for module in model.modules():
        if hasattr(module, SWITCH):
            setattr(module, SWITCH, True)  # what it was before the guard
    tuned = with_adapter(model)
    ids = torch.tensor([examples[0]["input_ids"]])
    before = adapter_gradients(tuned, ids)
    token_nll(tuned, examples, tokenizer)
    assert gradient_gap(before, adapter_gradients(tuned, ids)) > 0.1
    with pytest.raises(UserError, match="was packed"):
        guard_4bit(tuned)


@real
def test_importing_the_package_says_nothing_about_kernels_of_the_hub():
    run = [sys.executable, "-c", "import finetune_utils.lora, bitsandbytes.backends.cpu.ops"]
    assert "kernels" not in subprocess.run(run, capture_output=True, text=True, check=True).stderr
