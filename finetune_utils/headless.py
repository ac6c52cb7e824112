"""Run lessons headless with papermill: one progress line each, what failed and where, the checks counted."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UserError
from .exercises import QUIET_KERNEL, kernel_environment
from .profiles import get_profile
from .results import read_json, update_lesson
from .sources import Lesson, tagged

if TYPE_CHECKING:
    from nbformat import NotebookNode

# Little of `smoke` computes on more than one core, so two lessons at a time are quicker. Elsewhere they would slow each
# other down, and the seconds of a lesson would say nothing.
JOBS = {"smoke": 2, "cpu": 1, "gpu": 1}
CELL_SECONDS = {"smoke": 600, "cpu": 2_400, "gpu": 7_200}


@dataclass(frozen=True)
class Outcome:
    """What became of one lesson."""

    lesson: Lesson
    executed: Path
    seconds: float
    passed: int
    total: int
    error: str = ""

    @property
    def ok(self) -> bool:
        """True when every cell ran and no check failed."""
        return not self.error


def execute(
    lesson: Lesson,
    profile: str,
    output_dir: Path,
    notebook: NotebookNode | None = None,
    timeout: int = 0,
    results_dir: Path | None = None,
) -> Path:
    """Run a lesson with papermill and return the executed copy, `output_dir/NN_name.ipynb`.

    Args:
        lesson: which one.
        profile: injected as PROFILE.
        output_dir: for the executed copy.
        notebook: what to run instead of the file a learner opens.
        timeout: seconds that one cell may take; 0 takes the profile's.
        results_dir: for the lesson's results, `<profile>.json`; `output_dir/results` when missing.

    Raises:
        UserError: there is no notebook, or no cell tagged `parameters` that sets PROFILE.
        LessonFailed: a cell failed, ran out of time, or ended the kernel.
    """
    get_profile(profile)
    notebook = notebook or _read(lesson.notebook)
    places = tagged(notebook, "parameters")
    if len(places) != 1 or "PROFILE" not in notebook.cells[places[0]].source:
        raise UserError.at(
            lesson.notebook, found=f"{len(places)} cells tagged parameters", expected="one that sets PROFILE"
        )
    executed = output_dir.resolve() / f"{lesson.name}.ipynb"
    executed.parent.mkdir(parents=True, exist_ok=True)
    variables = {"FINETUNE_RESULTS": str((results_dir or output_dir / "results").resolve())}
    if profile != "gpu":
        variables["HF_HUB_OFFLINE"] = "1"
    with kernel_environment(**variables):
        _papermill(lesson, notebook, executed, profile, timeout or CELL_SECONDS[profile])
    last = [cell for cell in _read(executed).cells if cell.cell_type == "code"][-1]
    if last.execution_count is None:
        raise LessonFailed("the kernel ended before the last cell ran (does a cell call sys.exit?)")
    return executed


class LessonFailed(Exception):
    """A lesson did not run to its end; the message names cell and cause in one line."""


def _papermill(lesson: Lesson, notebook: NotebookNode, executed: Path, profile: str, timeout: int) -> None:
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    try:
        papermill.execute_notebook(
            notebook,
            str(executed).replace("{", "{{").replace("}", "}}"),  # papermill calls str.format on paths
            parameters={"PROFILE": profile},
            kernel_name="python3",
            cwd=str(lesson.root / "notebooks"),
            execution_timeout=timeout,
            start_timeout=180,
            progress_bar=False,
            log_output=False,
            extra_arguments=[QUIET_KERNEL],
            request_save_on_cell_execute=False,
        )
    except papermill.PapermillExecutionError as error:
        first = next((x for x in error.source.splitlines() if x.strip() and not x.startswith("#")), "")
        raise LessonFailed(
            f"cell [{error.exec_count}] `{first.strip()[:60]}`: {_one_line(error.ename, error.evalue)}"
        ) from error
    except CellTimeoutError as error:
        raise LessonFailed(f"a cell took longer than {timeout} s") from error
    except DeadKernelError as error:
        raise LessonFailed("the kernel died (out of memory?)") from error


def _one_line(name: str, message: str) -> str:
    text = " ".join(f"{name}: {message}".split())
    return text if len(text) <= 400 else text[:397] + "..."


def _read(path: Path) -> NotebookNode:
    import nbformat

    if not path.is_file():
        raise UserError.at(path, found="no such notebook", do="run `python -m finetune_utils build`")
    return nbformat.read(path, as_version=4)


def run_one(
    lesson: Lesson,
    profile: str,
    output_dir: Path,
    notebook: NotebookNode | None = None,
    place: str = "",
    results_dir: Path | None = None,
) -> Outcome:
    """Run a lesson, print a line when it starts and one when it ends, and count its checks."""
    print(f"{place}{lesson.name} ...", flush=True)
    results_dir = results_dir or output_dir / "results"
    results = results_dir / f"{profile}.json"
    if lesson.key in read_json(results).get("lessons", {}):
        update_lesson(results, profile, lesson.key, {"values": {}, "checks": {}})
    started, error = time.monotonic(), ""
    try:
        execute(lesson, profile, output_dir, notebook, results_dir=results_dir)
    except (LessonFailed, UserError) as failure:
        error = str(failure)
    seconds = time.monotonic() - started
    checks = read_json(results).get("lessons", {}).get(lesson.key, {}).get("checks", {})
    passed, total = checks.get("passed", 0), checks.get("total", 0)
    if not error:
        update_lesson(results, profile, lesson.key, {"seconds": round(seconds, 1)})
    executed = output_dir / f"{lesson.name}.ipynb"
    print(f"{place}{lesson.name} {'FAILED' if error else 'ok'} after {seconds:.1f} s", flush=True)
    if error:
        print(f"    {error}\n    the run so far: {_short(executed, lesson.root)}", flush=True)
    return Outcome(lesson, executed, seconds, passed, total, error)


def run_all(
    lessons: Iterable[Lesson],
    profile: str,
    output_dir: Path,
    notebook_of: Callable[[Lesson], NotebookNode | None] = lambda lesson: None,
    jobs: int = 1,
    done: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Run lessons in order, going on after a failure, and print a table at the end.

    Args:
        jobs: lessons that run at the same time, each in its own process with its share of the cores. Those whose headers
            name most minutes start first: a long one that started last would run alone while the other cores wait.
        done: called with each lesson's outcome, as soon as those before it are through.
    """
    get_profile(profile)
    lessons, outcomes = list(lessons), []
    started = time.monotonic()
    tasks = [
        (lesson, profile, output_dir, notebook_of(lesson), f"[{number}/{len(lessons)}] ")
        for number, lesson in enumerate(lessons, start=1)
    ]
    if jobs > 1 and len(lessons) > 1:
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            threads = max((os.cpu_count() or 1) // jobs, 1)
            started_first = sorted(
                tasks, key=lambda task: -_minutes(task[0], profile)
            )  # stable: else the course's order
            waiting = {task[0]: pool.submit(_run_apart, *task, threads) for task in started_first}
            for lesson in lessons:
                outcomes.append(_joined(waiting[lesson].result(), profile, output_dir))
                done(outcomes[-1])
    else:
        for task in tasks:
            outcomes.append(run_one(*task))
            done(outcomes[-1])
    print(format_outcomes(outcomes, time.monotonic() - started), flush=True)
    return outcomes


def _minutes(lesson: Lesson, profile: str) -> float:
    """The minutes that the lesson's header names for the profile."""
    return lesson.metadata()["minutes"].get(profile, 0)


def _run_apart(
    lesson: Lesson, profile: str, output_dir: Path, notebook: NotebookNode | None, place: str, threads: int
) -> Outcome:
    """`run_one` with a results file of its own, because two processes that write the same one would lose entries."""
    with kernel_environment(OMP_NUM_THREADS=str(threads)):
        return run_one(lesson, profile, output_dir, notebook, place, _apart(output_dir, lesson))


def _apart(output_dir: Path, lesson: Lesson) -> Path:
    return output_dir / "results" / lesson.name


def _joined(outcome: Outcome, profile: str, output_dir: Path) -> Outcome:
    folder, lesson = _apart(output_dir, outcome.lesson), outcome.lesson
    entry = read_json(folder / f"{profile}.json").get("lessons", {}).get(lesson.key, {"values": {}, "checks": {}})
    update_lesson(output_dir / "results" / f"{profile}.json", profile, lesson.key, entry)
    shutil.rmtree(folder, ignore_errors=True)
    return outcome


def format_outcomes(outcomes: list[Outcome], seconds: float) -> str:
    """The table that ends a run: lesson, seconds, checks passed of those with a reference, ok; `seconds` is the whole run."""
    width = max([len(x.lesson.name) for x in outcomes] + [len("lesson")])
    lines = [f"{'lesson':<{width}}  {'seconds':>7}  {'checks':>6}  ok"]
    for x in outcomes:
        checks = f"{x.passed}/{x.total}" if x.total else "none"
        lines.append(f"{x.lesson.name:<{width}}  {x.seconds:7.1f}  {checks:>6}  {'yes' if x.ok else 'NO'}")
    good = sum(x.ok for x in outcomes)
    return "\n".join([*lines, f"{good} of {len(outcomes)} lessons ok in {seconds:.0f} s"])


def _short(path: Path, root: Path) -> str:
    return os.path.relpath(path, root) if path.resolve().is_relative_to(root.resolve()) else str(path)
