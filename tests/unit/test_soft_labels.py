"""Soft labels: the loss and the gradient of a cross-entropy by hand, and nothing else disturbed."""

import math

import pytest
import torch

from finetune_utils.batching import SupervisedCollator, can_skip_logits
from finetune_utils.errors import UserError
from finetune_utils.hardware import FP32, Precision
from finetune_utils.lora import add_lora
from finetune_utils.nll import token_nll
from finetune_utils.soft_labels import check_soft_labels, choice_tokens, encode_choice, soft_terms
from finetune_utils.tokenization import check_example, tokenize_rows
from finetune_utils.training import TrainSettings, train

BF16 = Precision(torch.bfloat16, "bf16", "asked for")
PLAIN = [{"question": "What is a rate?", "answer": "How far one step moves."}, {"question": "Why?", "answer": "nan"}]


@pytest.fixture
def plain(tokenizer):
    return tokenize_rows(PLAIN, tokenizer, "plain").examples


@pytest.fixture
def soft(tokenizer):
    """Two questions answered Y or N: one is likelier Y (0.7), the other N (0.9)."""
    rows = [("Is the loss nan after a while?", 0.7), ("An adapter?", 0.1)]
    return [encode_choice({"question": q}, {"Y": p, "N": 1 - p}, tokenizer, "plain") for q, p in rows]


def by_hand(model, examples):
    """Sum of -sum_k q_k log P(k) over all trained positions, one row at a time, and how many positions there are."""
    total, count = 0.0, 0
    for example in examples:
        logs = model(input_ids=torch.tensor([example["input_ids"]])).logits[0].float().log_softmax(-1)
        for t in range(1, len(example["labels"])):
            if example["labels"][t] == -100:
                continue
            target = torch.zeros(logs.shape[-1])
            for position, token, p in example.get("soft_labels", ()):
                target[token] += p if position == t else 0
            target[example["labels"][t]] = 1 - target.sum()
            total = total - (target * logs[t - 1]).sum()
            count += 1
    return total, count


def test_the_likelier_choice_is_the_answer_and_the_other_stands_beside_it(tokenizer, soft):
    yes, no = choice_tokens(["Y", "N"], tokenizer)
    for example, answer, other, p in [(soft[0], yes, no, 0.3), (soft[1], no, yes, 0.1)]:
        assert example["labels"][-2:] == example["input_ids"][-2:] == [answer, tokenizer.eos_token_id]
        assert example["soft_labels"] == [(len(example["labels"]) - 2, other, pytest.approx(p))]
        check_example(example)
        check_soft_labels(example)


def test_a_certain_choice_is_an_ordinary_example(tokenizer):
    example = encode_choice({"question": "Why?"}, {"Y": 0.0, "N": 1.0}, tokenizer, "plain")
    assert example["soft_labels"] == []
    assert (
        example["labels"]
        == tokenize_rows([{"question": "Why?", "answer": "N"}], tokenizer, "plain").examples[0]["labels"]
    )


@pytest.mark.parametrize("sparse", [True, False])
def test_the_terms_turn_the_loss_into_the_cross_entropy_by_hand(tiny_model, tokenizer, plain, soft, sparse):
    model = tiny_model()
    batch = SupervisedCollator(tokenizer.pad_token_id, sparse=sparse)([plain[0], *soft, plain[1]])
    if sparse and not can_skip_logits():
        pytest.skip("this transformers knows no mask of positions")
    extra = batch.pop("soft_labels")
    assert extra["row"].tolist() == [1, 2]
    output = model(**batch)
    total, count = by_hand(model, [plain[0], *soft, plain[1]])
    loss = output.loss + soft_terms(output.logits, extra).sum() / count
    assert loss.item() == pytest.approx((total / count).item(), rel=1e-5)
    assert loss.item() != pytest.approx(output.loss.item(), rel=1e-4)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("sparse", [True, False])
def test_a_training_step_has_the_gradient_of_the_cross_entropy_by_hand(
    tiny_model, tokenizer, plain, soft, accumulation, sparse, monkeypatch
):
    monkeypatch.setattr("finetune_utils.batching.can_skip_logits", lambda: sparse and can_skip_logits())
    examples = [plain[0], *soft, plain[1]]
    reference, model = tiny_model(), tiny_model()
    seen = {}
    for name, weight in model.named_parameters():
        weight.register_post_accumulate_grad_hook(lambda w, name=name: seen.update({name: w.grad.clone()}))
    settings = TrainSettings(
        max_steps=1, batch_size=4 // accumulation, accumulation=accumulation, learning_rate=0.0, shuffle=False
    )
    result = train(model, tokenizer, examples, settings, precision=FP32)
    total, count = by_hand(reference, examples)
    (total / count).backward()
    assert result.losses[0] == pytest.approx((total / count).item(), rel=1e-4)
    for name, weight in reference.named_parameters():
        torch.testing.assert_close(seen[name], weight.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_the_score_with_soft_labels_is_the_cross_entropy_by_hand(tiny_model, tokenizer, plain, soft):
    model = tiny_model()
    examples = [soft[0], plain[0], soft[1]]
    score = token_nll(model, examples, tokenizer)
    with torch.no_grad():
        expected = [by_hand(model, [example])[0].item() for example in examples]
    assert score.sums.tolist() == pytest.approx(expected, rel=1e-5)


def test_training_without_soft_labels_is_the_stock_run_bit_for_bit(tiny_model, tokenizer, plain, monkeypatch):
    settings = TrainSettings(max_steps=6, batch_size=2, learning_rate=1e-2)
    weights = []
    for stock in (False, True):
        if stock:
            monkeypatch.delattr("finetune_utils.trainer.CourseTrainer.compute_loss")
        model = tiny_model()
        train(model, tokenizer, plain, settings, precision=FP32)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*weights)


def test_an_ordinary_batch_carries_no_soft_labels(tokenizer, plain):
    assert "soft_labels" not in SupervisedCollator(tokenizer.pad_token_id)(plain)


def test_training_moves_the_probability_to_the_soft_label(tiny_model, tokenizer, soft):
    model = tiny_model()
    train(model, tokenizer, soft, TrainSettings(max_steps=60, batch_size=2, learning_rate=1e-2), precision=FP32)
    tokens = choice_tokens(["Y", "N"], tokenizer)
    for example, p in zip(soft, (0.7, 0.1), strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([example["input_ids"][:-2]])).logits[0, -1]
        shares = logits.softmax(-1)[tokens]
        assert shares.sum() > 0.9
        assert shares[0].item() == pytest.approx(p, abs=0.08)


@pytest.mark.parametrize("precision", [FP32, BF16], ids=lambda p: p.name)
def test_soft_labels_train_an_adapter_in_either_precision(tiny_model, tokenizer, plain, soft, precision):
    model = add_lora(tiny_model(), rank=4, precision=precision)
    with torch.no_grad():
        total, count = by_hand(model, [*soft, *plain])
    settings = TrainSettings(max_steps=3, batch_size=4, learning_rate=3e-2, shuffle=False)
    losses = train(model, tokenizer, [*soft, *plain], settings, precision=precision).losses
    assert losses[0] == pytest.approx((total / count).item(), rel=1e-4 if precision is FP32 else 2e-2)
    assert losses[2] < losses[0]


# --- guards


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"Y": 1.0}, "needs at least 2 answers; found 1"),
        ({"Y": 0.5, "No way": 0.5}, "'No way' is . tokens"),
        ({"Y": 0.5, "N": 0.4}, "must sum to 1"),
        ({"Y": 1.5, "N": -0.5}, "must sum to 1"),
        ({"Y": math.nan, "N": 0.5}, "must sum to 1"),
    ],
)
def test_bad_choices_are_refused(tokenizer, choices, message):
    with pytest.raises(UserError, match=message):
        encode_choice({"question": "Why?"}, choices, tokenizer, "plain")


def test_a_choice_named_twice_is_refused(tokenizer):
    with pytest.raises(UserError, match="'Y' stands there twice"):
        choice_tokens(["Y", "Y"], tokenizer)


@pytest.mark.parametrize(
    ("soft_labels", "message"),
    [
        ([(0, 5, 0.3)], "position 0, where no label"),
        ([(3, 5, 0.3)], "position 3, where no label"),
        ([(1, 21, 0.3)], "the label itself"),
        ([(1, 5, 0.7), (1, 6, 0.7)], "outside 0 to 1"),
        ([(1, 5, -0.1)], "outside 0 to 1"),
    ],
)
def test_bad_soft_labels_are_refused_before_training(tokenizer, soft_labels, message):
    example = {"input_ids": [20, 21, 13], "labels": [-100, 21, 13], "soft_labels": soft_labels}
    with pytest.raises(UserError, match=message):
        SupervisedCollator(tokenizer.pad_token_id)([example])
