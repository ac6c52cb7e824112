"""Numbers in prose: fill `{{lesson04.nll_after:.2f}}` from stored results, and find numbers typed by hand.

A placeholder is `{{key}}` or `{{key:format}}`, where `key` is anything that `results.stored` knows and
`format` is what Python's `format()` takes (`.2f`, `.0%`, `,`). It may stand in backticks. A name in double
braces that is no such key is left alone inside code (chat templates look like that) and refused elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from .errors import UserError
from .results import ROOT, stored

PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z]\w*(?:\.\w+)+)\s*(?::([^{}]*))?\}\}")
KNOWN = re.compile(r"lesson\d\d\.|study\.|data\.")

_CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_NOT_PROSE = re.compile(
    r"\$\$.*?\$\$|(?<![\\\w])\$[^$\n]+\$"  # mathematics
    r"|\{\{[^{}]*\}\}"  # placeholders
    r"|\]\([^)\s]*\)|https?://\S+|<[^<>\n]+>"  # link targets, addresses, HTML tags
    r"|\barXiv[: ]\s*\d{4}\.\d{4,5}"
    r"|^#+ +\d+(?:\.\d+)*\.? ",  # numbered headings
    re.DOTALL | re.MULTILINE,
)
_UNITS = r"seconds?|secs?|s|ms|milliseconds?|minutes?|min|hours?|[kKMG]i?B|megabytes?|gigabytes?|kilobytes?"
_NUMBER = r"(?<![\w.,])[-+\u2212]?\d[\d,]*(?:\.\d+)?"
_TYPED = re.compile(
    # "95 % interval" is a convention, not a measurement.
    rf"(?P<keep>{_NUMBER}[ \u00a0]?%(?=[ -](?:\w+[ -]){{0,2}}intervals?\b))"
    rf"|{_NUMBER}[ \u00a0-]?(?:%|(?:percent|per cent|x|times|{_UNITS})\b|\u00d7)"
    r"|(?<![\w.])[-+\u2212]?\d[\d,]*\.\d+(?![\w.]*\.\d)(?!\w)"
)


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match.group())


def find_typed_numbers(text: str) -> list[tuple[int, str]]:
    """Return `(line, number)` for each measured-looking number that Markdown `text` states by hand.

    Found are decimals, percentages, factors ("3.2 x", "8 times"), times and file sizes. Left alone is what
    stands in backticks, code fences, mathematics, placeholders, links and HTML tags, and names such as
    "135M-parameter" or "16-bit". Write settings and versions in backticks, measurements as placeholders.
    """
    masked = _NOT_PROSE.sub(_blank, _CODE.sub(_blank, text))
    hits = (m for m in _TYPED.finditer(masked) if m.group("keep") is None)
    return [(masked.count("\n", 0, m.start()) + 1, m.group().strip()) for m in hits]


def markdown_only(source: str) -> str:
    """Return the Markdown of a percent-format source, line for line: every other line is empty."""
    lines, markdown = [], False
    for line in source.split("\n"):
        if line.startswith("# %%"):
            markdown = "[markdown]" in line or "[md]" in line
            lines.append("")
        elif markdown and line.startswith("#"):
            lines.append(line[2:] if line.startswith("# ") else line[1:])
        else:
            lines.append("")
    return "\n".join(lines)


def fill_markdown(text: str, path: Path | str, root: Path = ROOT, missing: Callable[[str], None] | None = None) -> str:
    """Replace the placeholders of Markdown `text`; `path` is named in messages.

    Raises:
        UserError: naming file, line and key, when nothing is stored under a key or its format does not
            fit. With `missing`, that function is called with the message and the placeholder stays.
    """
    masked = _CODE.sub(_blank, text)

    def _replace(match: re.Match[str]) -> str:
        key, form = match.group(1), match.group(2) or ""
        try:
            if not KNOWN.match(key):
                if masked[match.start()] == " ":
                    return match.group()
                raise UserError(f"{key!r} is no stored value (lessonNN.NAME, study.NAME.VALUE, data.NAME.rows).")
            return format(stored(key, root), form)
        except (UserError, ValueError, TypeError) as error:
            line = text.count("\n", 0, match.start()) + 1
            message = f"{path}:{line}: placeholder {match.group()}: {error}"
            if missing is None:
                raise UserError(message) from error
            missing(message)
            return match.group()

    return PLACEHOLDER.sub(_replace, text)


def fill_source(source: str, path: Path | str, root: Path = ROOT, missing: Callable[[str], None] | None = None) -> str:
    """Fill the placeholders in the Markdown cells of a percent-format source; see `fill_markdown`."""
    before = markdown_only(source)
    after = fill_markdown(before, path, root, missing)
    pairs = zip(source.split("\n"), before.split("\n"), after.split("\n"), strict=True)
    return "\n".join(line if old == new else f"# {new}" for line, old, new in pairs)
