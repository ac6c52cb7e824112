"""Which checkpoint counts as complete, and what a failure to read or write one says."""

import json
import types

import pytest

from finetune_utils.checkpoints import last_checkpoint, remove_checkpoints, run_trainer, step_of
from finetune_utils.errors import UserError

FILES = ("optimizer.pt", "scheduler.pt", "trainer_state.json")


def write(folder, step, without=()):
    place = folder / f"checkpoint-{step}"
    place.mkdir(parents=True)
    for name in FILES:
        if name not in without:
            (place / name).write_text("{}")
    return place


class FakeTrainer:
    """Stands in for the Trainer: remembers where it began, fails when told to."""

    def __init__(self, fail=None, step=0):
        self.state = types.SimpleNamespace(global_step=step)
        self.fail, self.began_at = fail, "not at all"

    def train(self, resume_from_checkpoint=None):
        self.began_at = resume_from_checkpoint
        if self.fail:
            raise self.fail


def test_the_newest_checkpoint_is_found_by_number(tmp_path):
    assert last_checkpoint(tmp_path) is None
    assert last_checkpoint(tmp_path / "missing") is None
    for step in (9, 100, 20):
        write(tmp_path, step)
    (tmp_path / "checkpoint-final").mkdir()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-100"
    assert (step_of(tmp_path / "checkpoint-100"), step_of(tmp_path / "checkpoint-final")) == (100, None)


@pytest.mark.parametrize("missing", FILES)
def test_a_checkpoint_that_was_cut_short_is_passed_over(tmp_path, missing):
    good = write(tmp_path, 4)
    write(tmp_path, 8, without=[missing])
    assert last_checkpoint(tmp_path) == good


def test_half_a_state_is_no_state(tmp_path):
    write(tmp_path, 4)
    (write(tmp_path, 8) / "trainer_state.json").write_text('{"global_step": ')
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-4"


def test_training_begins_at_the_last_complete_checkpoint_only_when_asked(tmp_path):
    place = write(tmp_path, 4)
    trainer = FakeTrainer()
    run_trainer(trainer, tmp_path, resume=False)
    assert trainer.began_at is None
    run_trainer(trainer, tmp_path, resume=True)
    assert trainer.began_at == str(place)


def test_without_a_complete_checkpoint_there_is_nothing_to_resume(tmp_path):
    write(tmp_path, 8, without=["optimizer.pt"])
    with pytest.raises(UserError, match="found no complete checkpoint to resume from; start without --resume"):
        run_trainer(FakeTrainer(), tmp_path, resume=True)


@pytest.mark.parametrize(
    "error", [RuntimeError("bad magic number\nmore"), EOFError(), FileNotFoundError(2, "No such file")]
)
def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path, error):
    write(tmp_path, 4)
    words = r"checkpoint-4: found a damaged checkpoint \(.+\); delete this folder and run the same command again"
    with pytest.raises(UserError, match=words) as caught:
        run_trainer(FakeTrainer(error, step=4), tmp_path, resume=True)
    assert "more" not in str(caught.value)


def test_a_fault_in_training_itself_is_not_blamed_on_the_checkpoint(tmp_path):
    write(tmp_path, 4)
    with pytest.raises(ZeroDivisionError):
        run_trainer(FakeTrainer(ZeroDivisionError(), step=5), tmp_path, resume=True)
    with pytest.raises(ZeroDivisionError):
        run_trainer(FakeTrainer(ZeroDivisionError()), tmp_path, resume=False)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
    ],
)
def test_a_full_disk_names_the_way_back(tmp_path, error):
    words = r"cannot be written \(no space left on device\); free some space, then go on .* with --resume"
    with pytest.raises(UserError, match=words):
        run_trainer(FakeTrainer(error, step=5), tmp_path, resume=False)


def test_only_checkpoints_are_removed(tmp_path):
    write(tmp_path, 4)
    (tmp_path / "run.json").write_text(json.dumps({"status": "running"}))
    remove_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
