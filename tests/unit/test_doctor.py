"""The report to paste into an issue: complete, short, never failing, nothing personal."""

import json
from pathlib import Path

import pytest

from finetune_utils import doctor as module
from finetune_utils import hardware, weights
from finetune_utils.doctor import doctor, format_doctor


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put_model(cache, size=5):
    folder = cache / "models" / "smollm2-135m"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"seven" if size == 5 else b"cut")
    requirement = weights.SOURCES["smollm2-135m"].requirement
    manifest = {"source": requirement, "files": {"model.safetensors": {"bytes": 5, "sha256": "x"}}}
    (folder / weights.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def test_it_names_versions_machine_and_what_is_there(cache, tmp_path):
    put_model(cache)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "course_qa.jsonl").write_bytes(b"x" * 7_000)
    report = doctor(tmp_path)
    for name in ("python", "system", "torch", "transformers", "peft", "numpy", "device", "precision"):
        assert report[name]
    assert report["model smollm2-135m"] == "found, complete"
    assert report["model minilm"].startswith("missing (run: python -m finetune_utils setup)")
    assert report["data course_qa.jsonl"] == "found, 7 kB"
    assert report["data neutral_text.txt"] == "missing"
    assert report["free memory"].endswith(" GB")
    assert ": " in report["precision"]
    lines = format_doctor(report).splitlines()
    assert len(lines) == len(report)
    assert max(map(len, lines)) < 120


def test_a_cut_short_model_is_told(cache):
    put_model(cache, size=3)
    assert doctor()["model smollm2-135m"].startswith("damaged: model.safetensors has 3 of 5 bytes")


def test_it_never_raises(monkeypatch, tmp_path):
    def broken(*_):
        raise RuntimeError("driver too old")

    monkeypatch.setattr(hardware, "describe", broken)
    monkeypatch.setattr(hardware, "free_memory_bytes", broken)
    monkeypatch.setattr(hardware, "cpu_has_bf16", broken)
    monkeypatch.setattr(weights, "home", broken)
    monkeypatch.setattr(module.importlib.metadata, "version", broken)
    report = doctor(tmp_path)
    assert report["free memory"] == "could not be found out (RuntimeError)"
    assert report["torch"] == "not installed"
    assert "python" in format_doctor(report)


def test_nothing_personal_is_told(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/adalovelace"))
    monkeypatch.setattr(module.platform, "node", lambda: "engine-room")
    monkeypatch.setenv("FINETUNE_HOME", "/home/adalovelace/stick/engine-room/adalovelace")
    assert doctor()["cache folder"] == "~/stick/.../..."
    assert "adalovelace" not in format_doctor(doctor())
