"""An adapter that starts at nothing, changes nothing but itself, and merges into what it was."""

import importlib.metadata

import pytest
import torch
from transformers import AutoModelForCausalLM

from finetune_utils.errors import UserError
from finetune_utils.generation import generate
from finetune_utils.hardware import FP32, Precision
from finetune_utils.lora import BASE, add_lora, attach_adapter, is_lora, lora_config, merge, use_adapter
from finetune_utils.models import count_parameters
from finetune_utils.profiles import get_profile
from finetune_utils.tokenization import tokenize_rows
from finetune_utils.training import TrainSettings, train

BF16 = Precision(torch.bfloat16, "bf16", "a test")
ROWS = [{"question": "Why?", "answer": "The loss is nan."}, {"question": "What is a rate?", "answer": "One step."}]
TOKENS = torch.tensor([[11, 40, 96, 212, 300, 27], [11, 50, 7, 361, 90, 13]])


def logits(model):
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


def tuned(model, tokenizer, precision=FP32, **options):
    """An adapter that has learned something."""
    model = add_lora(model, rank=4, precision=precision, **options)
    settings = TrainSettings(max_steps=4, batch_size=2, learning_rate=1e-2)
    train(model, tokenizer, tokenize_rows(ROWS, tokenizer, "plain").examples, settings, precision=precision)
    return model


def base_weights(model):
    return {n.replace(".base_layer", ""): p.detach().clone() for n, p in model.named_parameters() if "lora_" not in n}


@pytest.mark.parametrize("precision", [FP32, BF16])
def test_an_untrained_adapter_changes_no_bit_of_the_output(tiny_model, precision):
    before = logits(tiny_model(dtype=precision.dtype))
    assert torch.equal(logits(add_lora(tiny_model(), rank=4, precision=precision)), before)


@pytest.mark.parametrize("precision", [FP32, BF16])
def test_training_leaves_every_bit_of_the_frozen_weights_and_moves_every_adapter(tiny_model, tokenizer, precision):
    fresh = add_lora(tiny_model(), rank=4, precision=precision)
    before = base_weights(fresh)
    model = tuned(tiny_model(), tokenizer, precision)
    after = base_weights(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    outer = {name: p for name, p in model.named_parameters() if "lora_B" in name}
    assert len(outer) == 14  # seven linear layers in each of two blocks
    assert all(p.norm() > 0 for p in outer.values())
    assert not torch.equal(logits(model), logits(fresh))


def test_only_the_adapter_is_trained_and_the_output_layer_has_none(tiny_model):
    model = add_lora(tiny_model(), rank=4, precision=FP32)
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert names == {name for name, _ in model.named_parameters() if "lora_" in name}
    assert not any("lm_head" in name or "embed" in name for name in names)
    # Per block: q and o 32x32, k and v 32x16, gate and up 32x48, down 48x32.
    assert count_parameters(model).trainable == 2 * 4 * (2 * 64 + 2 * 48 + 3 * 80)


def test_the_frozen_weights_take_16_bits_and_the_adapter_32(tiny_model):
    model = add_lora(tiny_model(), precision=BF16)
    kinds = {("lora_" in name, p.dtype) for name, p in model.named_parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}


@pytest.mark.parametrize(("alpha", "scale"), [(None, 2.0), (3, 0.5)])
def test_the_output_is_scaled_by_alpha_over_rank(tiny_model, alpha, scale):
    model = add_lora(tiny_model(), rank=6, alpha=alpha, precision=FP32)
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == scale
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    x = torch.randn(3, 32)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.testing.assert_close(layer(x), layer.base_layer(x) + scale * x @ a.T @ b.T)


def test_the_seed_decides_where_the_adapter_starts(tiny_model):
    starts = [add_lora(tiny_model(), rank=4, seed=seed, precision=FP32).state_dict() for seed in (8, 8, 9)]
    inner = next(name for name in starts[0] if "lora_A" in name)
    assert torch.equal(starts[0][inner], starts[1][inner])
    assert not torch.equal(starts[0][inner], starts[2][inner])


def test_the_targets_and_the_dropout_are_those_asked_for(tiny_model):
    model = add_lora(tiny_model(), rank=4, targets=["q_proj"], dropout=0.25, precision=FP32)
    layers = {name.split(".")[-4] for name, _ in model.named_parameters() if "lora_A" in name}
    assert layers == {"q_proj"} or all("q_proj" in n for n, _ in model.named_parameters() if "lora_" in n)
    assert model.peft_config["default"].lora_dropout == 0.25


# --- merging


def test_merged_weights_give_what_model_and_adapter_gave(tiny_model, tokenizer):
    model = tuned(tiny_model(), tokenizer)
    apart = logits(model)
    merged = merge(model)
    assert not is_lora(merged)
    assert not any("lora_" in name for name, _ in merged.named_modules())
    torch.testing.assert_close(logits(merged), apart, rtol=0, atol=1e-5)
    assert (logits(tiny_model()) - apart).abs().max() > 0.01


def test_16_bit_weights_are_merged_in_float32_so_that_a_small_update_is_not_lost(tiny_model):
    model = add_lora(tiny_model(), rank=4, precision=BF16)
    layer = model.base_model.model.model.layers[1].mlp.down_proj
    torch.nn.init.constant_(layer.lora_B["default"].weight, 1e-5)
    before = layer.base_layer.weight.float()
    update = 2 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    merged = merge(model).model.layers[1].mlp.down_proj.weight.detach()
    assert merged.dtype == torch.float32
    torch.testing.assert_close(merged, (before + update).detach(), rtol=0, atol=1e-8)
    assert not torch.equal(merged, before)


def test_a_merged_model_can_be_rounded_and_a_plain_one_passes_through(tiny_model, tokenizer):
    assert {p.dtype for p in merge(tuned(tiny_model(), tokenizer), torch.bfloat16).parameters()} == {torch.bfloat16}
    plain = tiny_model()
    assert merge(plain) is plain
    assert {p.dtype for p in merge(plain, torch.bfloat16).parameters()} == {torch.bfloat16}


# --- saving and loading


def test_a_saved_adapter_gives_the_same_output_to_the_bit(tiny_model, tokenizer, tmp_path):
    model = tuned(tiny_model(), tokenizer)
    model.save_pretrained(tmp_path)
    loaded = attach_adapter(tiny_model(), tmp_path)
    assert torch.equal(logits(loaded), logits(model))
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert (is_lora(loaded), is_lora(tiny_model())) == (True, False)


# --- settings


def test_a_profile_decides_the_rank_and_twice_the_rank_is_alpha():
    config = lora_config(profile=get_profile("smoke"))
    assert (config.r, config.lora_alpha) == (get_profile("smoke").lora_rank, 2 * get_profile("smoke").lora_rank)
    assert lora_config(rank=5, alpha=7, use_rslora=True).use_rslora
    with pytest.raises(UserError, match="The rank is 0"):
        lora_config(rank=0)


def test_a_4_bit_model_is_not_merged_and_not_converted(tiny_model):
    model = tiny_model()
    model.is_loaded_in_4bit = True
    adapted = add_lora(model, rank=4, precision=BF16)
    assert {p.dtype for p in adapted.parameters()} == {torch.float32}  # left as it was
    with pytest.raises(UserError, match="4-bit weights cannot take an adapter in"):
        merge(adapted)


# --- several adapters on one model

PROMPTS = ["Why?", "What is a rate?", "Why does the loss print nan?", "An adapter", "How far?", "The label mask"]


@pytest.fixture
def two(tiny_model, tokenizer, tmp_path):
    """One model with the adapters `small` and `large`, which answer differently."""
    for name, size in (("small", 0.02), ("large", 0.3)):
        model = add_lora(tiny_model(), rank=4, precision=FP32)
        torch.manual_seed(len(name) + int(size * 100))
        for parameter_name, parameter in model.named_parameters():
            if "lora_B" in parameter_name:
                torch.nn.init.normal_(parameter, std=size)
        model.save_pretrained(tmp_path / name)
    model = attach_adapter(tiny_model(), tmp_path / "small", "small")
    return attach_adapter(model, tmp_path / "large", "large")


def test_two_adapters_are_switched_and_turned_off(two, tiny_model, tmp_path):
    assert two.active_adapter == "large"
    found = {}
    for name in ("small", "large"):
        use_adapter(two, name)
        found[name] = logits(two)
        assert torch.equal(found[name], logits(attach_adapter(tiny_model(), tmp_path / name)))
        assert not any(p.requires_grad for p in two.parameters())
    assert not torch.equal(found["small"], found["large"])
    with two.disable_adapter():
        assert torch.equal(logits(two), logits(tiny_model()))
    assert torch.equal(logits(two), found["large"])


def test_a_mixed_batch_gives_every_prompt_the_answer_of_its_adapter(two, tokenizer):
    adapters = ["small", BASE, "large", "large", BASE, "small"]
    mixed = generate(two, tokenizer, PROMPTS, 6, adapters=adapters)
    alone = {}
    for name in ("small", "large"):
        use_adapter(two, name)
        alone[name] = generate(two, tokenizer, PROMPTS, 6)
    with two.disable_adapter():
        alone[BASE] = generate(two, tokenizer, PROMPTS, 6)
    assert mixed == [alone[name][i] for i, name in enumerate(adapters)]
    assert len({tuple(texts) for texts in alone.values()}) == 3


def test_an_adapter_that_is_not_there_or_there_already_is_named(two, tiny_model, tokenizer, tmp_path):
    with pytest.raises(UserError, match="No adapter called 'huge': the model has small, large"):
        use_adapter(two, "huge")
    with pytest.raises(UserError, match="No adapter called 'a': the model has none"):
        use_adapter(tiny_model(), "a")
    with pytest.raises(UserError, match="an adapter called 'small' already"):
        attach_adapter(two, tmp_path / "small", "small")
    with pytest.raises(UserError, match="No adapter called 'huge'"):
        generate(two, tokenizer, ["Why?"], 2, adapters=["huge"])
    with pytest.raises(UserError, match="No adapter called 'small': the model has none"):
        generate(tiny_model(), tokenizer, ["Why?"], 2, adapters=["small"])
    with pytest.raises(UserError, match="Found 2 prompts and 1 names"):
        generate(two, tokenizer, ["Why?", "How?"], 2, adapters=["small"])


# --- the old torchao that some machines bring along


def pretend(monkeypatch, version):
    real = importlib.metadata.version

    def answer(name):
        if name != "torchao":
            return real(name)
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", answer)


@pytest.mark.parametrize("version", ["0.10.0", "0.15.1", "0.9"])
def test_an_old_torchao_is_named_with_its_remedy(tiny_model, monkeypatch, tmp_path, version):
    pretend(monkeypatch, version)
    for attempt in (lambda: add_lora(tiny_model()), lambda: attach_adapter(tiny_model(), tmp_path)):
        with pytest.raises(UserError, match=f"torchao {version} is installed.*pip uninstall -y torchao"):
            attempt()


@pytest.mark.parametrize("version", [None, "0.16.0", "0.17.0+cu128", "1.0"])
def test_no_torchao_or_a_new_one_is_no_obstacle(tiny_model, monkeypatch, version):
    pretend(monkeypatch, version)
    assert is_lora(add_lora(tiny_model(), rank=4, precision=FP32))


def test_a_saved_adapter_gives_the_same_logits_on_a_model_loaded_in_the_format_it_was_trained_with(
    tiny_model, tmp_path
):
    ids = torch.arange(3, 200)[None]
    adapted = add_lora(tiny_model(), rank=4, precision=BF16)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.eval().save_pretrained(tmp_path)
    tiny_model().save_pretrained(tmp_path / "base")
    with torch.no_grad():
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.bfloat16)
        assert torch.equal(attach_adapter(loaded, tmp_path)(ids).logits, adapted(ids).logits)
        # The trap: `.to` rounds the position code as well.
        moved = attach_adapter(tiny_model().to(torch.bfloat16), tmp_path)
        assert not torch.equal(moved(ids).logits, adapted(ids).logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_merging_leaves_the_frequencies_of_the_position_code_exact(tiny_model, tokenizer, dtype):
    exact = tiny_model().model.rotary_emb.inv_freq.clone()
    assert exact.dtype == torch.float32
    assert not torch.equal(exact, exact.to(torch.bfloat16).float())
    merged = merge(tuned(tiny_model(), tokenizer, BF16), dtype)
    assert torch.equal(merged.model.rotary_emb.inv_freq, exact)
    assert {parameter.dtype for parameter in merged.parameters()} == {dtype}
