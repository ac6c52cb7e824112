"""The command line as a whole: help, exit codes, streams, and two real processes."""

import json
import os
import subprocess
import sys

import pytest

from finetune_utils.__main__ import cli

COMMANDS = ("doctor", "setup", "run", "build", "finetune", "evaluate", "generate", "ranges")


def process(*words):
    return subprocess.run(
        [sys.executable, "-m", "finetune_utils", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
    )


def test_doctor_in_a_real_process_prints_json_and_nothing_else():
    done = process("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["torch"]
    assert report["model smollm2-135m"].startswith("missing")


def test_a_mistake_in_a_real_process_ends_with_2_and_one_line():
    done = process("finetune", "rows.jsonl", "--outptu", "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert "--output" in done.stderr


@pytest.mark.parametrize("arguments", [["", "--output", "out"], ["rows.jsonl", "--output", ""]])
def test_an_empty_name_is_not_taken_for_this_folder(run, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("finetune", *arguments)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "found an empty name; name a file or folder" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, run):
    done = run(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"Usage: finetune_utils {command}" in done.out
    assert len(cli.commands[command].help.split()) > 4
    for option in cli.commands[command].params:
        assert option.name in ("lessons", "data", "prompt") or option.opts[0] in done.out


def test_no_command_is_missing_or_hidden():
    assert set(cli.commands) >= set(COMMANDS)
    assert not [name for name, command in cli.commands.items() if command.hidden]


def test_help_starts_without_the_libraries():
    """`--help` and a mistyped option must not wait for torch."""
    code = (
        "import sys; sys.argv = ['x', '--help']\n"
        "from finetune_utils.__main__ import cli\n"
        "cli.main(standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'peft', 'datasets'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_command_the_help_is_shown(run):
    done = run()
    assert "Usage: finetune_utils" in done.out + done.err
    assert "finetune" in done.out + done.err
    assert "\n" in (done.out + done.err).strip()


def test_long_messages_of_the_option_parser_become_one_line(run):
    done = run("run", "--profile", "fast")
    assert (done.code, done.err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "Stopped. An interrupted `finetune` goes on with --resume."),
        (MemoryError(), 2, "Out of memory: try a smaller --batch-size"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 2, "Out of memory: try a smaller --batch-size"),
        (PermissionError(13, "Permission denied", "/some/file"), 2, "/some/file: permission denied; check permissions"),
        (OSError(28, "No space left on device"), 2, "the system: no space left on device; check permissions and free"),
    ],
)
def test_an_end_from_outside_is_told_in_one_line(run, monkeypatch, error, code, words):
    def fail():
        raise error

    monkeypatch.setattr("finetune_utils.doctor.doctor", fail)
    done = run("doctor")
    assert done.code == code
    [line] = [line for line in done.err.splitlines() if line]
    assert line.startswith(f"Error: {words}")


def test_a_fault_of_the_program_keeps_its_traceback(run, monkeypatch):
    def fail():
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("finetune_utils.doctor.doctor", fail)
    with pytest.raises(ZeroDivisionError):
        run("doctor")


def test_setup_checks_every_model_thoroughly(run, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "finetune_utils.weights.ensure_model", lambda name, say, thorough: asked.append((name, thorough))
    )
    done = run("setup")
    assert (done.code, done.err) == (0, "")
    assert asked == [("smollm2-135m", True), ("minilm", True)]
    assert "no network is needed from here on" in done.out


def test_build_check_fails_when_something_differs(run, monkeypatch):
    monkeypatch.setattr("finetune_utils.notebooks.build", lambda check: ["04.ipynb differs"] if check else [])
    assert run("build", "--check").code == 1
    assert run("build").out == "0 files written.\n"
    monkeypatch.setattr("finetune_utils.notebooks.build", lambda check: [])
    assert (run("build", "--check").code, run("build", "--check").out) == (0, "All notebooks match their sources.\n")


def test_run_ends_with_1_when_a_lesson_fails(run, monkeypatch, tmp_path):
    seen = []

    def run_lessons(lessons, profile, output, jobs):
        seen.append((lessons, profile, output, jobs))
        return len(seen) > 1

    monkeypatch.setattr("finetune_utils.notebooks.run_lessons", run_lessons)
    assert run("run", "04", "2", "--profile", "smoke", "--output", tmp_path, "--jobs", 3).code == 1
    assert run("run").code == 0
    assert seen == [(("04", "2"), "smoke", tmp_path, 3), ((), "cpu", None, 0)]
