"""Training: the losses of a loop written by hand, repeatable, stopped in time, with nothing left behind."""

import copy
import dataclasses
import math

import pytest
import torch
from transformers import get_scheduler

from finetune_utils import batching, training
from finetune_utils.batching import example_order
from finetune_utils.errors import UserError
from finetune_utils.hardware import FP32, Precision, set_seed
from finetune_utils.lora import add_lora
from finetune_utils.tokenization import tokenize_rows
from finetune_utils.training import TrainSettings, default_learning_rate, train

BF16 = Precision(torch.bfloat16, "bf16", "a test")
WORDS = ["The loss", "is nan", "lower the rate", "one step moves", "the weights", "an adapter holds", "few", "why"]
# Questions, and plain texts, whose very first token is supervised but cannot be predicted.
ROWS = [{"question": f"{WORDS[i % 8]}?", "answer": " ".join(WORDS[: i % 5 + 1])} for i in range(12)]
ROWS += [{"text": " ".join(WORDS[i : i + 4])} for i in range(4)]


@pytest.fixture
def examples(tokenizer):
    return tokenize_rows(ROWS, tokenizer, "plain").examples


@pytest.fixture
def build(tiny_model):
    """Build the model to train: all weights, or an adapter on frozen ones."""

    def make(kind="full", **changes):
        model = tiny_model(**changes)
        return add_lora(model, rank=4, precision=FP32) if kind == "lora" else model

    return make


def trainable(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


# --- the loss


@pytest.mark.parametrize(("kind", "rate"), [("full", 5e-3), ("lora", 3e-2)])
def test_the_loss_falls(build, tokenizer, examples, kind, rate):
    settings = TrainSettings(epochs=8, batch_size=4, learning_rate=rate)
    losses = train(build(kind), tokenizer, examples, settings, precision=FP32).losses
    assert len(losses) == 32
    assert sum(losses[-4:]) < 0.6 * sum(losses[:4])


def loop_by_hand(model, examples, settings, steps):
    """The plain loop: one row at a time, no padding; the gradient of the mean NLL over all trained tokens of a step."""
    size = settings.batch_size * settings.accumulation
    order = example_order([len(e["input_ids"]) for e in examples], settings.batch_size, settings.accumulation,
                          max_steps=steps, seed=settings.seed)  # fmt: skip
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.0)
    schedule = get_scheduler("cosine", optimizer, round(settings.warmup * steps), steps)
    losses = []
    model.train()
    for step in range(steps):
        rows = [examples[i] for i in order[step * size : (step + 1) * size]]
        parts, count = [], 0
        for row in rows:
            labels = torch.tensor(row["labels"][1:])
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
            parts.append(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
            count += int((labels != -100).sum())
        loss = sum(parts) / count
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("kind", "accumulation", "plain_path"),
    [("full", 1, False), ("lora", 1, False), ("full", 2, False), ("full", 2, True)],
)
def test_the_losses_are_those_of_a_plain_loop_written_by_hand(
    build, tokenizer, examples, monkeypatch, kind, accumulation, plain_path
):
    if plain_path:
        monkeypatch.setattr(batching, "can_skip_logits", lambda: False)
    settings = TrainSettings(
        max_steps=10, batch_size=4, accumulation=accumulation, learning_rate=3e-3, warmup=0.3, seed=8
    )
    expected = loop_by_hand(build(kind), examples, settings, 10)
    got = train(build(kind), tokenizer, examples, settings, precision=FP32).losses
    assert got == pytest.approx(expected, abs=1e-4)


def test_two_batches_of_4_make_the_step_of_one_batch_of_8(build, tokenizer, examples):
    one = TrainSettings(max_steps=6, batch_size=8, learning_rate=3e-3, group_by_length=False)
    two = dataclasses.replace(one, batch_size=4, accumulation=2)
    first, second = (train(build(), tokenizer, examples, s, precision=FP32).losses for s in (one, two))
    assert first == pytest.approx(second, abs=1e-5)


def test_a_loss_of_nan_is_seen(build, tokenizer, examples):
    model = build()
    torch.nn.init.constant_(model.lm_head.weight, math.nan)
    heard = []
    settings = TrainSettings(max_steps=2)
    result = train(model, tokenizer, examples, settings, precision=FP32, on_step=heard.append)
    assert [math.isnan(loss) for loss in result.losses] == [True, True]
    assert [math.isnan(entry["loss"]) for entry in heard] == [True, True]


# --- repeating a run


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_the_same_seed_gives_identical_losses_and_weights_and_another_seed_does_not(build, tokenizer, examples, kind):
    settings = TrainSettings(max_steps=5, batch_size=4, learning_rate=3e-3)
    runs = []
    for seed in (3, 3, 4):
        set_seed(seed * 1000 + len(runs))  # what happened before must not matter
        model = build(kind)
        result = train(model, tokenizer, examples, dataclasses.replace(settings, seed=seed), precision=FP32)
        runs.append((result.losses, trainable(model)))
    (first, first_weights), (again, again_weights), (other, _) = runs
    assert first == again
    assert all(torch.equal(w, again_weights[name]) for name, w in first_weights.items())
    assert all(a != b for a, b in zip(first[1:], other[1:], strict=True))


def test_dropout_follows_the_seed(build, tokenizer, examples):
    settings = TrainSettings(max_steps=3, batch_size=4, learning_rate=3e-3)
    losses = [
        train(build(attention_dropout=rate), tokenizer, examples, settings, precision=FP32).losses
        for rate in (0.3, 0.3, 0)
    ]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


# --- how long it goes on


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        (TrainSettings(epochs=1, batch_size=8), 2),
        (TrainSettings(epochs=1, batch_size=5), 4),
        (TrainSettings(epochs=0.5, batch_size=4), 2),
        (TrainSettings(epochs=2.25, batch_size=4, accumulation=3), 3),
        (TrainSettings(epochs=1, batch_size=8, max_steps=5), 5),
        (TrainSettings(epochs=0, batch_size=8, max_steps=1), 1),
    ],
)
def test_steps_follow_from_epochs_unless_they_are_given(build, tokenizer, examples, settings, steps):
    result = train(build(), tokenizer, examples, settings, precision=FP32)
    assert result.steps == len(result.losses) == steps
    assert [entry["step"] for entry in result.history] == list(range(1, steps + 1))
    assert result.history[-1]["epoch"] == pytest.approx(steps * settings.batch_size * settings.accumulation / 16)


def test_every_example_is_trained_once_an_epoch(build, tokenizer, examples, monkeypatch):
    seen = []

    class Spy(batching.SupervisedCollator):
        def __call__(self, batch):
            seen.extend(tuple(e["input_ids"]) for e in batch)
            return super().__call__(batch)

    monkeypatch.setattr(batching, "SupervisedCollator", Spy)
    train(build(), tokenizer, examples, TrainSettings(epochs=1, batch_size=5), precision=FP32)
    assert sorted(seen) == sorted(tuple(e["input_ids"]) for e in examples)


class FakeScore:
    """Stands in for `token_nll`: gives the scores it is told to, and remembers the weights at each."""

    def __init__(self, values):
        self.values, self.weights = list(values), []

    def __call__(self, model, *_):
        model.eval()
        self.weights.append(trainable(model))
        self.mean = self.values[len(self.weights) - 1]
        return self


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_run_that_stops_improving_is_stopped_and_goes_back_to_its_best_weights(
    build, tokenizer, examples, monkeypatch, kind
):
    score = FakeScore([3.0, 2.0, 2.4, 1.9, 2.6, 1.95, 1.7])
    monkeypatch.setattr(training, "token_nll", score)
    settings = TrainSettings(max_steps=40, batch_size=4, learning_rate=3e-3, evaluate_every=2, patience=2)
    model = build(kind)
    result = train(model, tokenizer, examples, settings, eval_examples=examples[:2], precision=FP32)
    assert (result.stopped_early, result.steps, result.best_step) == (True, 12, 8)
    assert [(e["step"], e["eval_nll"]) for e in result.history if "eval_nll" in e] == [
        (2, 3.0), (4, 2.0), (6, 2.4), (8, 1.9), (10, 2.6), (12, 1.95),
    ]  # fmt: skip
    assert len(result.losses) == 12
    kept, best, last = trainable(model), score.weights[3], score.weights[5]
    assert all(torch.equal(w, best[name]) for name, w in kept.items())
    assert any(not torch.equal(w, last[name]) for name, w in kept.items())


def test_without_patience_the_last_weights_stay(build, tokenizer, examples, monkeypatch):
    score = FakeScore([3.0, 2.0, 2.4])
    monkeypatch.setattr(training, "token_nll", score)
    settings = TrainSettings(max_steps=6, batch_size=4, learning_rate=3e-3, evaluate_every=2)
    model = build()
    result = train(model, tokenizer, examples, settings, eval_examples=examples[:2], precision=FP32)
    assert (result.stopped_early, result.steps, result.best_step) == (False, 6, 4)
    assert all(torch.equal(w, score.weights[2][name]) for name, w in trainable(model).items())


def test_scores_are_those_of_token_nll_and_do_not_disturb_the_training(build, tokenizer, examples):
    settings = TrainSettings(max_steps=6, batch_size=4, learning_rate=3e-3, evaluate_every=3)
    model = build(attention_dropout=0.3)
    result = train(model, tokenizer, examples, settings, eval_examples=examples[:5], precision=FP32)
    silent = dataclasses.replace(settings, evaluate_every=0)
    alone = train(build(attention_dropout=0.3), tokenizer, examples, silent, precision=FP32)
    assert result.losses == alone.losses
    final = training.token_nll(model, examples[:5], tokenizer).mean
    assert result.history[-1]["eval_nll"] == pytest.approx(final, rel=1e-6)


def test_without_a_rhythm_the_held_out_rows_are_scored_once_at_the_end(build, tokenizer, examples):
    result = train(build(), tokenizer, examples, TrainSettings(max_steps=3), eval_examples=examples[:5], precision=FP32)
    assert ["eval_nll" in entry for entry in result.history] == [False, False, True]


# --- what is told


def test_every_step_is_told_with_its_loss_rate_and_time(build, tokenizer, examples):
    heard = []
    settings = TrainSettings(max_steps=10, batch_size=4, learning_rate=4e-3, warmup=0.2, schedule="linear")
    result = train(build(), tokenizer, examples, settings, precision=FP32, on_step=heard.append)
    assert heard == result.history
    rates = [entry["learning_rate"] for entry in heard]
    assert max(rates) == pytest.approx(4e-3)
    assert rates[0] < 4e-3
    assert rates[3:] == sorted(rates[3:], reverse=True)
    times = [entry["seconds"] for entry in heard]
    assert times == sorted(times)
    assert all(entry["grad_norm"] > 0 for entry in heard)


def test_the_result_says_how_fast_it_went_and_with_what(build, tokenizer, examples):
    result = train(build("lora"), tokenizer, examples, TrainSettings(max_steps=3, batch_size=4), precision=FP32)
    assert result.examples_per_second * result.seconds == pytest.approx(12)
    assert result.tokens_per_second > result.examples_per_second
    assert result.peak_memory_bytes > 50_000_000
    assert result.settings["precision"] == "fp32"
    assert result.settings["learning_rate"] == default_learning_rate(full=False)
    assert result.settings["max_steps"] == 3


@pytest.mark.parametrize(("kind", "full"), [("full", True), ("lora", False)])
def test_the_default_rate_fits_the_kind_of_training(build, tokenizer, examples, kind, full):
    result = train(build(kind), tokenizer, examples, TrainSettings(max_steps=1, warmup=0), precision=FP32)
    assert result.history[0]["learning_rate"] == default_learning_rate(full)
    assert default_learning_rate(full=False) > default_learning_rate(full=True)


# --- what it leaves


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_the_model_is_ready_to_answer_and_as_it_was_otherwise(build, tokenizer, examples, kind):
    model = build(kind)
    attention = model.config._attn_implementation
    train(model, tokenizer, examples, TrainSettings(max_steps=1), precision=FP32)
    assert not model.training
    assert model.config._attn_implementation == attention == "sdpa"
    assert all("forward" not in vars(layer) for layer in model.modules())


def test_an_interrupted_run_puts_the_attention_back(build, tokenizer, examples):
    model = build()

    def interrupt(entry):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, tokenizer, examples, TrainSettings(max_steps=3), precision=FP32, on_step=interrupt)
    assert model.config._attn_implementation == "sdpa"


def test_training_without_an_output_folder_writes_nothing_that_stays(build, tokenizer, examples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training.tempfile, "tempdir", str(tmp_path))
    train(build(), tokenizer, examples, TrainSettings(max_steps=2, checkpoint_every=1), precision=FP32)
    assert list(tmp_path.iterdir()) == []


# --- guards


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0: it must be at least 1"),
        ({"accumulation": -2}, "accumulation is -2: it must be at least 1"),
        ({"epochs": 0.0}, r"epochs is 0.0: it must be above 0 \(or give max_steps\)"),
        ({"epochs": -1.0, "max_steps": 0}, "epochs is -1.0"),
        ({"epochs": math.inf}, "epochs is inf"),
        ({"seed": -1}, "seed is -1: it must be a whole number from 0"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"learning_rate": -1e-4}, "learning_rate is -0.0001: it must lie between 0 and 1"),
        ({"learning_rate": 2.0}, "learning_rate is 2.0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(change, message):
    with pytest.raises(UserError, match=message):
        TrainSettings(**change)


def test_a_learning_rate_of_0_is_allowed_and_changes_nothing(build, tokenizer, examples):
    model = build()
    before = trainable(model)
    train(model, tokenizer, examples, TrainSettings(max_steps=2, learning_rate=0.0), precision=FP32)
    assert all(torch.equal(w, before[name]) for name, w in trainable(model).items())


def test_examples_that_cannot_teach_are_refused_before_anything_changes(build, tokenizer, examples):
    model = build()
    before = trainable(model)
    endless = [{name: values[:-1] for name, values in e.items()} for e in examples]
    with pytest.raises(UserError, match="would never learn to stop"):
        train(model, tokenizer, endless, precision=FP32)
    with pytest.raises(UserError, match="no examples to train on"):
        train(model, tokenizer, [], precision=FP32)
    assert all(torch.equal(w, before[name]) for name, w in trainable(model).items())


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_the_model_computes_in_its_own_precision_after_a_run_in_16_bits(build, tokenizer, examples, kind):
    model = build(kind)
    settings = TrainSettings(max_steps=2, batch_size=4, learning_rate=1e-3)
    train(model, tokenizer, examples, settings, precision=BF16)
    assert "forward" not in vars(model)
    ids = torch.tensor([examples[0]["input_ids"]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits
        exact = copy.deepcopy(model).double()(input_ids=ids).logits
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = model(input_ids=ids).logits
    assert (logits - exact).abs().max() < 1e-4 < (rounded - exact).abs().max()


def test_an_interrupted_run_leaves_the_forward_pass_alone_too(build, tokenizer, examples):
    def stop(entry):
        raise KeyboardInterrupt

    model = build()
    with pytest.raises(KeyboardInterrupt):
        train(model, tokenizer, examples, TrainSettings(max_steps=2), precision=BF16, on_step=stop)
    assert "forward" not in vars(model)
