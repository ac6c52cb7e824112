"""Rows: load them from a file or by name, de-duplicate, split by group."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError
from .files import Row, read_rows, write_rows
from .hub import load_hub
from .shapes import Shape, Table, describe, normalize, recognize

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = [
    "DATA_DIR",
    "Shape",
    "Table",
    "check_no_overlap",
    "data_path",
    "deduplicate",
    "describe",
    "fold",
    "load_rows",
    "load_table",
    "normalize",
    "read_rows",
    "recognize",
    "split_by_group",
    "to_dataset",
    "write_rows",
]

DATA_DIR = Path(os.environ.get("FINETUNE_DATA") or Path(__file__).resolve().parent.parent / "data")
Key = str | Callable[[Row], Hashable]


def load_table(path: str | Path) -> Table:
    """Read a file, recognize its shape and normalize its rows: what the commands do with a learner's file."""
    return normalize(read_rows(path), path)


def fold(text: str) -> str:
    """Lower-case a text and collapse its whitespace, so that copies are found despite small differences."""
    return " ".join(text.casefold().split())


def deduplicate(rows: Iterable[Row], keys: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """Keep the first of the rows that agree in all `keys` after `fold`. Returns (kept, removed)."""
    seen: set[Hashable] = set()
    kept, removed = [], []
    for row in rows:
        mark = tuple(_folded(_value(row, key)) for key in keys)
        (removed if mark in seen else kept).append(row)
        seen.add(mark)
    return kept, removed


def split_by_group(
    rows: Sequence[Row], key: Key, sizes: Mapping[str, float | int], seed: int = 0
) -> dict[str, list[Row]]:
    """Split rows so that all rows with an equal `key` (a column or a function) land in the same part.

    A size is a share of the groups (0.8) or a number of groups (20); groups beyond the sum are left out.
    The keys and `seed` alone decide which group goes where, on every machine and in every order of rows.

    Raises:
        UserError: sizes ask for more than there is, a part would be empty, or a row lacks the key.
    """
    marks = [_value(row, key) for row in rows]
    groups = sorted(set(marks), key=lambda mark: (_hash(f"{seed}:{mark}"), str(mark)))
    counts, share = {}, 0.0
    for name, size in sizes.items():
        if isinstance(size, float):  # borders are rounded, so that shares of 1.0 in all use every group
            counts[name] = round((share + size) * len(groups)) - round(share * len(groups))
            share += size
        else:
            counts[name] = size
    wanted = ", ".join(f"{name}={size}" for name, size in sizes.items())
    empty = next((name for name, count in counts.items() if count < 1), None)
    if empty is not None:
        raise UserError(f"Cannot split {len(groups):,} groups into {wanted}: {empty} would be empty; bring more rows.")
    if sum(counts.values()) > len(groups):
        raise UserError(f"Cannot split {len(groups):,} groups into {wanted}: that is more than there are.")
    part_of, start = {}, 0
    for name, count in counts.items():
        part_of.update(dict.fromkeys(groups[start : start + count], name))
        start += count
    return {name: [r for r, m in zip(rows, marks, strict=True) if part_of.get(m) == name] for name in sizes}


def check_no_overlap(splits: Mapping[str, Iterable[Row]], key: Key) -> None:
    """Make sure that no value of `key` (texts compared after `fold`) occurs in two parts.

    Raises:
        UserError: names one value and the two parts that share it.
    """
    owner: dict[Hashable, tuple[str, Row]] = {}
    for name, rows in splits.items():
        for row in rows:
            value = _value(row, key)
            other, first = owner.setdefault(_folded(value), (name, row))
            if other != name:
                what = key if isinstance(key, str) else "value"
                places = f"{other}{_place(first)} and {name}{_place(row)}"
                raise UserError(f'The same {what} is in {places}: "{str(value)[:60]}"; split by group instead.')


def data_path(name: str) -> Path:
    """Return the file of a course data set: `course_qa`, or with its ending `course_qa.jsonl`.

    Raises:
        UserError: there is none; those that exist are listed.
    """
    endings = (".jsonl", ".csv", ".txt", ".md")
    files = sorted(p for p in DATA_DIR.glob("*") if p.suffix in endings and p.name != "README.md")
    for path in files:
        if name in (path.name, path.stem):
            return path
    known = ", ".join(path.stem for path in files) or "nothing: set FINETUNE_DATA to the course's data folder"
    raise UserError(f"Unknown course data {name!r}; found in the data folder: {known}.")


def load_rows(
    name: str,
    source: str = "disk",
    limit: int | None = None,
    split: str = "train",
    data_files: str | None = None,
) -> list[Row]:
    """Load course data by name, or a public data set from the hub. One never stands in for the other.

    A .txt file gives one row a paragraph: `title` (the heading above it) and `text`. For `source="hub"`, see
    `hub.load_hub` for the names, `split` and `data_files`.

    Raises:
        UserError: unknown name or source, hub unreachable, broken file.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit is {limit}: give 1 or more, or leave it out for all rows.")
    if source == "hub":
        return load_hub(name, split, limit, data_files)
    if source != "disk":
        raise UserError(f"Unknown source {source!r}: choose disk or hub.")
    path = data_path(name)
    rows = _paragraphs(path) if path.suffix in (".txt", ".md") else read_rows(path)
    return [{k: v for k, v in row.items() if k != "line"} for row in rows[:limit]]


def to_dataset(rows: Iterable[Row]) -> Dataset:
    """Make a `datasets.Dataset` without `line`; a column that some rows lack is None there."""
    from datasets import Dataset

    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row if name != "line")
    return Dataset.from_dict({name: [row.get(name) for row in rows] for name in names})


def _paragraphs(path: Path) -> list[Row]:
    title, rows = "", []
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        text = block.strip()
        if text.startswith("#"):
            title = text.lstrip("# ")
        elif text:
            rows.append({"title": title, "text": text})
    return rows


def _value(row: Row, key: Key) -> Any:
    if callable(key):
        return key(row)
    if key not in row:
        raise UserError(f'A row{_place(row)} has no "{key}"; its columns: {", ".join(row)}.')
    return row[key]


def _folded(value: Any) -> Hashable:
    return fold(value) if isinstance(value, str) else value if isinstance(value, Hashable) else repr(value)


def _place(row: Row) -> str:
    return f" (line {row['line']})" if "line" in row else ""


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
