"""Row files: read JSONL, JSON and CSV, faults named by file and line; write JSONL whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import difflib
import io
import json
import os
import re
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .errors import UserError, os_reason

Row = dict[str, Any]
ENDINGS = (".jsonl", ".json", ".csv")
FILE_KINDS = {  # how other files begin that were given the name of a row file
    b"\xff\xfe\0\0": "UTF-32 text",  # before UTF-16, which begins alike
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"\x1f\x8b": "a gzip archive",
    b"PK\x03\x04": "a zip archive or spreadsheet",
    b"PAR1": "a Parquet table",
    b"%PDF": "a PDF document",
    b"version https://git-lfs": "a Git LFS pointer instead of the file itself",
}


def read_rows(path: str | Path) -> list[Row]:
    """Read a .jsonl, .json or .csv file; blank lines are skipped, a byte order mark is accepted.

    Each row gets `"line"`: the line where it starts, or its number in a .json array. A column of that name
    in the file is replaced. Values of a .csv are all text; comma, semicolon and tab may part its columns.

    Raises:
        UserError: the file cannot be read as rows. File, line, what was found and what to do are named.
    """
    path = Path(path)
    reader = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv}.get(path.suffix.lower())
    if os.path.isdir(path):
        raise UserError.at(path, found="a folder", expected="a file of rows", do="name a file in it")
    if reader is None and os.path.exists(path):
        ending = f"the ending {path.suffix}" if path.suffix else "no ending"
        expected, do = " or ".join(ENDINGS), "save the rows in one of these formats"
        raise UserError.at(path, found=ending, expected=expected, do=do)
    text = _read_text(path)
    assert reader is not None  # else the file was missing and `_read_text` has said so
    if not text.strip():
        raise UserError.at(path, found="only blank lines" if text else "an empty file", expected="rows")
    return reader(text, path)


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSONL in UTF-8, without `"line"`; only a complete file ever stands under the name.

    The rows go to a temporary file in the same folder, are flushed to disk and then renamed.

    Raises:
        UserError: no permission, full disk, or a value that JSON cannot hold. Nothing is left behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            for number, row in enumerate(rows, start=1):
                file.write(_to_json({k: v for k, v in row.items() if k != "line"}, path, number) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        do = "choose a folder that exists, has space and may be written to; nothing was left behind"
        raise UserError.at(path, found=f"that it cannot be written ({os_reason(error)})", do=do) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _to_json(row: Row, path: Path, number: int) -> str:
    try:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False)
        line.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise UserError.at(path, number, found=f"a value that JSON cannot hold ({error})") from error
    return line


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        do = "check the name and the folder" + _similar(path)
        raise UserError.at(path, found="no such file", do=do) from error
    except OSError as error:
        do = "give this user permission to read it, or copy it"
        raise UserError.at(path, found=f"that it cannot be read ({os_reason(error)})", do=do) from error
    kind = next((kind for start, kind in FILE_KINDS.items() if data.startswith(start)), None)
    if kind is None and data[:200].count(0) > len(data[:200]) // 4:
        kind = "UTF-16 text"
    if kind:
        raise UserError.at(path, found=kind, expected="plain UTF-8 text", do="save or unpack it as UTF-8 text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Counted in `error.object`: a byte order mark has been taken off it.
        before = error.object[: error.start]
        place = error.start - before.rfind(b"\n")
        raise UserError.at(
            path,
            before.count(b"\n") + 1,
            found=f"byte 0x{error.object[error.start]:02x} at position {place}, which is not UTF-8",
            expected="UTF-8 text",
            do="save the file again with the encoding UTF-8",
        ) from error


def _read_jsonl(text: str, path: Path) -> list[Row]:
    # Not `splitlines()`: JSON strings may hold other characters that it takes for line ends.
    lines = [(n, x) for n, x in enumerate(re.split(r"\r\n|\n|\r", text), start=1) if x.strip()]
    rows = []
    for number, line in lines:
        if line.strip() in ("{", "["):
            do = "write each object on one line, or name the file .json if it is an array"
            raise UserError.at(
                path, number, found="JSON spread over several lines", expected="one object per line", do=do
            )
        value = _parse(line, path, number, last=number == lines[-1][0])
        if not isinstance(value, dict):
            do = "name the file .json" if isinstance(value, list) and len(lines) == 1 else ""
            expected = "one JSON object per line"
            raise UserError.at(path, number, found=kind_of(value), expected=expected, do=do)
        rows.append({**value, "line": number})
    return rows


def _read_json(text: str, path: Path) -> list[Row]:
    value = _parse(text, path)
    expected = "an array of objects"
    if isinstance(value, dict):
        inner = next((key for key, item in value.items() if isinstance(item, list)), None)
        do = f'save the list under "{inner}" on its own' if inner else "put square brackets around the objects"
        raise UserError.at(path, found="an object", expected=expected, do=do)
    if not isinstance(value, list) or not value:
        found = "an empty array" if value == [] else kind_of(value)
        raise UserError.at(path, found=found, expected=expected)
    for number, item in enumerate(value, start=1):
        if not isinstance(item, dict):
            raise UserError.at(path, number, found=f"{kind_of(item)} as item {number}", expected="an object")
    return [{**item, "line": number} for number, item in enumerate(value, start=1)]


def _parse(text: str, path: Path, line: int | None = None, last: bool = False) -> Any:
    """Parse JSON strictly: no NaN, no repeated field, no half of a character pair."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_repeats)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except json.JSONDecodeError as error:
        found, do = _explain(error, text, last)
        number = line or error.lineno
        raise UserError.at(path, number, found=found, expected="JSON", do=do) from error
    except UnicodeEncodeError as error:
        found = r"half of a character (\ud83d, for example, without the other half)"
        raise UserError.at(path, line, found=found, do="export the text again without cutting it") from error
    except RecursionError as error:
        raise UserError.at(path, line, found="JSON nested too deeply", expected="one flat object per row") from error
    except ValueError as error:
        raise UserError.at(path, line, found=str(error), expected="JSON", do="mend the value") from error


def _explain(error: json.JSONDecodeError, text: str, last: bool) -> tuple[str, str]:
    """Say what is wrong with a line that is not JSON, and what to do."""
    message = error.msg[0].lower() + error.msg[1:]
    found = f"{message} at column {error.colno}"
    if error.msg == "Extra data":
        found = f"more text after the end of the JSON value, from column {error.colno}"
        return found, "write one object per line and nothing after it, in a file named .jsonl"
    if last and (error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")):
        return f"a line that is cut short ({found})", "copy or export the file again, or delete its last line"
    if re.match(r"\s*<(!doctype|html|\?xml)", text, re.IGNORECASE):
        return "a web page", "download the file itself, not the page that shows it"
    if text.lstrip()[:2] in ("{'", "['"):
        return found, "JSON wants double quotes: write the rows with json.dumps"
    return found, "mend the line (json.dumps writes valid ones)"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name}, which is not JSON")


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f'the field "{next(n for n in names if names.count(n) > 1)}" twice in one object')
    return row


def _read_csv(text: str, path: Path) -> list[Row]:
    first = text.lstrip("\r\n").splitlines()[0]
    comma = max(",;\t", key=lambda mark: first.count(mark))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=comma, strict=True)
    header: list[str] = []
    rows, line = [], 1
    try:
        for values in reader:
            start, line = line, reader.line_num + 1
            if not any(value.strip() for value in values):
                continue
            if not header:
                header = _check_header(values, path, start)
            elif len(values) != len(header):
                do = "put double quotes around a text that holds commas"
                expected = f"{len(header)} as in the header"
                raise UserError.at(path, start, found=f"{len(values)} columns", expected=expected, do=do)
            else:
                rows.append({**dict(zip(header, values, strict=True)), "line": start})
    except csv.Error as error:
        do = "close every double quote, and double those inside a text"
        raise UserError.at(path, line, found=f"broken CSV ({error})", do=do) from error
    if not rows:
        raise UserError.at(path, found="a header and no rows", expected="rows under it")
    return rows


def _check_header(names: list[str], path: Path, line: int) -> list[str]:
    for name in names:
        if not name.strip() or names.count(name) > 1:
            found = f'the column "{name}" twice' if name.strip() else "a column without a name"
            raise UserError.at(path, line, found=found, expected="a header with one name per column")
    return names


def kind_of(value: Any) -> str:
    """Name the JSON kind of a value in plain words."""
    names = {type(None): "null", bool: "true or false", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def _similar(path: Path) -> str:
    try:
        names = [p.name for p in path.parent.iterdir()]
    except OSError:
        return ""
    match = difflib.get_close_matches(path.name, names, n=1)
    return f" (there is {match[0]})" if match else ""
