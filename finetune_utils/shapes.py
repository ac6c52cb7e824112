"""Row shapes: recognize the columns a file brings, check every row, and give it this course's columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError
from .files import Row, kind_of

KIND_NAMES = {"qa": "question/answer", "messages": "messages", "text": "text"}
# Name and columns of each shape that is understood; the first that fits is taken.
SHAPES: dict[str, dict[str, str]] = {
    "question/answer": {"question": "question", "answer": "answer"},
    "instruction/output": {"instruction": "instruction", "input": "input", "answer": "output"},
    "instruction/response": {"instruction": "instruction", "input": "input", "answer": "response"},
    "input/output": {"question": "input", "answer": "output"},
    "prompt/completion": {"question": "prompt", "answer": "completion"},
    "messages": {"messages": "messages"},
    "text": {"text": "text"},
}
OURS = {"question", "answer", "instruction", "input", "messages", "text"}


@dataclass(frozen=True)
class Shape:
    """How the columns of a file are read: `fields` maps our names to the file's own."""

    name: str
    kind: str
    fields: dict[str, str]


@dataclass(frozen=True)
class Table:
    """Normalized rows of one kind: `qa`, `messages` or `text`."""

    kind: str
    shape: Shape
    rows: list[Row]


def recognize(rows: Sequence[Row], path: str | Path = "rows") -> Shape:
    """Say which shape the rows have. Letter case and spaces around column names do not matter.

    Raises:
        UserError: no rows, columns that fit no shape, or a row whose shape differs from the first one's.
    """
    if not rows:
        raise UserError.at(path, found="no rows")
    first = _shape_of(rows[0], path, 1)
    if first is None:
        names = ", ".join(name for name in rows[0] if name != "line") or "no columns"
        raise UserError.at(
            path,
            _line(rows[0], 1),
            found=f"the columns {names}",
            expected=f"one of {', '.join(SHAPES)}",
            do="rename the columns",
        )
    fields = dict(first.fields)
    for number, row in enumerate(rows[1:], start=2):
        shape = _shape_of(row, path, number)
        if shape is None:
            missing = next(name for key, name in SHAPES[first.name].items() if not _has(row, key, name))
            expected = f"{first.name} as in line {_line(rows[0], 1)}"
            do = "complete the row or delete it"
            raise UserError.at(path, _line(row, number), found=f'no "{missing}"', expected=expected, do=do)
        if shape.name != first.name:
            expected = f"{first.name} as in line {_line(rows[0], 1)}"
            do = "put rows of different shapes into different files"
            raise UserError.at(path, _line(row, number), found=shape.name, expected=expected, do=do)
        fields = shape.fields | fields
    return Shape(first.name, first.kind, fields)


def normalize(rows: Sequence[Row], path: str | Path = "rows") -> Table:
    """Check every row and give it this course's columns.

    `qa` rows have `question` and `answer`; rows with an instruction keep `instruction` and `input`, and their
    question is both with a blank line between. `messages` rows hold a checked conversation, `text` rows a
    text. Whitespace around answers (and assistant messages) is removed. Other columns are kept, except those
    under one of the names above, which would be taken for something else later.

    Raises:
        UserError: a missing, empty or wrong field; the file and the line are named.
    """
    shape = recognize(rows, path)
    done = []
    for number, row in enumerate(rows, start=1):
        own = _shape_of(row, path, number) or shape
        line = _line(row, number)
        taken = set(own.fields.values())
        kept = {k: v for k, v in row.items() if k.strip().lower() not in OURS and k not in taken}
        new: Row = {}
        for key, name in own.fields.items():
            if key == "messages":
                new[key] = _messages(row[name], path, line)
            else:
                new[key] = _text(row[name], name, path, line, optional=key == "input")
        if "instruction" in new:
            new["input"] = new.get("input", "")
            parts = [new["instruction"], new["input"]] if new["input"] else [new["instruction"]]
            new = {"question": "\n\n".join(parts), **new}
        if "answer" in new:
            new["answer"] = new["answer"].strip()
        done.append({**new, **kept, "line": line})
    return Table(shape.kind, shape, done)


def describe(table: Table) -> str:
    """One line on what was recognized: `1,400 rows of question/answer (from columns Prompt, Completion)`."""
    count = len(table.rows)
    columns = ", ".join(name.strip() for name in table.shape.fields.values())
    plural = "s" if len(table.shape.fields) > 1 else ""
    rows = "row" if count == 1 else "rows"
    return f"{count:,} {rows} of {KIND_NAMES[table.kind]} (from column{plural} {columns})"


def question_in(row: Row, path: str | Path = "rows") -> str:
    """The question of a row that needs no answer: what `generate --input` asks.

    Raises:
        UserError: the row has no column of a known shape that asks something, or it is empty.
    """
    columns = {name.strip().lower(): name for name in row}
    line = _line(row, 1)
    if "messages" in columns:
        return _messages(row[columns["messages"]], path, line, answered=False)[-1]["content"]
    for name in ("question", "instruction", "prompt", "input"):
        if name in columns:
            text = _text(row[columns[name]], name, path, line)
            extra = row.get(columns.get("input", "")) if name == "instruction" else None
            extra = _text(extra, "input", path, line, optional=True)
            return f"{text}\n\n{extra}" if extra else text
    names = ", ".join(name for name in row if name != "line")
    expected = "question, instruction, prompt, input or messages"
    raise UserError.at(path, line, found=f"the columns {names}", expected=expected, do="rename the column")


def _shape_of(row: Row, path: str | Path, number: int) -> Shape | None:
    """The first shape whose columns this row has; `input` beside an instruction may be absent."""
    columns: dict[str, str] = {}
    for name in row:
        folded = name.strip().lower()
        if folded in columns and folded != "line":
            found = f'two columns that read "{folded}"'
            raise UserError.at(path, _line(row, number), found=found, do="rename or delete one of them")
        columns[folded] = name
    for shape, fields in SHAPES.items():
        if all(name in columns for key, name in fields.items() if key != "input"):
            kind = shape if shape in ("messages", "text") else "qa"
            return Shape(shape, kind, {key: columns[name] for key, name in fields.items() if name in columns})
    return None


def _has(row: Row, key: str, name: str) -> bool:
    return key == "input" or name in {column.strip().lower() for column in row}


def _text(value: Any, name: str, path: str | Path, line: int, optional: bool = False) -> str:
    if optional and (value is None or value == ""):
        return ""
    if not isinstance(value, str):
        do = "write it as text, in double quotes, or delete the row"
        raise UserError.at(path, line, found=f'{kind_of(value)} in "{name.strip()}"', expected="text", do=do)
    if not value.strip() and not optional:
        found = f'an empty "{name.strip()}"' if not value else f'only blanks in "{name.strip()}"'
        raise UserError.at(path, line, found=found, expected="text", do="complete the row or delete it")
    return value if value.strip() else ""


def _messages(value: Any, path: str | Path, line: int, answered: bool = True) -> list[dict[str, str]]:
    """Check a conversation: maybe a system message, then user and assistant in turn, the assistant last.

    With `answered=False` it may also end with the user, and what comes back ends with the last question.
    """
    if not isinstance(value, list) or not value:
        found = f'{"an empty list" if value == [] else kind_of(value)} in "messages"'
        raise UserError.at(path, line, found=found, expected='a list of {"role", "content"} objects')
    done: list[dict[str, str]] = []
    for number, message in enumerate(value, start=1):
        before = done[-1]["role"] if done else None
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            what = f"without {'content' if 'role' in message else 'role'}" if isinstance(message, dict) else ""
            found = f"message {number} {what or f'that is {kind_of(message)}'}"
            raise UserError.at(path, line, found=found, expected='an object with "role" and "content"')
        role = message["role"]
        allowed = ("system", "user") if before is None else ("assistant",) if before == "user" else ("user",)
        if role not in allowed:
            found = f"message {number} with role {role!r}"
            raise UserError.at(path, line, found=found, expected=" or ".join(allowed) + " there")
        content = _text(message["content"], f"content of message {number}", path, line)
        done.append({"role": role, "content": content.strip() if role == "assistant" else content})
    if not answered and done[-1]["role"] == "assistant":
        done.pop()
    wanted, do = ("assistant", "add the assistant's answer") if answered else ("user", "add a question")
    if done[-1]["role"] != wanted:
        found = f"message {len(done)}, the last one, from the {done[-1]['role']}"
        do += " or delete the message"
        raise UserError.at(path, line, found=found, expected=f"the {wanted} at the end", do=do)
    return done


def _line(row: Row, number: int) -> int:
    return row.get("line", number)
