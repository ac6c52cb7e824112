"""Tables as HTML and as plain text, and the table of "Check your run"."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

OK, UNKNOWN = "ok", "no reference yet"


def table_data(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None, caption: str = "", width: int = 50
) -> dict[str, str]:
    """A table as `text/html` and `text/plain`, with long texts wrapped.

    `columns` chooses and orders the columns (default: those of the first row); `width` is that of the widest
    text column in characters.
    """
    names = list(columns or (rows[0] if rows else ()))
    cells = [[_cell(row.get(name, "")) for name in names] for row in rows]
    style = f"text-align:left;vertical-align:top;white-space:pre-wrap;max-width:{width}ch"
    head = "".join(f'<th scope="col" style="{style}">{html.escape(name)}</th>' for name in names)
    body = "".join(
        "<tr>" + "".join(f'<td style="{style}">{html.escape(text)}</td>' for text in line) + "</tr>" for line in cells
    )
    title = f'<caption style="text-align:left">{html.escape(caption)}</caption>' if caption else ""
    table = f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return {"text/html": table, "text/plain": _plain_table(names, cells, caption, width)}


def check_caption(lesson: str, profile: str) -> str:
    """The first line of a lesson's "Check your run" table."""
    return f"Check your run: {lesson}, profile {profile}"


def check_rows(values: Mapping[str, float | None], ranges: Mapping[str, Sequence[float]]) -> list[dict[str, str]]:
    """One row a value: its name, what it is, what is expected, and the verdict. None stands for no finite number."""
    return [
        {
            "name": key,
            "value": show_number(value),
            "expected": show_range(ranges.get(key)),
            "result": verdict(value, ranges.get(key)),
        }
        for key, value in values.items()
    ]


def verdict(value: float | None, expected: Sequence[float] | None) -> str:
    """Say whether a value lies in its range, both ends included."""
    if value is None or not math.isfinite(value):
        return "not a finite number"
    if expected is None:
        return UNKNOWN
    return OK if expected[0] <= value <= expected[1] else "outside"


def show_number(value: float | None) -> str:
    """A number as a table shows it: four digits, whole numbers with commas, yes or no."""
    if value is None:
        return "nan"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or abs(value) >= 10_000:
        return f"{value:,.0f}" if math.isfinite(value) else str(value)
    return f"{value:.4g}"


def show_range(expected: Sequence[float] | None) -> str:
    """A range as a table shows it, or one number where both ends look the same."""
    if expected is None:
        return "-"
    low, high = (show_number(x) for x in expected)
    return low if low == high else f"{low} to {high}"


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain_table(names: list[str], cells: list[list[str]], caption: str, width: int) -> str:
    wrapped = [
        [[part for line in text.split("\n") for part in textwrap.wrap(line, width) or [""]] for text in row]
        for row in [names, *cells]
    ]
    widths = [max(len(part) for row in wrapped for part in row[i]) for i in range(len(names))]
    lines = [caption] if caption else []
    for number, row in enumerate(wrapped):
        for height in range(max((len(parts) for parts in row), default=0)):
            parts = [(row[i][height : height + 1] or [""])[0].ljust(widths[i]) for i in range(len(names))]
            lines.append("  ".join(parts).rstrip())
        if number == 0:
            lines.append("  ".join("-" * w for w in widths))
    return "\n".join(lines)
