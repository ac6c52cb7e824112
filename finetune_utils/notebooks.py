"""Build, check and run the course's notebooks.

`build` writes `notebooks/NN.ipynb`, `notebooks/exercises/` and `notebooks/solutions/` from the sources.
It adds what is mechanical (minutes, Colab badge, bootstrap cell, links) and fills the stored numbers in.
The hash of what a lesson was run from is in its metadata, and `build` keeps outputs only while it matches.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UserError
from .exercises import exercise_notebooks
from .headless import JOBS, LessonFailed, execute, run_all
from .outputs import refresh_check
from .placeholders import fill_source
from .readme import build_readme
from .results import ROOT, read_json, results_path, write_text
from .sources import (
    Lesson,
    all_lessons,
    badge,
    bootstrap,
    find_lessons,
    new_cell,
    read_source,
    tagged,
    title_of,
    to_notebook,
)
from .teaching_guide import build_guide

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["LessonFailed", "build", "execute", "lesson_notebook", "run_lessons", "state"]

Missing = Callable[[str], None] | None
FOLDERS = ("notebooks", "notebooks/exercises", "notebooks/solutions")


def dump(notebook: NotebookNode) -> str:
    """Write a notebook as text, the same bytes every time."""
    import nbformat

    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def lesson_notebook(lesson: Lesson, missing: Missing = None) -> NotebookNode:
    """Make a lesson's notebook without outputs; for `missing` see `placeholders.fill_markdown`."""
    raw = lesson.text()
    name = lesson.source.relative_to(lesson.root).as_posix()
    notebook = to_notebook(raw, fill_source(raw, name, lesson.root, missing))
    places = tagged(notebook, "parameters")
    if len(places) != 1 or "PROFILE" not in notebook.cells[places[0]].source:
        found = f"{len(places)} cells tagged parameters"
        raise UserError.at(lesson.source, found=found, expected="one that sets PROFILE")
    course = lesson.metadata()
    notebook.metadata["course"] = {name: part for name, part in course.items() if name != "teaching"}
    minutes = ", ".join(_minutes(profile, m) for profile, m in course["minutes"].items())
    needs = f"\n\n**Needs:** {course['needs']}." if course.get("needs") else ""
    _frame(notebook, lesson, lesson.notebook, f"**Time:** {minutes}.{needs}", _links(lesson))
    return notebook


def _minutes(profile: str, number: float) -> str:
    words = "1 minute" if number == 1 else f"{number:g} minutes"
    return f"{words} with `{profile}`" + (" (estimated)" if profile == "gpu" else "")  # no GPU run is stored yet


def _frame(notebook: NotebookNode, lesson: Lesson, path: Path, facts: str, links: str) -> None:
    """Put the generated cells in: facts, badge and bootstrap after the title, links at the end.

    A cell that the source tags `bootstrap` only marks the place for a reader of the source.
    """
    for place in reversed(tagged(notebook, "bootstrap")):
        del notebook.cells[place]
    header = "\n\n".join(x for x in (facts, badge(path.relative_to(lesson.root).as_posix(), lesson.root)) if x)
    first = [new_cell("markdown", header, "course-header")] if header else []
    first.append(new_cell("code", bootstrap(lesson.root), "course-bootstrap", ("bootstrap",)))
    notebook.cells[1:1] = first
    notebook.cells.append(new_cell("markdown", links, "course-links"))


def _links(lesson: Lesson) -> str:
    lessons = all_lessons(lesson.root)
    place = lessons.index(lesson)
    parts = []
    if place > 0:
        parts.append(f"Previous: {_link(lessons[place - 1])}")
    if lesson.exercises.is_file():
        parts.append(f"[Exercises](exercises/{lesson.name}.ipynb)")
    if place + 1 < len(lessons):
        parts.append(f"Next: {_link(lessons[place + 1])}")
    return "---\n" + (" | ".join(parts) or "This is the only lesson so far.")


def _link(lesson: Lesson, folder: str = "") -> str:
    return f"[{lesson.title()}]({folder}{lesson.name}.ipynb)"


def _exercise_pair(path: Path, root: Path, missing: Missing) -> dict[Path, NotebookNode]:
    raw, lesson = read_source(path), Lesson(path.stem, root)
    title_of(raw, path)
    name = path.relative_to(root).as_posix()
    stub, solution = exercise_notebooks(path, fill_source(raw, name, root, missing))
    back = f"Lesson: {_link(lesson, '../')}" if lesson.source.is_file() else ""
    pair = {}
    for notebook, folder, other in ((stub, "exercises", "solutions"), (solution, "solutions", "exercises")):
        target = root / "notebooks" / folder / f"{path.stem}.ipynb"
        link = f"[{other.capitalize()}](../{other}/{path.stem}.ipynb)"
        _frame(notebook, lesson, target, "", "---\n" + " | ".join(x for x in (back, link) if x))
        pair[target] = notebook
    return pair


def _planned(root: Path, missing: Missing) -> dict[Path, NotebookNode]:
    """Everything that `build` writes."""
    lessons = all_lessons(root)
    for left, right in zip(lessons, lessons[1:], strict=False):
        if left.number == right.number:
            raise UserError(f"Two lessons have the number {left.number}: {left.name} and {right.name}.")
    planned: dict[Path, NotebookNode] = {}
    for lesson in lessons:
        notebook = lesson_notebook(lesson, missing)
        _keep_outputs(lesson, notebook)
        planned[lesson.notebook] = notebook
    for path in sorted((root / "notebooks" / "sources" / "exercises").glob("[0-9][0-9]_*.py")):
        planned.update(_exercise_pair(path, root, missing))
    return planned


def _keep_outputs(lesson: Lesson, notebook: NotebookNode) -> None:
    """Copy the stored outputs into `notebook` when they were made from the present source and data."""
    if not lesson.notebook.is_file():
        return
    old = read_notebook(lesson.notebook)
    if old.metadata.get("course", {}).get("hash") != lesson.hash():
        return
    notebook.metadata["course"]["hash"] = lesson.hash()
    copy_outputs(old, notebook)
    stored = read_json(results_path("cpu", lesson.root)).get("lessons", {}).get(lesson.key, {})
    refresh_check(notebook, lesson.key, "cpu", stored)


def copy_outputs(old: NotebookNode, new: NotebookNode) -> None:
    """Give the cells of `new` the outputs and counts that cells of the same id have in `old`."""
    stored = {cell.get("id"): cell for cell in old.cells if cell.cell_type == "code"}
    for cell in new.cells:
        if cell.cell_type == "code" and cell.id in stored:
            cell.outputs = stored[cell.id].outputs
            cell.execution_count = stored[cell.id].execution_count


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook file.

    Raises:
        UserError: it is none.
    """
    import nbformat

    try:
        return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    except Exception as error:
        raise UserError.at(path, found="no valid notebook", do="restore it with git or delete it") from error


def state(lesson: Lesson) -> str:
    """Say why a lesson's stored run is not good: "not run", "stale", or "" when all is well."""
    course = read_notebook(lesson.notebook).metadata.get("course", {}) if lesson.notebook.is_file() else {}
    if "hash" not in course:
        return "not run"
    return "" if course["hash"] == lesson.hash() else "stale"


def build(check: bool = False, root: Path = ROOT) -> list[str]:
    """Write all notebooks from their sources; with `check` write nothing and return what is not in order.

    Returns:
        The files written; with `check` one line for each file that differs from what would be written, has
        no source, or carries no current stored run.

    Raises:
        UserError: a source is wrong. For a number that is not stored yet, everything is written first.
    """
    absent: list[str] = []
    planned = _planned(root, absent.append)
    found = []
    for path, notebook in planned.items():
        text, name = dump(notebook), path.relative_to(root).as_posix()
        same = path.is_file() and path.read_text(encoding="utf-8") == text
        if check and not same:
            how = "differs from its source" if path.is_file() else "is missing"
            found.append(f"{name}: {how} (run: python -m finetune_utils build)")
        elif not check and not same:
            write_text(path, text)
            found.append(name)
    if check:
        found += _orphans(planned, root)
        reasons = {"not run": "has no stored run", "stale": "was changed after its stored run"}
        for lesson in all_lessons(root):
            if reason := reasons.get(state(lesson)):
                found.append(f"{lesson.notebook.relative_to(root).as_posix()}: {reason} (run: make notebooks)")
    if not absent:
        found += build_readme(check, root) + build_guide(check, root)
    if absent:
        more = f" ({len(absent) - 1} more like this)" if len(absent) > 1 else ""
        raise UserError(absent[0] + more)
    return found


def _orphans(planned: Iterable[Path], root: Path) -> list[str]:
    known = set(planned)
    paths = [p for folder in FOLDERS for p in sorted((root / folder).glob("*.ipynb"))]
    return [f"{p.relative_to(root).as_posix()}: has no source (delete it)" for p in paths if p not in known]


def run_lessons(
    names: tuple[str, ...] | list[str] = (),
    profile: str = "cpu",
    output: Path | None = None,
    root: Path = ROOT,
    jobs: int = 0,
) -> bool:
    """Run lessons headless, in order, as a learner would open them; True when all are ok.

    Args:
        names: `4`, `04` or `04_training`; all when empty.
        profile: `smoke`, `cpu` or `gpu`.
        output: for executed copies and results; `build/<profile>` when missing.
        root: the repository.
        jobs: lessons at the same time; 0 takes the profile's number, and never more than there are cores.

    Raises:
        UserError: an unknown lesson or profile.
    """
    lessons = find_lessons(names, root)
    if not lessons:
        raise UserError(f"There are no lessons in {root / 'notebooks'}.")
    for lesson in lessons:
        if not lesson.notebook.is_file():
            raise UserError.at(lesson.notebook, found="no such notebook", do="run `python -m finetune_utils build`")
        if _code(read_notebook(lesson.notebook)) != _code(fresh_notebook(lesson)):
            print(f"note: {lesson.notebook.name} differs from its source; the notebook is what runs")
    jobs = jobs or min(JOBS.get(profile, 1), os.cpu_count() or 1)
    outcomes = run_all(lessons, profile, output or root / "build" / profile, jobs=jobs)
    return all(outcome.ok for outcome in outcomes)


def fresh_notebook(lesson: Lesson) -> NotebookNode:
    """The lesson's notebook as its source gives it, without outputs; numbers that are not stored yet stay open."""
    return lesson_notebook(lesson, missing=lambda message: None)


def _code(notebook: NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]
