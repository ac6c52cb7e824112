"""`finetune()`: the split, what is said and kept, and runs that end in the same weights however often they were stopped."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest
import torch
import transformers
from safetensors.torch import load_file

from finetune_utils import quickstart, training
from finetune_utils.data import check_no_overlap, read_rows
from finetune_utils.errors import UserError
from finetune_utils.quickstart import finetune
from finetune_utils.run_record import answer_of, read_record

STEPS = 5


@pytest.fixture
def tune(model_dir, rows, save, monkeypatch):
    """`finetune()` with small settings in float32; what it says is in `tune.told`."""
    monkeypatch.setenv("FINETUNE_PRECISION", "fp32")

    def call(data=None, **options):
        call.told = []
        sizes = {"max_steps": 2, "batch_size": 2, "learning_rate": 5e-3}
        return finetune(data or save(rows), str(model_dir), say=call.told.append, **(sizes | options))

    return call


def weights_in(folder):
    return load_file(next(folder.glob("*.safetensors")))


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_three_lines_give_an_object_that_answers_and_can_be_saved(tune, tmp_path):
    tuned = tune()
    assert tuned.evaluate()["nll_after"] != tuned.evaluate()["nll_before"]
    assert isinstance(tuned.answer("What is a token?", max_new_tokens=3), str)
    assert len(tuned.answer(["What is a token?", "Why?"], max_new_tokens=3)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]  # in memory until saved
    folder = tuned.save(tmp_path / "a" / "b")
    assert read_record(folder).status == "complete"
    assert read_record(folder).results == tuned.evaluate()
    assert len(read_rows(folder / "test.jsonl")) == tuned.evaluate()["test_rows"]


def test_the_same_seed_gives_identical_losses_and_weights_and_another_seed_does_not(tune, tmp_path):
    runs = {name: tune(seed=seed) for name, seed in {"one": 3, "two": 3, "three": 4}.items()}
    assert runs["one"].training.losses == runs["two"].training.losses != runs["three"].training.losses
    assert runs["one"].evaluate() | {"seconds": 0} == runs["two"].evaluate() | {"seconds": 0}
    saved = {name: weights_in(run.save(tmp_path / name)) for name, run in runs.items()}
    assert_same(saved["one"], saved["two"])
    assert not all(torch.equal(saved["one"][name], saved["three"][name]) for name in saved["one"])


def test_the_untuned_model_in_its_folder_is_left_alone(tune, model_dir):
    before = {path.name: path.read_bytes() for path in model_dir.iterdir()}
    tune(full=True)
    assert {path.name: path.read_bytes() for path in model_dir.iterdir()} == before


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("test_size", "kept"), [(0.1, 2), (0.25, 2), (0.5, 4), (0.99, 7)])
def test_rows_with_an_equal_answer_stay_on_one_side(seed, test_size, kept, tmp_path):
    rows = [{"question": f"q{n}", "answer": f"Answer {n % 8}" if n < 12 else f" ANSWER  {n % 8}"} for n in range(24)]
    parts = quickstart._split(rows, test_size, seed, tmp_path)
    check_no_overlap(parts, answer_of)
    assert len({answer_of(row) for row in parts["test"]}) == kept
    assert len(parts["train"]) + len(parts["test"]) == 24
    assert len(parts["train"]) == 3 * (8 - kept)


def test_without_a_test_all_rows_are_trained(tune, tmp_path):
    tuned = tune(test_size=0, output=tmp_path / "out")
    assert (len(tuned.record.train_rows), tuned.test_rows, tuned.examples) == (12, [], [])
    assert "nll_before" not in tuned.evaluate()
    assert not (tmp_path / "out" / "test.jsonl").exists()


def test_what_is_recognized_left_out_and_trained_is_said(tune, rows, save):
    copies = [{"question": rows[0]["question"].upper(), "answer": rows[0]["answer"]}, rows[1], rows[1]]
    tune(save(rows + copies))
    assert tune.told[0] == "Recognized 15 rows of question/answer (from columns question, answer)."
    assert tune.told[1] == "Left out 3 exact copies of other rows."
    tune(save([*rows, rows[0]]))
    assert tune.told[1] == "Left out 1 exact copy of other rows."
    tune(save([{"text": row["answer"]} for row in rows[::2]]))
    assert "Trained on 100% of the tokens." in tune.told


def test_answers_that_were_cut_are_counted(tune):
    tune(max_length=60)
    notes = [line for line in tune.told if line.startswith("Note: ")]
    assert notes
    assert "Raise --max-length to keep them." in notes[0]


def test_examples_show_different_answers_from_all_over_the_test_rows():
    rows = [{"question": f"q{n}", "answer": f"Answer {n // 5}"} for n in range(60)]
    shown = quickstart._rows_to_show(rows)
    assert [row["question"] for row in shown] == ["q0", "q20", "q40"]
    assert quickstart._rows_to_show([{"text": "no question"}] * 3) == []
    assert len(quickstart._rows_to_show(rows[:7])) == 2


def test_each_example_carries_its_own_reference(tune, rows):
    tuned = tune(test_size=0.5)
    pairs = {(row["question"], row["answer"]) for row in rows}
    assert len(tuned.examples) == 3
    assert {(example["question"], example["reference"]) for example in tuned.examples} <= pairs
    assert len({example["reference"] for example in tuned.examples}) == 3
    assert all({"before", "after"} <= example.keys() for example in tuned.examples)


def test_a_file_of_its_own_name_in_the_python_api_gets_the_same_line(tune, tmp_path):
    with pytest.raises(UserError, match=r"nothing.jsonl: found no such file"):
        tune(tmp_path / "nothing.jsonl")
    with pytest.raises(UserError, match="max_length is 0"):
        tune(max_length=0)
    with pytest.raises(UserError, match="batch_size is 0"):
        tune(batch_size=0)


def test_a_saved_model_cannot_be_put_where_a_file_is(tune, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"file: found that it cannot be written \(file exists\)"):
        tune().save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


class Stop(BaseException):
    """An end that nothing in the package may catch, like a kill."""


@contextlib.contextmanager
def stopped_after(step, monkeypatch):
    """Inside, a run writes a checkpoint every step and dies right after the one of `step`."""
    plain = transformers.Trainer._save_checkpoint

    def saving(self, *args, **options):
        plain(self, *args, **options)
        if self.state.global_step >= step:
            raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):  # noqa: PT012
        patch.setattr(training, "CHECKPOINT_SECONDS", 0)
        patch.setattr(transformers.Trainer, "_save_checkpoint", saving)
        yield


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("checkpoint-*"))


@pytest.mark.parametrize("full", [False, True], ids=["LoRA", "all weights"])
def test_a_run_that_was_stopped_twice_ends_in_the_same_weights(tune, tmp_path, monkeypatch, full):
    whole = tune(output=tmp_path / "whole", max_steps=STEPS, full=full)
    for step, resume in ((2, False), (3, True)):
        with stopped_after(step, monkeypatch):
            tune(output=tmp_path / "parts", max_steps=STEPS, full=full, resume=resume)
        assert checkpoints(tmp_path / "parts") == [f"checkpoint-{step}"]
        assert read_record(tmp_path / "parts").status == "running"
    # A checkpoint that the next kill cut short is passed over.
    (tmp_path / "parts" / "checkpoint-4").mkdir()
    (tmp_path / "parts" / "checkpoint-4" / "adapter_model.safetensors").write_bytes(b"half")
    rest = tune(output=tmp_path / "parts", max_steps=STEPS, full=full, resume=True)
    assert_same(weights_in(tmp_path / "whole"), weights_in(tmp_path / "parts"))
    assert rest.training.losses == whole.training.losses[3:]
    assert rest.evaluate() | {"seconds": 0} == whole.evaluate() | {"seconds": 0}
    assert checkpoints(tmp_path / "parts") == []
    names = [{path.name for path in (tmp_path / name).iterdir()} for name in ("whole", "parts")]
    assert names[0] == names[1]


def test_a_run_that_was_killed_goes_on_to_the_same_weights(tmp_path, model_dir, rows, save, run, monkeypatch):
    """A real process, a real SIGKILL right after the third checkpoint, then --resume here."""
    monkeypatch.setenv("FINETUNE_PRECISION", "fp32")
    words = ["finetune", save(rows), "--model", model_dir, "--max-steps", STEPS, "--batch-size", 2, "--output"]
    words = [str(word) for word in words]
    program = (
        "import os, signal, transformers\n"
        "save = transformers.Trainer._save_checkpoint\n"
        "def saving(self, *args, **options):\n"
        "    save(self, *args, **options)\n"
        "    if self.state.global_step == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "transformers.Trainer._save_checkpoint = saving\n"
        "from finetune_utils.__main__ import main\n"
        "main()\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", program, *words, str(tmp_path / "killed")],
        env={**os.environ, "FINETUNE_CHECKPOINT_SECONDS": "0.0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert checkpoints(tmp_path / "killed") == ["checkpoint-3"]

    done = run(*words, tmp_path / "killed")
    assert (done.code, "already holds an interrupted run" in done.err) == (2, True)
    assert run(*words, tmp_path / "killed", "--resume").code == 0
    assert run(*words, tmp_path / "whole").code == 0
    assert_same(weights_in(tmp_path / "whole"), weights_in(tmp_path / "killed"))


def test_a_full_disk_at_the_end_loses_no_training(tune, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    folder = tmp_path / "out"

    def full(self, folder):
        raise UserError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(quickstart.FineTuned, "save", full)
        with pytest.raises(UserError):
            tune(output=folder)
    assert checkpoints(folder) == ["checkpoint-2"]
    tune(output=folder, resume=True)
    assert "The interrupted run had already trained all its steps." in tune.told
    assert read_record(folder).status == "complete"
    whole = tune(output=tmp_path / "whole")
    assert_same(weights_in(folder), weights_in(tmp_path / "whole"))
    assert read_record(folder).results["nll_after"] == whole.evaluate()["nll_after"]


def test_a_failed_save_without_a_checkpoint_leaves_nothing(tune, tmp_path, monkeypatch):
    def full(self, folder):
        (folder / "adapter_model.safetensors").write_bytes(b"half")
        raise UserError("the disk is full")

    monkeypatch.setattr(quickstart.FineTuned, "save", full)
    with pytest.raises(UserError):
        tune(output=tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()


def test_speed_after_resuming_counts_only_what_was_trained_now(tune, tmp_path, monkeypatch):
    with stopped_after(3, monkeypatch):
        tune(output=tmp_path / "out", max_steps=4)
    result = tune(output=tmp_path / "out", max_steps=4, resume=True).training
    assert result.steps == 4
    assert result.examples_per_second == pytest.approx(2 / result.seconds)  # one step of two rows
