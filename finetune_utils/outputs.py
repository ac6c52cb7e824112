"""Clean the outputs of an executed notebook, so that what is stored is small and the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .tables import check_caption, check_rows, table_data

if TYPE_CHECKING:
    from nbformat import NotebookNode

MAX_KILOBYTES = 300
WIDGET = "application/vnd.jupyter.widget-view+json"
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def clean_outputs(notebook: NotebookNode, root: Path) -> None:
    """Keep what a learner should see: no standard error, widgets, progress bars, times or machine paths."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [x for x in (_clean(x, root) for x in _join(cell.outputs)) if x is not None]


def refresh_check(notebook: NotebookNode, lesson: str, profile: str, entry: Mapping[str, Any]) -> None:
    """Let a stored "Check your run" table name today's ranges: they are made from its run, so they come after it.

    `entry` has the stored run's `values` and its `ranges`.
    """
    caption = check_caption(lesson, profile)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("data", {}).get("text/plain", "").startswith(caption):
                rows = check_rows(entry.get("values", {}), entry.get("ranges", {}))
                output.data.update(table_data(rows, caption=caption))


def _join(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join neighboring pieces of printed text: where a stream was cut depends on timing."""
    joined: list[NotebookNode] = []
    for output in outputs:
        stream = output.output_type == "stream"
        if stream and output.name == "stderr":
            continue
        if stream and joined and joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _clean(output: NotebookNode, root: Path) -> NotebookNode | None:
    if output.output_type == "stream":
        output.text = clean_text(output.text, root)
        return output if output.text.strip() else None
    if output.output_type not in ("display_data", "execute_result") or WIDGET in output.data:
        return None
    for kind, value in output.data.items():
        if kind.startswith("text/") and isinstance(value, str):
            output.data[kind] = clean_text(value, root)
    if "image/png" in output.data:
        output.data["image/png"] = output.data["image/png"].replace("\n", "")
    alt = output.metadata.get("image/png", {}).get("alt")
    output.metadata = {"image/png": {"alt": alt}} if alt else {}
    return output


def clean_text(text: str, root: Path) -> str:
    """Replace this machine's folders by `~` and `.`, and keep only what a progress bar left on its line."""
    for folder, short in ((str(root), "."), (str(Path.home()), "~")):
        if len(folder) > 1:
            text = re.sub(re.escape(folder) + r"(?![\w-])", short, text)
    lines = _ESCAPES.sub("", text.replace("\r\n", "\n")).split("\n")
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)


def size_problem(path: Path) -> list[str]:
    """Return a line when a notebook is too large to read and review comfortably."""
    size = path.stat().st_size / 1000
    if size <= MAX_KILOBYTES:
        return []
    return [f"{path.name} has {size:.0f} kB, more than {MAX_KILOBYTES}: make its figures smaller"]
