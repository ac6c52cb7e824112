"""Exercises: one source gives the stub a learner opens and the solution; both are proven by running them.

The source is `notebooks/sources/exercises/NN_name.py`. A code cell tagged `exercise` holds the task, and
the next cell, tagged `check`, tests it with `assert`, whose message teaches:

    # %% tags=["exercise"]
    def supervised(labels):
        # solution
        return sum(label != -100 for label in labels)
        # stub: raise NotImplementedError("count the labels that are trained on")
        # end solution

    # %% tags=["check"]
    assert supervised([-100, 5, 6]) == 2, "Count every label except -100: ..."

The solution keeps the lines between `# solution` and `# end solution`. The stub gets the lines written as
`# stub: ...` instead (indented as their comment is; `...` when there is none).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UserError
from .results import ROOT
from .sources import Lesson, read_source, tagged, to_notebook

if TYPE_CHECKING:
    from nbformat import NotebookNode

QUIET_KERNEL = "--log-level=ERROR"  # else each kernel warns that it talks over local TCP
START, END, STUB = "# solution", "# end solution", "# stub:"


def split_source(text: str, path: Path | str) -> tuple[str, str]:
    """Return the percent-format texts of the stub and of the solution.

    Raises:
        UserError: naming the line where a marker is out of place.
    """
    stub: list[str] = []
    solution: list[str] = []
    opened: int | None = None
    replacement: list[str] = []
    indent = ""
    for number, line in enumerate(text.split("\n"), start=1):
        mark = line.strip()
        if mark == START:
            if opened is not None:
                raise UserError.at(path, number, found=START, expected=f"{END} for the one in line {opened}")
            opened, replacement = number, []
            indent = line[: len(line) - len(line.lstrip())]
        elif mark == END or mark.startswith(STUB):
            if opened is None:
                raise UserError.at(path, number, found=mark, expected=f"{START} before it")
            if mark == END:
                stub += replacement or [f"{indent}..."]
                opened = None
            else:
                space = line[: len(line) - len(line.lstrip())]
                replacement.append(space + mark.removeprefix(STUB).removeprefix(" "))
        else:
            if opened is not None and line.startswith("# %%"):
                raise UserError.at(path, opened, found=START, expected=f"{END} in the same cell")
            solution.append(line)
            if opened is None:
                stub.append(line)
    if opened is not None:
        raise UserError.at(path, opened, found=START, expected=f"{END} in the same cell")
    return "\n".join(stub), "\n".join(solution)


def exercise_notebooks(path: Path, text: str | None = None) -> tuple[NotebookNode, NotebookNode]:
    """Return the stub and the solution notebook of an exercise source, with the same cell ids.

    `text` replaces what the file says (placeholders filled); ids always come from the file.

    Raises:
        UserError: there is no exercise, one has no solution in it, or its next cell is not its check.
    """
    raw = read_source(path)
    shown_stub, shown_solution = split_source(text or raw, path)
    ids = [cell["id"] for cell in to_notebook(raw).cells]
    stub, solution = to_notebook(shown_stub), to_notebook(shown_solution)
    for notebook in (stub, solution):
        for cell, cell_id in zip(notebook.cells, ids, strict=True):
            cell["id"] = cell_id
    places = tagged(stub, "exercise")
    if not places:
        raise UserError.at(path, found="no exercise", expected='a cell marked # %% tags=["exercise"]')
    for number, place in enumerate(places, start=1):
        if place + 1 not in tagged(stub, "check"):
            raise UserError.at(
                path, found=f"no check after exercise {number}", expected='next cell # %% tags=["check"]'
            )
        if stub.cells[place].source == solution.cells[place].source:
            raise UserError.at(path, found=f"no solution in exercise {number}", expected=f"{START} ... {END}")
    for problem in unexpected_differences(stub, solution):
        raise UserError(f"{path}: {problem}.")
    return stub, solution


def unexpected_differences(stub: NotebookNode, solution: NotebookNode) -> list[str]:
    """Return where a stub differs from its solution outside the cells tagged `exercise`."""
    if len(stub.cells) != len(solution.cells):
        return [f"the stub has {len(stub.cells)} cells and the solution {len(solution.cells)}"]
    found = []
    for number, (left, right) in enumerate(zip(stub.cells, solution.cells, strict=True), start=1):
        free = "exercise" in left.metadata.get("tags", ())
        for field in ("cell_type", "source", "metadata", "id"):
            if left[field] != right[field] and not (free and field == "source"):
                found.append(f"cell {number} differs in {field}, and is no exercise")
    return found


def run_exercises(lesson: Lesson, timeout: int = 120) -> list[str]:
    """Prove a lesson's exercises both ways, in one kernel on the tiny model; return what is wrong.

    In the stub every check must fail with an AssertionError whose message is its own, and nothing else may
    fail except with NotImplementedError. In the solution nothing may fail.
    """
    stub, solution = exercise_notebooks(lesson.exercises)
    _run_in_one_kernel([stub, solution], lesson.root / "notebooks", timeout)
    findings, messages = [], {}
    for number, cell in enumerate(stub.cells, start=1):
        where, error = f"{lesson.name} stub, cell {number}", _error_of(cell)
        if "check" in cell.metadata.get("tags", ()):
            findings += _judge_check(where, error, messages)
        elif error and error["ename"] != "NotImplementedError":
            findings.append(f"{where}: fails with {_say(error)}")
    for number, cell in enumerate(solution.cells, start=1):
        if error := _error_of(cell):
            findings.append(f"{lesson.name} solution, cell {number}: fails with {_say(error)}")
    return findings


def _judge_check(where: str, error: NotebookNode | None, messages: dict[str, str]) -> list[str]:
    if error is None:
        return [f"{where}: the check passes although nothing was solved"]
    if error["ename"] != "AssertionError":
        return [f"{where}: the check fails with {_say(error)}, expected an AssertionError that teaches"]
    message = error["evalue"].strip()
    if not message:
        return [f"{where}: the check fails without a message"]
    if message in messages:
        return [f"{where}: the check says the same as {messages[message]}"]
    messages[message] = where
    return []


def _error_of(cell: NotebookNode) -> NotebookNode | None:
    outputs = cell.get("outputs", ())
    return next((x for x in outputs if x["output_type"] == "error"), None)


def _say(error: NotebookNode) -> str:
    return f"{error['ename']}: {error['evalue'].strip()[:200]}"


def _run_in_one_kernel(notebooks: list[NotebookNode], folder: Path, timeout: int) -> None:
    """Run the notebooks after one another, each starting without names of the one before."""
    from nbclient import NotebookClient

    async def _run() -> None:
        client = NotebookClient(
            notebooks[0],
            timeout=timeout,
            kernel_name="python3",
            allow_errors=True,
            extra_arguments=[QUIET_KERNEL],
            resources={"metadata": {"path": str(folder)}},
        )
        async with client.async_setup_kernel():
            for notebook in notebooks:
                client.nb = notebook
                await client.kc.execute_interactive("%reset -f", silent=True, output_hook=lambda _: None)
                for index, cell in enumerate(notebook.cells):
                    await client.async_execute_cell(cell, index)

    with kernel_environment(FINETUNE_MODEL="tiny", HF_HUB_OFFLINE="1"):
        asyncio.run(_run())


@contextmanager
def kernel_environment(**variables: str) -> Iterator[None]:
    """Set what a headless kernel needs in the environment, and put everything back afterwards.

    The package is found in `ROOT` also when it is not installed.
    """
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    wanted = {
        "FINETUNE_UNDER_RUN": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": path,
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        **variables,
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
