"""The memory estimate against arithmetic by hand on a tiny model."""

import dataclasses

import pytest
import torch
import transformers

from finetune_utils import memory
from finetune_utils.errors import UserError
from finetune_utils.hardware import FP32, Precision
from finetune_utils.lora import add_lora
from finetune_utils.memory import MemoryEstimate, activation_bytes, estimate_memory, human_bytes

BF16 = Precision(torch.bfloat16, "bf16", "for the test")
BATCH, LENGTH, RANK = 3, 10, 5
TOKENS = BATCH * LENGTH
HIDDEN, INNER, HEADS, LAYERS = 32, 48, 4, 2
# q and o are square, k and v half as wide (2 of 4 heads), then gate, up and down.
LORA = LAYERS * RANK * ((32 + 32) * 2 + (32 + 16) * 2 + (32 + 48) * 3)


@pytest.fixture
def vocabulary(tiny_model):
    return tiny_model().config.vocab_size


@pytest.fixture
def weights(vocabulary):
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32
    return 2 * vocabulary * 32 + LAYERS * layer + 32


def estimate(model, method, precision, **options) -> MemoryEstimate:
    return estimate_memory(model, method, BATCH, LENGTH, rank=RANK, precision=precision, **options)


def test_full_fine_tuning_in_float32_is_counted_by_hand(tiny_model, weights, vocabulary):
    need = estimate(tiny_model(), "full", FP32, supervised=0.5)
    assert (need.weights, need.gradients, need.optimizer) == (4 * weights, 4 * weights, 8 * weights)
    assert need.logits == TOKENS * 0.5 * vocabulary * (3 * 4 + 12)


def test_full_fine_tuning_under_autocast_keeps_a_16_bit_copy(tiny_model, weights, vocabulary):
    need = estimate(tiny_model(), "full", BF16, supervised=0.5)
    assert (need.weights, need.gradients, need.optimizer) == (6 * weights, 4 * weights, 8 * weights)
    assert need.logits == TOKENS * 0.5 * vocabulary * (3 * 2 + 12)


def test_lora_stores_frozen_weights_in_16_bits_and_trains_the_adapter_only(tiny_model, weights):
    need = estimate(tiny_model(), "lora", BF16)
    assert (need.weights, need.gradients, need.optimizer) == (2 * weights + 4 * LORA, 4 * LORA, 8 * LORA)
    need = estimate(tiny_model(), "lora", FP32)
    assert (need.weights, need.gradients) == (4 * weights + 4 * LORA, 4 * LORA)


def test_qlora_packs_the_linear_layers_and_expands_one_at_a_time(tiny_model, weights):
    need = estimate(tiny_model(), "qlora", BF16)
    linear = LAYERS * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48)
    packed = int(linear * (1 / 2 + 1 / 64 + 4 / (64 * 256)))
    assert need.weights == packed + 2 * (weights - linear) + 2 * 32 * 48 + 4 * LORA
    lora = estimate(tiny_model(), "lora", BF16)
    assert (need.gradients, need.optimizer, need.activations) == (lora.gradients, lora.optimizer, lora.activations)
    assert need.weights < lora.weights


def test_an_adapter_that_is_there_already_is_not_counted_twice(tiny_model):
    adapted = add_lora(tiny_model(), rank=RANK, precision=FP32)
    for method in ("lora", "qlora"):
        assert estimate(adapted, method, BF16) == estimate(tiny_model(), method, BF16)


def test_shared_weights_are_counted_once(tiny_model, weights, vocabulary):
    need = estimate(tiny_model(tie_word_embeddings=True), "full", FP32)
    assert need.gradients == 4 * (weights - vocabulary * HIDDEN)


def test_answering_needs_no_gradients(tiny_model, weights):
    need = estimate(tiny_model(), "inference", BF16)
    assert (need.weights, need.gradients, need.optimizer, need.activations) == (2 * weights, 0, 0, 0)


@pytest.mark.parametrize(
    ("low", "by_hand"), [(2, 64 * 6 + 128 * 2 + 40 * 8 + 192 * 2), (4, 64 * 8 + 128 * 4 + 40 * 12 + 192 * 4)]
)
def test_activations_of_one_token_in_one_layer(tiny_model, low, by_hand):
    # two norms (2 x 32), four vectors of attention (4 x 32), 4 heads x 10 weights, four vectors of the MLP (4 x 48)
    assert activation_bytes(tiny_model().config, LENGTH, low) == by_hand
    precision = BF16 if low == 2 else FP32
    assert estimate(tiny_model(), "lora", precision).activations == TOKENS * LAYERS * by_hand


def test_the_total_is_the_sum_of_all_parts(tiny_model):
    need = estimate(tiny_model(), "lora", BF16)
    parts = dataclasses.asdict(need)
    assert need.total == sum(parts.values())
    assert parts["libraries"] == memory.LIBRARIES
    assert MemoryEstimate(1, 20, 300, 4_000, 50_000, 600_000).total == 654_321


def test_more_rows_longer_rows_and_more_supervision_cost_more(tiny_model):
    model = tiny_model()
    base = estimate_memory(model, "lora", 4, 64, precision=BF16)
    twice = estimate_memory(model, "lora", 8, 64, precision=BF16)
    assert twice.activations == 2 * base.activations
    assert twice.logits == 2 * base.logits
    longer = estimate_memory(model, "lora", 4, 128, precision=BF16)
    assert longer.activations > 2 * base.activations  # attention grows with the square
    assert longer.logits == 2 * base.logits
    assert estimate_memory(model, "lora", 4, 64, supervised=1.0, precision=BF16).logits == 2 * base.logits
    assert estimate_memory(model, "lora", 4, 64, rank=32, precision=BF16).gradients == 2 * base.gradients


def test_lora_needs_less_than_full_fine_tuning(tiny_model):
    assert estimate(tiny_model(), "lora", BF16).total < estimate(tiny_model(), "full", BF16).total


def test_a_family_that_does_not_name_its_inner_size_is_estimated_too():
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=64)
    named = transformers.GPTNeoXConfig(
        hidden_size=32, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, vocab_size=50
    )
    assert activation_bytes(config, LENGTH, 2) == activation_bytes(named, LENGTH, 2)
    assert estimate(transformers.GPT2LMHeadModel(config), "lora", BF16).activations > 0


def test_an_unknown_method_lists_what_there_is(tiny_model):
    with pytest.raises(UserError, match="Unknown method 'magic': choose one of full, lora, qlora, inference"):
        estimate_memory(tiny_model(), "magic")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1_000, "1.0 kB"), (1_250_000, "1.2 MB"), (1_234_567_890, "1.2 GB")],
)
def test_bytes_are_written_for_people(count, text):
    assert human_bytes(count) == text


# What the models' own cards say, in billions of parameters.
PUBLISHED = {"SmolLM2-135M": 0.135, "SmolLM2-360M": 0.362, "SmolLM2-1.7B": 1.71, "Llama-3.2-3B": 3.21, "Mistral-7B": 7.24,
             "Llama-2-13B": 13.0, "Qwen2.5-32B": 32.8, "Llama-2-70B": 69.0}  # fmt: skip


@pytest.mark.parametrize("name", ["SmolLM2-135M", "SmolLM2-360M", "SmolLM2-1.7B", "Llama-3.2-3B", "Mistral-7B"])
def test_a_shape_has_the_published_number_of_parameters(name):
    model = memory.shape_of(name)
    assert all(p.is_meta for p in model.parameters()), "a shape has no weights"
    assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(PUBLISHED[name], rel=0.005)


def test_the_large_shapes_have_the_published_number_of_parameters_too():
    assert set(PUBLISHED) == set(memory.SHAPES)
    for name in list(memory.SHAPES)[5:]:
        count = sum(p.numel() for p in memory.shape_of(name).parameters()) / 1e9
        assert count == pytest.approx(PUBLISHED[name], rel=0.005)


def test_the_table_has_every_method_and_each_saves_over_the_one_before():
    table = memory.memory_table(["SmolLM2-135M", "Mistral-7B"])
    for needs in table.values():
        assert list(needs) == ["full", "lora", "qlora", "inference"]
        assert needs["full"].total > needs["lora"].total > needs["qlora"].total
    weights = 7_241_732_096
    full = table["Mistral-7B"]["full"]
    assert full.weights + full.gradients + full.optimizer == 18 * weights


def test_an_unknown_shape_lists_what_there_is():
    with pytest.raises(UserError, match="no shape 'GPT-9': choose one of SmolLM2-135M"):
        memory.shape_of("GPT-9")


def test_a_token_leaves_a_key_and_a_value_in_every_layer(tiny_model):
    # 2 (key and value) x 2 layers x 2 heads of 8 numbers x 2 bytes
    assert memory.cache_bytes(tiny_model().config) == 2 * 2 * 2 * 8 * 2


def test_stored_peaks_of_the_real_model_are_near_the_estimate():
    from finetune_utils.results import stored

    rows = stored("study.rank_sweep")["rows"]
    assert {row["rank"] for row in rows} >= {16, "full"}
    for row in rows:
        assert row["memory_estimate"] == pytest.approx(row["memory"], rel=0.15)
