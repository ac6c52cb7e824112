"""The number that judges a model: equal to a sum by hand, whatever the batches and the path."""

import math

import numpy as np
import pytest
import torch

from finetune_utils import batching
from finetune_utils.batching import can_skip_logits
from finetune_utils.nll import NLL, autocast, token_nll
from finetune_utils.tokenization import tokenize_rows

ROWS = [
    {"question": "Why?", "answer": "The learning rate is too high; lower it, and the loss will not print nan."},
    {"text": "An adapter holds few weights, and the frozen model holds the rest."},
    {"question": "What is a learning rate? " * 4, "answer": "a"},
    {
        "messages": [
            {"role": "user", "content": "What is a rate?"},
            {"role": "assistant", "content": "How far one step moves."},
            {"role": "user", "content": "Why lower it?"},
            {"role": "assistant", "content": "The loss is nan."},
        ]
    },
    {"text": "nan"},
]


@pytest.fixture
def examples(tokenizer):
    return tokenize_rows(ROWS, tokenizer).examples


def by_hand(model, example):
    """The NLL of one row, unpadded: minus the log of the softmax at each trained token."""
    tokens = torch.tensor([example["input_ids"]])
    with torch.no_grad():
        logits = model(input_ids=tokens).logits[0].double()
    total = count = 0
    for t in range(1, tokens.shape[1]):
        if example["labels"][t] != -100:
            total += torch.logsumexp(logits[t - 1], 0).item() - logits[t - 1, tokens[0, t]].item()
            count += 1
    return total, count


def test_it_equals_a_cross_entropy_by_hand_row_by_row(tiny_model, tokenizer, examples):
    model = tiny_model()
    score = token_nll(model, examples, tokenizer)
    sums, counts = zip(*(by_hand(model, example) for example in examples), strict=True)
    assert score.counts.tolist() == list(counts)
    np.testing.assert_allclose(score.sums, sums, rtol=1e-5)
    assert score.mean == pytest.approx(sum(sums) / sum(counts), rel=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 60, 200])
def test_it_does_not_depend_on_the_batches(tiny_model, tokenizer, examples, batch_tokens):
    model = tiny_model()
    whole = token_nll(model, examples, tokenizer, batch_tokens=100_000)
    parts = token_nll(model, examples, tokenizer, batch_tokens=batch_tokens)
    np.testing.assert_allclose(parts.sums, whole.sums, rtol=1e-5)
    assert parts.counts.tolist() == whole.counts.tolist()


@pytest.mark.skipif(not can_skip_logits(), reason="this transformers has the plain path only")
def test_skipping_logits_gives_what_the_plain_path_gives(tiny_model, tokenizer, examples, monkeypatch):
    model, asked = tiny_model(), []
    forward = model.forward

    def spy(**inputs):
        asked.append("logits_to_keep" in inputs)
        return forward(**inputs)

    monkeypatch.setattr(model, "forward", spy)
    short = token_nll(model, examples, tokenizer)
    monkeypatch.setattr(batching, "can_skip_logits", lambda: False)
    plain = token_nll(model, examples, tokenizer)
    assert asked == [True, False]
    np.testing.assert_allclose(short.sums, plain.sums, rtol=1e-6)


def test_a_model_without_preferences_scores_the_logarithm_of_its_vocabulary(tiny_model, tokenizer, examples):
    model = tiny_model()
    torch.nn.init.zeros_(model.lm_head.weight)
    score = token_nll(model, examples, tokenizer)
    assert score.mean == pytest.approx(math.log(400), rel=1e-6)
    assert score.perplexity == pytest.approx(400, rel=1e-5)


def test_every_token_weighs_the_same_whatever_row_it_stands_in():
    score = NLL(np.array([2.0, 9.0]), np.array([1, 9]))
    assert score.mean == pytest.approx(1.1)  # the mean of the row means would be 1.5
    assert score.perplexity == pytest.approx(math.exp(1.1))


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_while_scoring_and_the_mode_is_put_back(tiny_model, tokenizer, examples, training):
    model = tiny_model(attention_dropout=0.5).train(training)
    first, second = (token_nll(model, examples, tokenizer).sums for _ in range(2))
    assert model.training == training
    assert first.tolist() == second.tolist()
    np.testing.assert_allclose(first, token_nll(tiny_model(), examples, tokenizer).sums, rtol=1e-6)


def test_scoring_leaves_no_gradient_behind(tiny_model, tokenizer, examples):
    model = tiny_model()
    token_nll(model, examples, tokenizer)
    assert all(p.grad is None for p in model.parameters())


def test_16_bit_weights_are_multiplied_in_16_bits_and_float32_stays_float32(tiny_model):
    with autocast(tiny_model(dtype=torch.bfloat16)):
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
        assert torch.is_autocast_enabled("cpu")
    with autocast(tiny_model()):
        assert not torch.is_autocast_enabled("cpu")


def test_16_bit_weights_score_about_the_same(tiny_model, tokenizer, examples):
    exact = token_nll(tiny_model(), examples, tokenizer)
    rounded = token_nll(tiny_model(dtype=torch.bfloat16), examples, tokenizer)
    assert rounded.sums.dtype == np.float64
    np.testing.assert_allclose(rounded.sums, exact.sums, rtol=0.02)
    assert rounded.sums.tolist() != exact.sums.tolist()
