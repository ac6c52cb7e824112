"""Studies: comparisons too long for a lesson, run once and stored with their settings and a hash.

A study is `notebooks/studies/NAME.py`; `make study NAME=...` runs it and `store_study` writes `NAME.json`
beside it. Lessons read that file with `results.stored("study.NAME")`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .course import environment
from .errors import UserError
from .results import ROOT, Value, read_json, write_text


def study_path(name: str, root: Path = ROOT) -> Path:
    """The source of a study.

    Raises:
        UserError: there is none; those that exist are listed.
    """
    folder = root / "notebooks" / "studies"
    path = folder / f"{name}.py"
    if not path.is_file():
        known = ", ".join(p.stem for p in sorted(folder.glob("*.py"))) or "none yet"
        raise UserError(f"There is no study {name!r}: choose from {known}.")
    return path


def study_hash(name: str, data: Sequence[str], root: Path = ROOT) -> str:
    """SHA-256 over the study's source and its data files: stored rows belong to this hash only.

    A study that leaves out rows says so: "course_qa.jsonl without topic off-topic, near-topic, situation".
    """
    digest = hashlib.sha256()
    for part in (study_path(name, root), *data):
        file, _, left_out = str(part).partition(" without topic ")
        path = root / "data" / file  # the source's own path is absolute and stays as it is
        if not path.is_file():
            raise UserError.at(path, found="no such file", expected=f"a data file of the study {name}")
        content = path.read_bytes().replace(b"\r\n", b"\n")
        if left_out:
            kept = [line for line in content.splitlines(True) if json.loads(line)["topic"] not in left_out.split(", ")]
            content = b"".join(kept)
        digest.update(path.name.encode() + b"\0" + content + b"\0")
    return digest.hexdigest()


def store_study(
    name: str,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    values: Mapping[str, Value],
    data: Sequence[str] = ("course_qa.jsonl",),
    root: Path = ROOT,
) -> Path:
    """Write what a study found to `notebooks/studies/NAME.json`, whole or not at all.

    Args:
        settings: everything that decides the outcome, in plain JSON types.
        rows: what a lesson plots, one object a point.
        values: numbers that prose may quote as `{{study.NAME.key}}`.
        data: the files below `data/` that the study reads, and which rows it leaves out (see `study_hash`).

    Raises:
        UserError: no such study or data file, or a number that is not finite.
    """
    content = {
        "settings": dict(settings),
        "hash": study_hash(name, data, root),
        "data": list(data),
        "environment": environment(),
        "rows": [dict(row) for row in rows],
        "values": dict(values),
    }
    path = study_path(name, root).with_suffix(".json")
    try:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"The study {name} cannot be stored: {error}.") from error
    write_text(path, text + "\n")
    return path


def study_state(name: str, root: Path = ROOT) -> str:
    """Say what is wrong with the stored rows of a study: "not run", "stale", or "" when all is well."""
    content = read_json(study_path(name, root).with_suffix(".json"))
    if not content:
        return "not run"
    return "" if content.get("hash") == study_hash(name, content.get("data", ()), root) else "stale"
