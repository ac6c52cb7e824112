"""The set-up in the Makefile: installs once, notices changes, heals after an interruption. Pip is faked."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None or os.name == "nt", reason="needs make")

FAKE_PYTHON = """\
#!/bin/sh
# Stands in for `python3 -m venv .venv`: the environment's python writes down what it is asked to do, and where it lies.
mkdir -p "$3/bin"
echo "made" >> calls
cat > "$3/bin/python" <<'END'
#!/bin/sh
echo "$@" >> calls
echo "$0" >> environments
case "$*" in *"$FAIL_ON"*) exit 9 ;; esac
END
chmod +x "$3/bin/python"
"""


class Clone:
    def __init__(self, folder):
        self.folder = folder
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, folder / name)
        (folder / "fake").write_text(FAKE_PYTHON)
        (folder / "fake").chmod(0o755)

    def make(self, *arguments, fail_on="nothing", **variables):
        """Run make; return its exit code and what python was asked to do."""
        (self.folder / "calls").write_text("")
        environment = {**os.environ, "FAIL_ON": fail_on, **variables}
        environment.pop("MAKEFLAGS", None)
        command = ["make", "--silent", "PYTHON=./fake", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        return done.returncode, (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path)


def test_a_fresh_clone_gets_torch_first_then_the_package_then_the_model(clone):
    code, calls = clone.make("setup", TORCH_INDEX="https://example.org/cpu")
    assert code == 0
    made, torch, package, model = calls
    assert made == "made"
    assert "--index-url https://example.org/cpu torch==" in torch
    assert package.endswith("-c constraints.txt -e .[course,dev]")
    assert "--index-url" not in package
    assert model == "-m finetune_utils setup"


def test_the_second_time_installs_nothing(clone):
    clone.make("setup")
    assert clone.make("setup") == (0, ["-m finetune_utils setup"])


def test_the_oldest_versions_get_an_environment_of_their_own(clone):
    code, calls = clone.make("test-floors")
    assert code == 0
    assert [call.split(" ")[-2:] for call in calls[-1:]] == [["pytest", "tests/unit"]]
    assert any("-c tests/floors.txt" in call for call in calls)
    environments = (clone.folder / "environments").read_text().splitlines()
    assert environments == [".venv-floors/bin/python"] * 3
    assert not (clone.folder / ".venv").exists()


@pytest.mark.parametrize("step", ["torch==", "constraints.txt"])
def test_an_interrupted_installation_starts_over(clone, step):
    code, _ = clone.make("setup", fail_on=step)
    assert code != 0
    (clone.folder / ".venv" / "half-unpacked").write_text("")
    code, calls = clone.make("setup")
    assert (code, calls[0], len(calls)) == (0, "made", 4)
    assert not (clone.folder / ".venv" / "half-unpacked").exists()
    assert clone.make("setup") == (0, ["-m finetune_utils setup"])


def test_a_changed_pin_is_installed_into_the_same_environment(clone):
    clone.make("setup")
    with (clone.folder / "constraints.txt").open("a") as file:
        file.write("sentinel==7.0\n")
    code, calls = clone.make("setup", fail_on="-e .")
    assert code != 0
    assert "made" not in calls
    code, calls = clone.make("setup")
    assert (code, calls[0]) == (0, "made")


def test_a_failing_course_fails_make(clone):
    code, calls = clone.make("course", "PROFILE=smoke", "LESSON=04", fail_on="finetune_utils run")
    assert code != 0
    assert calls[-1] == "-m finetune_utils run 04 --profile smoke --output build/smoke"


def test_tests_are_one_call_of_pytest(clone):
    code, calls = clone.make("test")
    assert (code, calls[-1]) == (0, "-m pytest -n 2 --dist worksteal tests/unit tests/notebooks")
    assert sum("pytest" in call for call in calls) == 1


def test_a_study_needs_its_name(clone):
    code, calls = clone.make("study")
    assert code != 0
    assert not any("studies" in call for call in calls)


def test_a_kit_for_a_room_without_network_is_one_command(clone):
    code, calls = clone.make("offline-kit", TORCH_INDEX="https://example.org/cpu")
    assert code == 0
    assert calls[-1] == "-m finetune_utils offline-kit --output build/offline-kit --torch-index https://example.org/cpu"
    assert clone.make("offline-kit")[1][-1] == "-m finetune_utils offline-kit --output build/offline-kit"
