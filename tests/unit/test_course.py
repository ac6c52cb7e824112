"""What lessons call: start, check_run, show_table."""

import dataclasses
import math
import random

import numpy as np
import pytest
import torch

from finetune_utils import course, hardware
from finetune_utils.errors import UserError
from finetune_utils.profiles import PROFILES
from finetune_utils.results import read_json, results_path, save_ranges

CPU = {
    "device": "cpu",
    "device_name": "x86_64",
    "cpu_capability": "AVX2",
    "precision": "bf16",
    "precision_reason": "a sentinel reason",
}
SLOW = {**CPU, "precision": "fp32"}


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "describe", lambda: CPU)
    monkeypatch.delenv("FINETUNE_UNDER_RUN", raising=False)
    monkeypatch.delenv("FINETUNE_MODEL", raising=False)
    monkeypatch.setenv("FINETUNE_RESULTS", str(tmp_path / "results"))


def recorded(tmp_path):
    return read_json(tmp_path / "results" / "cpu.json")["lessons"]


def test_start_says_where_it_runs_and_fixes_the_seed(capsys):
    draws = []
    for _ in range(2):
        assert course.start("smoke") == PROFILES["smoke"]
        draws.append((random.random(), float(np.random.rand()), float(torch.rand(1))))
    assert draws[0] == draws[1]
    told = capsys.readouterr().out
    assert "Device: cpu (x86_64). Precision: bf16, because a sentinel reason." in told
    assert f"up to {PROFILES['smoke'].train_rows:,} training rows" in told
    assert "GPU" not in told
    assert "cut" not in told


def test_a_cpu_without_bfloat16_gets_fewer_rows_and_is_told_so(capsys, monkeypatch):
    full = PROFILES["cpu"]
    assert course.start("cpu") == full
    monkeypatch.setattr(hardware, "describe", lambda: SLOW)
    capsys.readouterr()
    small = course.start("cpu")
    assert small.shrunk
    assert (small.train_rows, small.eval_rows, small.generate_rows) == (400, 120, 32)
    assert small.train_rows < full.train_rows
    told = capsys.readouterr().out
    assert "up to 400 training rows" in told
    assert "Row counts are cut" in told
    monkeypatch.setattr(hardware, "describe", lambda: {**SLOW, "device": "cuda", "device_name": "Tesla T4"})
    assert course.start("gpu") == PROFILES["gpu"]


@pytest.mark.usefixtures("ranges")
def test_a_cpu_without_bfloat16_is_compared_with_runs_of_its_own_size(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(hardware, "describe", lambda: SLOW)
    monkeypatch.setenv("FINETUNE_UNDER_RUN", "1")
    for profile in ("cpu", course.start("cpu")):  # a lesson may give the name or the profile
        course.check_run("lesson04", profile, tmp_path, nll=99.0)  # the range of the full size is 2.25 to 2.5
        assert "no reference yet" in capsys.readouterr().out
    save_ranges("cpu-fp32", "lesson04", {"nll": (98.0, 98.5)}, tmp_path)
    for profile in ("cpu", course.start("cpu")):
        with pytest.raises(AssertionError, match="nll is 99, expected 98 to 98.5"):
            course.check_run("lesson04", profile, tmp_path, nll=99.0)
        course.check_run("lesson04", profile, tmp_path, nll=98.25)
    assert recorded(tmp_path)["lesson04"]["checks"] == {"passed": 1, "total": 1}


@pytest.mark.usefixtures("ranges")
@pytest.mark.parametrize(("name", "value"), [("FINETUNE_SEED", "1"), ("FINETUNE_REPEAT", "amd-zen4")])
def test_a_repeat_is_shown_and_may_leave_the_range(tmp_path, capsys, monkeypatch, name, value):
    monkeypatch.setenv("FINETUNE_UNDER_RUN", "1")
    monkeypatch.setenv(name, value)
    course.check_run("lesson04", "cpu", tmp_path, nll=99.0)
    assert "outside" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="nll is nan"):  # a run that diverged is no repeat
        course.check_run("lesson04", "cpu", tmp_path, nll=math.nan)


@pytest.mark.usefixtures("ranges")
def test_the_ranges_of_a_lesson_that_changed_do_not_fail_the_run_that_replaces_them(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_UNDER_RUN", "1")
    monkeypatch.setenv("FINETUNE_STORING", "lesson03 lesson04")
    course.check_run("lesson04", "cpu", tmp_path, nll=99.0)
    with pytest.raises(AssertionError, match="nll is nan"):
        course.check_run("lesson04", "cpu", tmp_path, nll=math.nan)
    monkeypatch.setenv("FINETUNE_STORING", "lesson03")
    with pytest.raises(AssertionError, match="nll is 99"):
        course.check_run("lesson04", "cpu", tmp_path, nll=99.0)


def test_start_points_at_an_unused_gpu(capsys, monkeypatch):
    monkeypatch.setattr(hardware, "describe", lambda: {**CPU, "device": "cuda", "device_name": "Tesla T4"})
    course.start("cpu")
    assert 'GPU found: try PROFILE = "gpu".' in capsys.readouterr().out
    course.start("gpu")
    assert "GPU found" not in capsys.readouterr().out


def test_the_environment_can_replace_the_model(monkeypatch):
    monkeypatch.setenv("FINETUNE_MODEL", "tiny")
    assert course.start("smoke") == dataclasses.replace(PROFILES["smoke"], model="tiny", side_model="tiny")
    small = course.start("gpu")
    assert (small.model, small.side_model) == ("tiny", "tiny")
    with pytest.raises(UserError, match="Unknown profile 'fast'"):
        course.start("fast")


def test_numbers_are_recorded_with_their_environment(tmp_path, capsys):
    course.check_run("lesson04", "cpu", tmp_path, nll=np.float32(2.5), rows=torch.tensor(1417), same=np.bool_(True))
    entry = recorded(tmp_path)["lesson04"]
    assert entry["values"] == {"nll": 2.5, "rows": 1417, "same": True}
    assert entry["profile"] == "cpu"
    assert entry["environment"]["torch"].startswith(torch.__version__.split("+")[0])
    assert entry["environment"]["precision"] == "bf16"
    assert entry["checks"] == {"passed": 0, "total": 0}
    told = capsys.readouterr().out
    assert "1,417" in told
    assert told.count("no reference yet") == 3


def test_a_second_lesson_is_recorded_beside_the_first(tmp_path):
    course.check_run("lesson02", PROFILES["cpu"], tmp_path, leak=31)
    course.check_run("lesson04", PROFILES["cpu"], tmp_path, nll=2.5)
    course.check_run("lesson02", PROFILES["cpu"], tmp_path, leak=32)
    assert {k: v["values"] for k, v in recorded(tmp_path).items()} == {
        "lesson02": {"leak": 32},
        "lesson04": {"nll": 2.5},
    }


@pytest.fixture
def ranges(tmp_path):
    save_ranges("cpu", "lesson04", {"nll": (2.25, 2.5), "same": (True, True), "rate": (0.9, 1.0)}, tmp_path)


@pytest.mark.usefixtures("ranges")
def test_a_value_outside_raises_only_under_a_headless_run(tmp_path, capsys, monkeypatch):
    values = {"nll": 2.5625, "same": False, "rate": 0.9, "new": 7}
    course.check_run("lesson04", "cpu", tmp_path, **values)
    told = capsys.readouterr().out
    assert "2.25 to 2.5" in told
    assert told.count("outside") == 2
    monkeypatch.setenv("FINETUNE_UNDER_RUN", "1")
    with pytest.raises(AssertionError) as caught:
        course.check_run("lesson04", "cpu", tmp_path, **values)
    assert str(caught.value) == "lesson04: nll is 2.562, expected 2.25 to 2.5; same is no, expected yes"
    assert recorded(tmp_path)["lesson04"]["checks"] == {"passed": 1, "total": 3}


@pytest.mark.usefixtures("ranges")
def test_the_ends_of_a_range_are_inside(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_UNDER_RUN", "1")
    course.check_run("lesson04", "cpu", tmp_path, nll=2.25, same=True, rate=1.0)
    course.check_run("lesson04", "cpu", tmp_path, nll=2.5, same=True, rate=1)
    assert recorded(tmp_path)["lesson04"]["checks"] == {"passed": 3, "total": 3}


def test_ranges_of_another_profile_do_not_count(tmp_path, ranges, capsys):
    course.check_run("lesson04", "smoke", tmp_path, nll=99)
    assert "no reference yet" in capsys.readouterr().out


def test_a_number_that_is_not_finite_always_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_UNDER_RUN", "1")
    with pytest.raises(AssertionError, match="loss is nan"):
        course.check_run("lesson04", "cpu", tmp_path, loss=float("nan"))
    assert recorded(tmp_path)["lesson04"]["values"] == {"loss": None}


def test_text_is_no_value(tmp_path):
    with pytest.raises(TypeError, match="answer is str"):
        course.check_run("lesson04", "cpu", tmp_path, answer="2.5")


def test_a_learner_without_write_permission_keeps_the_table(tmp_path, capsys, monkeypatch):
    (tmp_path / "results").write_text("a file where the folder should be")
    course.check_run("lesson04", "cpu", tmp_path, nll=2.5)
    told = capsys.readouterr().out
    assert "2.5" in told
    assert "could not be saved" in told
    monkeypatch.setenv("FINETUNE_UNDER_RUN", "1")
    with pytest.raises(OSError):  # noqa: PT011
        course.check_run("lesson04", "cpu", tmp_path, nll=2.5)


def test_a_learners_numbers_go_below_build(tmp_path, monkeypatch):
    monkeypatch.delenv("FINETUNE_RESULTS")
    course.check_run("lesson04", "cpu", tmp_path, nll=2.5)
    assert (tmp_path / "build" / "results" / "cpu.json").is_file()
    assert not results_path("cpu", tmp_path).exists()


def test_a_table_wraps_long_texts(capsys):
    rows = [{"n": 7, "answer": "word " * 15, "hidden": 1}, {"n": 0.123456}]
    course.show_table(rows, ["n", "answer"], "Two rows", width=40)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Two rows"
    assert lines[1].split() == ["n", "answer"]
    assert max(map(len, lines)) <= 8 + 40
    assert lines[3].startswith("7 ")
    assert lines[4].strip().startswith("word")
    assert lines[-1].strip() == "0.1235"


def test_a_table_in_a_notebook_is_html_with_text_escaped(monkeypatch):
    shown = []
    monkeypatch.setattr(course, "_has_display", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    course.show_table([{"answer": "<|im_end|>"}], caption="Ends & starts")
    html = shown[0]["text/html"]
    assert "&lt;|im_end|&gt;" in html
    assert "Ends &amp; starts</caption>" in html
    assert '<th scope="col"' in html
    assert "<|im_end|>" in shown[0]["text/plain"]


def test_an_empty_table_is_no_error(capsys):
    course.show_table([], caption="Nothing")
    assert "Nothing" in capsys.readouterr().out
