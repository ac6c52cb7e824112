"""The quick path computes what peft computes, only where it may, and goes away afterwards."""

import contextlib
import inspect

import peft
import pytest
import torch

from finetune_utils import nll, training
from finetune_utils.hardware import FP32, Precision
from finetune_utils.lora import add_lora
from finetune_utils.quick_lora import _LoraLinear, plain_attention, quick_lora
from finetune_utils.tokenization import tokenize_rows
from finetune_utils.training import TrainSettings, train

BF16 = Precision(torch.bfloat16, "bf16", "a test")
LAYERS = 14  # seven linear layers in each of two blocks
TOKENS = torch.randint(14, 400, (3, 20), generator=torch.Generator().manual_seed(8))


def adapted(model, precision=BF16, **options):
    """An adapter away from its start, where the outer matrix would hide the inner one's gradient."""
    model = add_lora(model, rank=4, precision=precision, **options)
    generator = torch.Generator().manual_seed(9)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data = torch.randn(p.shape, generator=generator) * 0.1
    return model.train()


def measured(model, quick, cast=True):
    """Loss, outputs and gradients of one step."""
    model.zero_grad()
    context = quick_lora(model) if quick else contextlib.nullcontext()
    with context, torch.autocast("cpu", torch.bfloat16, enabled=cast):
        output = model(input_ids=TOKENS, labels=TOKENS)
    output.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return output.loss.item(), output.logits.detach().float(), gradients


def count_quick_layers(monkeypatch, module):
    """Let `module` go on taking the quick path; returns a list that gets the number of layers each time."""
    taken = []

    @contextlib.contextmanager
    def counted(model):
        with quick_lora(model) as count:
            taken.append(count)
            yield count

    monkeypatch.setattr(module, "quick_lora", counted)
    return taken


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


def test_loss_outputs_and_gradients_are_as_close_to_the_exact_ones_as_pefts(tiny_model):
    exact = measured(adapted(tiny_model(), FP32), quick=False, cast=False)
    model = adapted(tiny_model())
    usual, quick = measured(model, quick=False), measured(model, quick=True)
    assert abs(quick[0] - exact[0]) < 0.01 * exact[0]
    assert distance(quick[1], exact[1]) < 1.25 * distance(usual[1], exact[1]) < 0.05
    assert quick[2].keys() == usual[2].keys() == {n for n, _ in model.named_parameters() if "lora_" in n}
    for name, gradient in exact[2].items():
        error, allowed = distance(quick[2][name], gradient), distance(usual[2][name], gradient)
        assert error < 1.5 * allowed + 0.005, name
        assert quick[2][name].dtype == torch.float32


def test_in_float32_the_step_is_exact_in_every_gradient():
    torch.manual_seed(10)
    shapes = {"x": (2, 5, 12), "w": (7, 12), "a": (3, 12), "b": (7, 3)}
    scale, sides = 2.5, []
    values = {name: torch.randn(shape) for name, shape in shapes.items()}
    weigh = torch.randn(2, 5, 7)
    for quick in (True, False):
        x, w, a, b = (values[name].clone().requires_grad_(name != "w") for name in "xwab")
        y = _LoraLinear.apply(x, w, a, b, scale) if quick else x @ w.T + scale * (x @ a.T) @ b.T
        (y * weigh).sum().backward()
        sides.append((y.detach(), x.grad, a.grad, b.grad))
    for got, expected in zip(*sides, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("precision", "near"), [(BF16, 0.01), (FP32, 1e-4)])
def test_a_whole_run_reaches_the_losses_it_reaches_with_peft(tiny_model, tokenizer, monkeypatch, precision, near):
    rows = [
        {"text": text} for text in ("The loss is nan.", "What is a learning rate?", "one step", "lower the weights")
    ]
    examples = tokenize_rows(rows, tokenizer).examples
    settings = TrainSettings(max_steps=8, batch_size=4, learning_rate=5e-3)
    taken = count_quick_layers(monkeypatch, training)
    quick = train(adapted(tiny_model(), precision), tokenizer, examples, settings, precision=precision).losses
    monkeypatch.setattr(training, "quick_lora", contextlib.nullcontext)
    usual = train(adapted(tiny_model(), precision), tokenizer, examples, settings, precision=precision).losses
    assert taken == [LAYERS]
    assert quick == pytest.approx(usual, rel=near)
    assert quick[-1] < quick[0]


def test_a_score_in_the_middle_of_training_leaves_the_quick_path_where_it_was(tiny_model, tokenizer):
    model = adapted(tiny_model())
    examples = tokenize_rows([{"text": "What is a learning rate?"}, {"text": "one step"}], tokenizer).examples
    settings = TrainSettings(max_steps=3, batch_size=2, learning_rate=5e-3, evaluate_every=1)
    result = train(model, tokenizer, examples, settings, eval_examples=examples[:1], precision=BF16)
    assert sum("eval_nll" in entry for entry in result.history) == 3
    assert not any("forward" in vars(m) for m in model.modules())
    with quick_lora(model), quick_lora(model) as inner:
        assert inner == 0
        inside = [m for m in model.modules() if "forward" in vars(m)]
    assert len(inside) == LAYERS


# --- where it applies


def taken_by(model):
    with quick_lora(model) as count:
        return count


@pytest.mark.parametrize("precision", [BF16, FP32])
def test_plain_adapters_take_it(tiny_model, precision):
    assert taken_by(adapted(tiny_model(), precision)) == LAYERS


def test_a_model_without_adapter_or_with_half_precision_weights_does_not(tiny_model):
    assert taken_by(tiny_model(dtype=torch.bfloat16)) == 0
    assert taken_by(adapted(tiny_model(), Precision(torch.float16, "fp16", "a test"))) == 0


def test_float32_weights_under_autocast_are_multiplied_in_16_bits_as_peft_does(tiny_model):
    model = adapted(tiny_model(), FP32)
    usual, quick, exact = (measured(model, quick=q, cast=c) for q, c in ((False, True), (True, True), (True, False)))
    assert torch.equal(quick[1], usual[1])
    assert not torch.equal(quick[1], exact[1])


def test_dropout_does_not(tiny_model):
    assert taken_by(adapted(tiny_model(), dropout=0.1)) == 0


def test_layers_with_a_bias_do_not(tiny_model):
    assert taken_by(adapted(tiny_model(attention_bias=True))) == 6  # the three of each MLP have none
    assert taken_by(adapted(tiny_model(attention_bias=True, mlp_bias=True))) == 0


def test_two_active_adapters_do_not_and_one_of_two_does(tiny_model):
    model = adapted(tiny_model())
    model.add_adapter("second", peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert taken_by(model) == LAYERS
    model.base_model.set_adapter(["default", "second"])
    assert taken_by(model) == 0


def test_the_adapter_that_is_active_is_the_one_computed(tiny_model):
    model = adapted(tiny_model())
    model.add_adapter("second", peft.LoraConfig(r=2, lora_alpha=9, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, p in model.named_parameters():
        if "lora_B.second" in name:
            torch.nn.init.normal_(p, std=0.1)
    model.set_adapter("second")
    usual, quick = measured(model, quick=False), measured(model, quick=True)
    assert distance(quick[1], usual[1]) < 0.02
    assert all("second" in name for name in quick[2])


@pytest.mark.parametrize("variant", ["use_dora", "lora_bias"])
def test_variants_of_lora_do_not(tiny_model, variant):
    config = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", **{variant: True})
    model = tiny_model(dtype=torch.bfloat16, attention_bias=variant == "lora_bias", mlp_bias=variant == "lora_bias")
    assert taken_by(peft.get_peft_model(model, config)) == 0


def test_disabled_or_merged_adapters_do_not(tiny_model):
    model = adapted(tiny_model())
    with model.disable_adapter():
        assert taken_by(model) == 0
    assert taken_by(model) == LAYERS
    model.merge_adapter()
    assert taken_by(model) == 0


def test_a_bias_on_the_adapter_alone_is_enough_to_leave_it(tiny_model):
    model = adapted(tiny_model())
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    layer.lora_B["default"].bias = torch.nn.Parameter(torch.zeros(32))
    assert taken_by(model) == LAYERS - 1


# --- what it leaves


def test_the_layers_are_their_own_again_afterwards_also_after_an_error(tiny_model):
    model = adapted(tiny_model())

    def replaced():
        return sum("forward" in vars(layer) for layer in model.modules())

    with quick_lora(model):
        assert replaced() == LAYERS
    assert replaced() == 0
    with pytest.raises(ZeroDivisionError), quick_lora(model):
        raise ZeroDivisionError
    assert replaced() == 0


def test_short_rows_get_plain_attention_and_the_choice_is_put_back(tiny_model):
    model = adapted(tiny_model(), FP32)
    with plain_attention(model, 256):
        assert model.config._attn_implementation == "eager"
    assert model.config._attn_implementation == "sdpa"
    with pytest.raises(ZeroDivisionError), plain_attention(model, 8):
        raise ZeroDivisionError
    assert model.config._attn_implementation == "sdpa"


def test_long_rows_and_other_choices_keep_their_attention(tiny_model):
    model = tiny_model()
    with plain_attention(model, 257):
        assert model.config._attn_implementation == "sdpa"
    model.set_attn_implementation("eager")
    with plain_attention(model, 8):
        pass
    assert model.config._attn_implementation == "eager"


def test_plain_attention_computes_the_same(tiny_model):
    model = adapted(tiny_model(), FP32)
    usual = measured(model, quick=False, cast=False)
    with plain_attention(model, 20):
        plain = measured(model, quick=False, cast=False)
    torch.testing.assert_close(plain[1], usual[1], rtol=1e-4, atol=1e-5)
    assert plain[0] == pytest.approx(usual[0], rel=1e-6)


def test_in_training_each_batch_takes_the_attention_that_suits_its_own_length(tiny_model, tokenizer):
    model = adapted(tiny_model(), FP32)
    rows = [{"text": "lower the weights " * times} for times in (150, 2, 3, 100)]
    examples = tokenize_rows(rows, tokenizer).examples
    seen = []
    plain = model.get_base_model()
    usual = plain.forward

    def recorded(input_ids, **others):
        seen.append((input_ids.shape[1] > 256, plain.config._attn_implementation))
        return usual(input_ids=input_ids, **others)

    recorded.__signature__ = inspect.signature(usual)  # the Trainer asks it which columns the model takes
    plain.forward = recorded
    train(model, tokenizer, examples, TrainSettings(max_steps=4, batch_size=1, shuffle=False), precision=FP32)
    assert seen == [(True, "sdpa"), (False, "eager"), (False, "eager"), (True, "sdpa")]
    assert model.config._attn_implementation == "sdpa"


# --- scoring


def test_scoring_takes_the_quick_path_and_gets_the_same_nll(tiny_model, tokenizer, monkeypatch):
    model = adapted(tiny_model())
    examples = tokenize_rows([{"text": "What is a learning rate?"}, {"text": "one step"}], tokenizer).examples
    taken = count_quick_layers(monkeypatch, nll)
    quick = nll.token_nll(model, examples, tokenizer)
    monkeypatch.setattr(nll, "quick_lora", contextlib.nullcontext)
    usual = nll.token_nll(model, examples, tokenizer)
    assert taken == [LAYERS]
    assert quick.sums == pytest.approx(usual.sums, rel=0.01)
    assert quick.counts.tolist() == usual.counts.tolist()
