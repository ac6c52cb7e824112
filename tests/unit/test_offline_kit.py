"""The folder for a room without network. pip and the models are faked; nothing is downloaded."""

import json
import sys

import pytest

from finetune_utils import offline_kit
from finetune_utils.errors import UserError
from finetune_utils.offline_kit import MANIFEST, check_kit, download_commands, make_offline_kit, requirements
from finetune_utils.results import ROOT


@pytest.fixture
def course(tmp_path):
    """A small repository with what a kit must take and what it must leave."""
    root = tmp_path / "course"
    for name in (
        "notebooks/01_a.ipynb",
        "data/rows.jsonl",
        ".venv/bin/python",
        "build/old.txt",
        "__pycache__/x.pyc",
        ".git/HEAD",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "constraints.txt").write_text("numpy==2.4.6\ntorch==2.13.0\n")
    project = '[project]\nname = "toy"\ndependencies = ["numpy>=2"]\n[project.optional-dependencies]\n'
    (root / "pyproject.toml").write_text(
        project + 'course = ["papermill>=2"]\ndev = ["toy[eval]", "pytest>=8"]\neval = ["lm-eval>=0.4"]\n'
    )
    return root


@pytest.fixture
def fetched(monkeypatch, tmp_path):
    """Calls of pip, each leaving one wheel; and models that are there already."""
    calls = []

    def run(command):
        calls.append(list(command))
        folder = command[command.index("-d") + 1]
        (offline_kit.Path(folder) / f"wheel-{len(calls)}.whl").write_text("wheel")

    def model(name, say):
        folder = tmp_path / "cache" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_text(f"weights of {name}")
        return folder

    monkeypatch.setattr(offline_kit, "ensure_model", model)
    run.calls = calls
    return run


def test_a_kit_holds_packages_models_the_course_and_how_to_start(course, fetched, tmp_path):
    said = []
    kit = make_offline_kit(tmp_path / "kit", course, fetched, index="https://example.org/cpu", say=said.append)
    files = {path.relative_to(kit).as_posix() for path in kit.rglob("*") if path.is_file()}
    assert files == {
        "wheels/wheel-1.whl", "wheels/wheel-2.whl", "cache/models/smollm2-135m/model.safetensors",
        "cache/models/minilm/model.safetensors", "course/notebooks/01_a.ipynb", "course/data/rows.jsonl",
        "course/constraints.txt", "course/pyproject.toml", "START_HERE.md", MANIFEST,
    }  # fmt: skip
    assert set(json.loads((kit / MANIFEST).read_text())) == files - {MANIFEST}
    start = (kit / "START_HERE.md").read_text()
    assert f"Python {sys.version_info[0]}.{sys.version_info[1]}" in start
    for word in (
        "PIP_NO_INDEX=1",
        "PIP_FIND_LINKS",
        "FINETUNE_HOME",
        "make course",
        "--no-index --find-links ../wheels",
    ):
        assert word in start
    assert "START_HERE.md" in said[-1]
    torch, rest = fetched.calls
    assert torch[-3:] == ["torch==2.13.0", "--index-url", "https://example.org/cpu"]
    assert "--index-url" not in rest
    assert check_kit(kit) == []


def test_everything_that_make_setup_installs_is_asked_for(course):
    assert requirements(course) == [
        "numpy>=2",
        "papermill>=2",
        "pytest>=8",
        "lm-eval>=0.4",
        "pip",
        "setuptools>=68",
        "wheel",
    ]
    real = requirements(ROOT)
    assert any(line.startswith("transformers") for line in real)
    assert any(line.startswith("jupyterlab") for line in real)
    assert not any(line.startswith("finetuning-course") for line in real)
    first, rest = download_commands(ROOT, course / "wheels")
    assert "--index-url" not in first
    assert rest[rest.index("-c") + 1].endswith("constraints.txt")
    assert all("download" in command for command in (first, rest))


def test_a_copy_that_was_cut_short_is_found_out(course, fetched, tmp_path):
    kit = make_offline_kit(tmp_path / "kit", course, fetched, say=lambda message: None)
    (kit / "wheels" / "wheel-2.whl").unlink()
    (kit / "course" / "data" / "rows.jsonl").write_text("other")
    assert check_kit(kit) == ["wheels/wheel-2.whl is missing", "course/data/rows.jsonl differs"]
    (kit / MANIFEST).unlink()
    with pytest.raises(UserError, match="no readable manifest"):
        check_kit(kit)


def test_a_kit_inside_the_repository_does_not_copy_itself(course, fetched):
    kit = make_offline_kit(course / "kit", course, fetched, say=lambda message: None)
    assert not (kit / "course" / "kit").exists()


def test_a_failing_download_is_told_in_one_line_and_leaves_no_manifest(course, tmp_path, monkeypatch):
    class Failed:
        returncode, stderr = 1, "some lines\nERROR: No matching distribution found for torch==2.13.0\n"

    monkeypatch.setattr(offline_kit.subprocess, "run", lambda *a, **k: Failed())
    with pytest.raises(UserError, match="pip could not fetch the packages .*No matching distribution"):
        make_offline_kit(tmp_path / "kit", course, say=lambda message: None)
    assert not (tmp_path / "kit" / MANIFEST).exists()
    with pytest.raises(UserError, match="exists already"):
        make_offline_kit(tmp_path / "kit", course, say=lambda message: None)


def test_the_commands_call_the_functions(tmp_path, monkeypatch, run):
    asked = {}
    monkeypatch.setattr(
        offline_kit, "make_offline_kit", lambda output, **options: asked.update(output=output, **options)
    )
    assert run("offline-kit", "--output", tmp_path / "k", "--torch-index", "https://example.org").code == 0
    assert (asked["output"], asked["index"]) == (tmp_path / "k", "https://example.org")
    monkeypatch.setattr(offline_kit, "check_kit", lambda folder: ["a is missing"])
    done = run("check-kit", tmp_path)
    assert (done.code, done.out) == (1, "a is missing\n")
