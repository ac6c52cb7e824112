"""One label a row: the loss by hand, steps that do not depend on how a batch is cut, and nothing else disturbed."""

import math

import pytest
import torch

from finetune_utils.class_labels import class_example, class_losses, class_targets, is_classifier
from finetune_utils.classification import encode_posts, load_classifier
from finetune_utils.errors import UserError
from finetune_utils.hardware import FP32
from finetune_utils.lora import add_lora
from finetune_utils.nll import token_nll
from finetune_utils.tokenization import IGNORE, tokenize_rows
from finetune_utils.training import TrainSettings, train

POSTS = [
    {"text": "What is a learning rate?", "label": "neutral"},
    {"text": "The loss prints nan after a while. The learning rate is too high; lower it.", "label": "negative"},
    {"text": "An adapter!", "label": "positive"},
    {"text": "You are a helpful assistant.", "label": "positive"},
]
QUIET = {"say": lambda message: None}


@pytest.fixture
def classifier(tiny_model, tokenizer, tmp_path_factory):
    """Build the same classifier again and again from a small model on disk."""
    folder = tmp_path_factory.mktemp("models") / "decoder"
    tiny_model(tie_word_embeddings=True).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return lambda **options: load_classifier(str(folder), **options, **QUIET)


def by_hand(model, examples):
    """-log P(class) of each row, read off at the last token, one row at a time."""
    losses = []
    for example in examples:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([example["input_ids"]])).logits[0]
        losses.append(-logits.log_softmax(-1)[example["labels"][-1]].item())
    return losses


def test_the_label_stands_at_the_last_token_and_nowhere_else():
    assert class_example([5, 6, 7], 2, classes=3) == {"input_ids": [5, 6, 7], "labels": [IGNORE, IGNORE, 2]}


@pytest.mark.parametrize(
    ("ids", "label", "told"), [([5], 0, "2 tokens; found 1"), ([5, 6], 3, "class 3"), ([5, 6], -1, "class -1")]
)
def test_a_text_or_class_that_cannot_be_is_refused(ids, label, told):
    with pytest.raises(UserError, match=told):
        class_example(ids, label, classes=3)


def test_targets_are_found_wherever_padding_left_them_and_missing_ones_stay_missing():
    labels = torch.tensor([[IGNORE, 2, IGNORE, IGNORE], [IGNORE, IGNORE, IGNORE, 0], [IGNORE] * 4])
    assert class_targets(labels).tolist() == [2, 0, IGNORE]
    losses = class_losses(torch.tensor([[0.0, 0.0, math.log(2)], [1.0, 1.0, 1.0], [9.0, 0.0, 0.0]]), labels)
    assert losses.tolist() == pytest.approx([math.log(2), math.log(3), 0.0])


def test_examples_of_a_language_model_are_refused(classifier, tokenizer):
    model, _ = classifier()
    rows = tokenize_rows([{"question": "Why?", "answer": "An adapter."}], tokenizer, "plain").examples
    for use in (lambda: token_nll(model, rows, tokenizer), lambda: train(model, tokenizer, rows, precision=FP32)):
        with pytest.raises(UserError, match="several labels"):
            use()


def test_only_models_with_a_classification_head_are_classifiers(classifier, tiny_model):
    assert is_classifier(classifier()[0])
    assert is_classifier(add_lora(classifier()[0], rank=2, precision=FP32))
    assert not is_classifier(tiny_model())
    assert not is_classifier(add_lora(tiny_model(), rank=2, precision=FP32))


def test_the_score_of_a_set_is_the_loss_of_each_row_by_hand(classifier, tokenizer):
    model, _ = classifier()
    examples = encode_posts(POSTS, tokenizer)
    found = token_nll(model, examples, tokenizer, batch_tokens=40)
    assert found.sums == pytest.approx(by_hand(model, examples), abs=1e-5)
    assert found.counts.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
def test_the_first_loss_of_a_run_is_the_mean_by_hand(classifier, tokenizer, adapter):
    model, _ = classifier()
    examples = encode_posts(POSTS, tokenizer)
    wanted = sum(by_hand(model, examples)) / len(examples)
    model = add_lora(model, rank=2, precision=FP32) if adapter else model
    result = train(model, tokenizer, examples, TrainSettings(max_steps=1, batch_size=4), precision=FP32)
    assert result.losses[0] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("cut", [(4, 1), (2, 2), (3, 2)], ids=["whole", "halves", "unequal"])
def test_accumulation_gives_the_step_of_the_whole_batch(classifier, tokenizer, cut):
    """3 + 1 rows: the mean of means would count the lone row three times."""
    examples = encode_posts(POSTS, tokenizer)
    runs = []
    for batch, accumulation in ((4, 1), cut):
        model, _ = classifier()
        settings = TrainSettings(
            epochs=1, batch_size=batch, accumulation=accumulation, shuffle=False, warmup=0, learning_rate=1e-2
        )
        result = train(model, tokenizer, examples, settings, precision=FP32)
        runs.append((result.losses, model.score.weight.detach()))
    assert runs[1][0] == pytest.approx(runs[0][0], rel=1e-5)
    assert torch.allclose(runs[0][1], runs[1][1], atol=1e-6)


def test_training_lowers_the_loss_and_early_stopping_watches_the_dev_posts(classifier, tokenizer):
    model, _ = classifier()
    examples = encode_posts(POSTS, tokenizer)
    before = token_nll(model, examples, tokenizer).mean
    settings = TrainSettings(epochs=10, batch_size=2, learning_rate=5e-3, evaluate_every=4)
    result = train(model, tokenizer, examples, settings, eval_examples=examples, precision=FP32)
    seen = [entry["eval_nll"] for entry in result.history if "eval_nll" in entry]
    assert token_nll(model, examples, tokenizer).mean < 0.5 * before
    assert len(seen) == 5
    assert seen[-1] == pytest.approx(token_nll(model, examples, tokenizer).mean, abs=1e-5)


def test_an_adapter_trains_the_head_too_and_both_come_back_from_disk(classifier, tokenizer, tmp_path):
    from peft import PeftModel

    model, _ = classifier()
    frozen = model.score.weight.detach().clone()
    model = add_lora(model, rank=2)
    examples = encode_posts(POSTS, tokenizer)
    train(model, tokenizer, examples, TrainSettings(epochs=4, batch_size=2, learning_rate=1e-2))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert any("score" in name for name in trained)
    assert all("score" in name or "lora_" in name for name in trained)
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    model.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(classifier()[0], str(tmp_path / "adapter")).eval()
    head = again.base_model.model.score.modules_to_save["default"].weight
    assert not torch.allclose(head, frozen.float())
    assert torch.equal(head, model.base_model.model.score.modules_to_save["default"].weight)
