"""Stored results: JSON files of what runs and studies measured, looked up by a dotted key."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import UserError
from .files import ENDINGS, read_rows

ROOT = Path(__file__).resolve().parents[1]
Value = int | float | bool | None


def results_path(profile: str, root: Path = ROOT) -> Path:
    """Where the stored results of `profile` live (in git; a learner's own run writes below build/)."""
    return root / "notebooks" / "results" / f"{profile}.json"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; a missing file is an empty one.

    Raises:
        UserError: the file is not a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        line = getattr(error, "lineno", None)
        raise UserError.at(path, line, found="no valid JSON", do="restore it with git or delete it") from error
    if not isinstance(content, dict):
        raise UserError.at(path, found=f"a JSON {type(content).__name__}", expected="an object")
    return content


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, with Unix line ends on every system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(scratch, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def update_lesson(path: Path, profile: str, lesson: str, entry: Mapping[str, Any]) -> None:
    """Merge `entry` into what `path` holds for `lesson`; other lessons and other fields stay."""
    content = read_json(path) or {"profile": profile, "lessons": {}}
    lessons = content.setdefault("lessons", {})
    lessons[lesson] = {**lessons.get(lesson, {}), "profile": profile, **entry}
    content["lessons"] = dict(sorted(lessons.items()))
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def drop_lesson(path: Path, lesson: str) -> None:
    """Take a lesson out of a results file; other lessons stay."""
    content = read_json(path)
    if content.get("lessons", {}).pop(lesson, None) is not None:
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def drop_fields(path: Path, lesson: str, names: Sequence[str]) -> bool:
    """Take fields out of what a results file holds for a lesson; False when it has none of them."""
    content = read_json(path)
    entry = content.get("lessons", {}).get(lesson, {})
    found = [name for name in names if entry.pop(name, None) is not None]
    if found:
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return bool(found)


def save_ranges(profile: str, lesson: str, ranges: dict[str, tuple[float, float]], root: Path = ROOT) -> None:
    """Store the range in which each value of a lesson is expected: `{name: (low, high)}`, both included."""
    for name, (low, high) in ranges.items():
        if not low <= high:
            raise ValueError(f"range of {lesson}.{name}: low {low} is above high {high}")
    pairs = {name: [low, high] for name, (low, high) in ranges.items()}
    update_lesson(results_path(profile, root), profile, lesson, {"ranges": pairs})


def stored(key: str, root: Path = ROOT, profile: str = "cpu") -> Any:
    """Look up what a stored run measured.

    Keys: `lesson04.nll_after` (a value; `lesson04.seconds` is the lesson's running time), `lesson04` (all
    values of the lesson), `study.NAME.value`, `study.NAME` (a dict with `settings`, `rows`, `values`,
    `hash`), `data.course_qa.rows` (also `words`, `kilobytes`, `distinct_FIELD`).

    Raises:
        UserError: nothing is stored under the key.
    """
    kind, _, rest = key.partition(".")
    if kind == "study":
        name, _, value = rest.partition(".")
        path = root / "notebooks" / "studies" / f"{name}.json"
        found: Any = read_json(path)
        if value and found:
            found = found.get("values", {}).get(value)
        remedy = f"run `make study NAME={name}`"
    elif kind == "data":
        path, found = _measure_data(rest, root)
        remedy = "use rows, words, kilobytes or distinct_FIELD of a file in data/"
    else:
        path = results_path(profile, root)
        entry = read_json(path).get("lessons", {}).get(kind, {})
        values = entry.get("values", {})
        found = values.get(rest, entry.get("seconds") if rest == "seconds" else None) if rest else values
        remedy = "run `make notebooks`"
    if found is None or found == {}:
        where = path.relative_to(root).as_posix()
        raise UserError(f"Nothing is stored under {key!r} in {where}: check the name, or {remedy}.")
    return found


def _measure_data(key: str, root: Path) -> tuple[Path, int | None]:
    name, _, field = key.partition(".")
    path = next(iter(sorted((root / "data").glob(f"{name}.*"))), root / "data" / name)
    if not path.is_file():
        return path, None
    text = path.read_text(encoding="utf-8")
    if field == "words":
        return path, len(text.split())
    if field == "kilobytes":
        return path, round(len(text.encode()) / 1000)
    rows = read_rows(path) if path.suffix in ENDINGS else text.splitlines()
    if field == "rows":
        return path, len(rows)
    if field.startswith("distinct_") and path.suffix in ENDINGS:
        column = field.removeprefix("distinct_")
        return path, len({str(row[column]) for row in rows if row.get(column)}) or None
    return path, None
