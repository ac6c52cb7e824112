"""A killed run goes on to exactly the weights of an uninterrupted one; a full disk loses nothing."""

import dataclasses
import errno
import os
import shutil

import pytest
import torch

from finetune_utils import batching, training
from finetune_utils.checkpoints import last_checkpoint, remove_checkpoints
from finetune_utils.errors import UserError
from finetune_utils.hardware import FP32, set_seed
from finetune_utils.lora import add_lora
from finetune_utils.tokenization import tokenize_rows
from finetune_utils.training import TrainSettings, train

WORDS = ["The loss", "is nan", "lower the rate", "one step moves", "the weights", "an adapter holds", "few", "why"]
ROWS = [{"question": f"{WORDS[i % 8]}?", "answer": " ".join(WORDS[: i % 5 + 1])} for i in range(14)]
SETTINGS = TrainSettings(max_steps=7, batch_size=4, learning_rate=3e-3, checkpoint_every=2, seed=5)


class Killed(BaseException):
    """Stands for a process that ends without a chance to tidy up."""


def killer(step):
    def stop(entry):
        if entry["step"] == step:
            raise Killed

    return stop


class Run:
    """The same run again and again: whole, killed at a step, resumed."""

    def __init__(self, tokenizer, tiny_model, folder, kind="full", dropout=0.0):
        self.tokenizer, self.tiny_model, self.folder = tokenizer, tiny_model, folder
        self.kind, self.dropout = kind, dropout
        self.examples = tokenize_rows(ROWS, tokenizer, "plain").examples

    def model(self):
        if self.kind == "lora":
            return add_lora(self.tiny_model(), rank=4, dropout=self.dropout, precision=FP32)
        return self.tiny_model(attention_dropout=self.dropout)

    def go(self, settings=SETTINGS, on_step=None, **options):
        set_seed(int(torch.randint(10_000, ())))  # a new process knows nothing of the old one's random numbers
        model = self.model()
        result = train(model, self.tokenizer, self.examples, settings, precision=FP32, on_step=on_step, **options)
        return result, {name: p.detach().clone() for name, p in model.named_parameters()}

    def resume(self, settings=SETTINGS, on_step=None):
        return self.go(settings, on_step, output=self.folder, resume=True)

    def kill(self, step, settings=SETTINGS):
        """Run until `step` has been computed and leave what a killed process leaves."""
        with pytest.raises(Killed):
            self.go(settings, killer(step), output=self.folder)

    def fail(self, step, act):
        """Do `act` once `step` has been computed; return what the user is told then."""
        with pytest.raises(UserError) as caught:
            self.go(on_step=lambda entry: act() if entry["step"] == step else None, output=self.folder)
        return str(caught.value)

    def checkpoints(self):
        return sorted(path.name for path in self.folder.glob("checkpoint-*"))


@pytest.fixture
def run(tokenizer, tiny_model, tmp_path):
    return Run(tokenizer, tiny_model, tmp_path / "run")


def same(weights, expected):
    return all(torch.equal(weight, expected[name]) for name, weight in weights.items())


# --- going on


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_resumed_run_ends_in_exactly_the_weights_of_an_uninterrupted_one(
    tokenizer, tiny_model, tmp_path, kind, dropout
):
    run = Run(tokenizer, tiny_model, tmp_path / "run", kind, dropout)
    whole, expected = run.go()
    run.kill(step=5)
    assert run.checkpoints() == ["checkpoint-4"]
    resumed, weights = run.resume()
    assert [entry["step"] for entry in resumed.history] == [5, 6, 7]
    assert resumed.losses == whole.losses[4:]
    assert same(weights, expected)
    assert not same(run.model().state_dict(), expected)


def test_a_run_with_accumulation_over_several_epochs_resumes_too(run):
    settings = TrainSettings(epochs=4, batch_size=3, accumulation=2, learning_rate=3e-3, checkpoint_every=3)
    whole, expected = run.go(settings)
    assert whole.steps == 10
    run.kill(step=8, settings=settings)
    resumed, weights = run.resume(settings)
    assert resumed.losses == whole.losses[6:]
    assert same(weights, expected)


def test_a_run_can_be_killed_twice(run):
    _, expected = run.go()
    run.kill(step=3)
    with pytest.raises(Killed):
        run.resume(on_step=killer(6))
    assert run.checkpoints() == ["checkpoint-4"]
    _, weights = run.resume()
    assert same(weights, expected)


def test_a_run_killed_after_its_last_step_only_loads_its_weights(run):
    settings = dataclasses.replace(SETTINGS, checkpoint_every=7)
    _, expected = run.go(settings, output=run.folder, keep_checkpoints=True)
    resumed, weights = run.resume(settings)
    assert (resumed.losses, resumed.steps) == ([], 7)
    assert same(weights, expected)


def test_without_a_number_of_steps_checkpoints_go_by_the_clock(run, monkeypatch):
    by_clock = dataclasses.replace(SETTINGS, checkpoint_every=0)
    run.kill(step=5, settings=by_clock)
    assert run.checkpoints() == []
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    run.kill(step=5, settings=by_clock)
    assert run.checkpoints() == ["checkpoint-4"]


def test_speed_is_that_of_the_part_that_was_run(run):
    run.kill(step=5)
    resumed, _ = run.resume()
    assert resumed.examples_per_second * resumed.seconds == pytest.approx(3 * 4)


# --- tidying up


def test_a_complete_run_leaves_no_checkpoint_and_touches_nothing_else(run):
    run.folder.mkdir()
    (run.folder / "mine.txt").write_text("keep me")
    run.go(output=run.folder)
    assert [path.name for path in run.folder.iterdir()] == ["mine.txt"]


def test_a_caller_may_keep_the_last_checkpoint_until_the_weights_are_safe(run):
    run.go(output=run.folder, keep_checkpoints=True)
    assert run.checkpoints() == ["checkpoint-6"]
    remove_checkpoints(run.folder)
    assert run.checkpoints() == []


# --- checkpoints that were cut short


@pytest.mark.parametrize("missing", ["trainer_state.json", "optimizer.pt", "scheduler.pt"])
def test_a_checkpoint_cut_short_is_passed_over_and_the_one_before_is_taken(run, missing):
    _, expected = run.go()
    run.kill(step=3)
    shutil.copytree(run.folder / "checkpoint-2", run.folder / "checkpoint-6")
    (run.folder / "checkpoint-6" / missing).unlink()
    resumed, weights = run.resume()
    assert resumed.history[0]["step"] == 3
    assert same(weights, expected)


def test_a_cut_checkpoint_with_a_higher_number_does_not_push_out_the_good_ones(run):
    run.kill(step=3)
    cut = run.folder / "checkpoint-100"
    cut.mkdir()
    os.utime(cut, (2e9, 2e9))  # newest by the clock, too
    with pytest.raises(Killed):
        run.resume(on_step=killer(6))
    assert run.checkpoints() == ["checkpoint-4"]
    assert last_checkpoint(run.folder) == run.folder / "checkpoint-4"


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_file_cut_in_half_is_named_with_its_checkpoint_in_one_line(run, name):
    run.kill(step=3)
    path = run.folder / "checkpoint-2" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"checkpoint-2: found a damaged checkpoint \(.*delete this folder"):
        run.resume()


def test_nothing_to_resume_from_is_said(run):
    with pytest.raises(UserError, match=r"run: found no complete checkpoint to resume from; start without --resume"):
        run.resume()


# --- a full disk


def full_disk(monkeypatch):
    """From here on torch can write half of a file and no more."""

    def save(content, path, *_, **__):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", save)


def test_a_disk_that_fills_up_is_told_in_one_line_and_the_last_checkpoint_still_serves(run, monkeypatch):
    _, expected = run.go()
    with monkeypatch.context() as patch:
        message = run.fail(step=4, act=lambda: full_disk(patch))
    assert message.startswith(f"{run.folder}: ")
    assert "no space left on device" in message
    assert "--resume" in message
    resumed, weights = run.resume()
    assert resumed.history[0]["step"] == 3
    assert same(weights, expected)


def test_the_same_with_the_systems_own_limit_which_safetensors_meets_first(run):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        message = run.fail(step=4, act=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1])))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot be written" in message
    assert last_checkpoint(run.folder) == run.folder / "checkpoint-2"


def test_a_bug_is_taken_neither_for_a_full_disk_nor_for_a_damaged_checkpoint(run):
    def bug(entry):
        raise ZeroDivisionError

    run.kill(step=3)
    with pytest.raises(ZeroDivisionError):
        run.resume(on_step=bug)


def test_memory_that_runs_out_is_not_taken_for_a_damaged_checkpoint(run, monkeypatch):
    run.kill(step=3)

    def no_memory(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(batching.SupervisedCollator, "__call__", no_memory)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        run.resume()
    assert run.checkpoints() == ["checkpoint-2"]
