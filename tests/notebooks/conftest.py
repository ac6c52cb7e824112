"""Fixtures of the tier that starts kernels: a cache that holds only the models, and no way to a hub."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from finetune_utils import weights
from finetune_utils.results import ROOT


@pytest.fixture
def only_models(tmp_path, monkeypatch) -> Path:
    """A fresh $FINETUNE_HOME with links to the models, so that a lesson cannot lean on another's results."""
    home = tmp_path / "cache"
    (home / "models").mkdir(parents=True)
    for name in weights.SOURCES:
        folder = weights.home() / "models" / name
        if not folder.exists():
            pytest.fail(f"{name} is not in the cache: run `python -m finetune_utils setup`")
        os.symlink(folder, home / "models" / name, target_is_directory=True)
    monkeypatch.setenv("FINETUNE_HOME", str(home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("FINETUNE_MODEL", raising=False)
    return home


@pytest.fixture(autouse=True)
def results_untouched():
    """No test may change what is stored in git. (Building notebooks elsewhere meanwhile trips it too.)"""
    before = _stored()
    yield
    changed = sorted(path for path, _ in _stored().items() ^ before.items())
    assert not changed, f"changed while a test ran: {', '.join(dict.fromkeys(changed))}"


def _stored() -> dict[str, int]:
    paths = [*(ROOT / "notebooks").rglob("*.ipynb"), *(ROOT / "notebooks" / "results").glob("*.json")]
    return {str(path): path.stat().st_mtime_ns for path in paths if ".ipynb_checkpoints" not in path.parts}
