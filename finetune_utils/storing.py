"""Store what lessons measure: `notebooks/results/` and the outputs in the notebooks come from here and from nowhere else."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from .headless import Outcome, run_all
from .notebooks import build, copy_outputs, dump, fresh_notebook, read_notebook, state
from .outputs import clean_outputs, size_problem
from .profiles import PROFILES, shrink_for_slow_cpu
from .results import ROOT, drop_lesson, read_json, results_path, update_lesson, write_text
from .sources import Lesson, all_lessons, find_lessons

WITHOUT_BF16 = shrink_for_slow_cpu(PROFILES["cpu"]).reference


def store(
    names: tuple[str, ...] | list[str] = (), profile: str = "cpu", root: Path = ROOT, force: bool = False
) -> bool:
    """Run the lessons whose source or data changed, store what they give, and build; True when all is ok.

    Outputs are kept for `cpu`; another profile stores its results only, and runs every lesson named. On a CPU without
    bfloat16 the sizes of `cpu` are cut, so its results go to `cpu-fp32.json` and the outputs stay. `force` runs
    unchanged lessons too. With `FINETUNE_SEED` in the environment a run is a repeat: its values are kept beside those
    of the stored run, for the ranges.
    """
    from .course import profile_here  # these import PyTorch, which building does without
    from .hardware import extra_seed

    lessons, reference, seed = find_lessons(names, root), profile_here(profile).reference, extra_seed()
    if profile == "cpu" and not force:
        stale = is_stale if reference == WITHOUT_BF16 else state
        lessons = [lesson for lesson in lessons if stale(lesson)]
    if reference == WITHOUT_BF16 and not seed:
        for lesson in lessons:
            _drop_stale(lesson)  # before it runs: the ranges of another source would fail it
    output, problems = root / "build" / "store", []
    outcomes = run_all(lessons, profile, output, fresh_notebook) if lessons else []
    for outcome in outcomes:
        if outcome.ok:
            keep = _store_repeat if seed else _store_one
            problems += keep(outcome, reference, _measured(outcome, profile, output))
    for line in problems:
        print(line)
    build(root=root)
    print(f"{len(outcomes)} lessons run, {len(all_lessons(root))} built.")
    if outcomes and reference == WITHOUT_BF16:
        print(f"This CPU has no bfloat16: results are in {reference}.json, and the outputs in the notebooks stay.")
    return not problems and all(outcome.ok for outcome in outcomes)


def is_stale(lesson: Lesson) -> bool:
    """Whether the stored run without bfloat16 is missing, or of another source, data or sizes than today's."""
    entry = read_json(results_path(WITHOUT_BF16, lesson.root)).get("lessons", {}).get(lesson.key, {})
    return entry.get("hash") != _sized_hash(lesson)


def _sized_hash(lesson: Lesson) -> str:
    sizes = repr(shrink_for_slow_cpu(PROFILES["cpu"]))
    return hashlib.sha256(f"{lesson.hash()} {sizes}".encode()).hexdigest()


def _drop_stale(lesson: Lesson) -> bool:
    """Take the run without bfloat16 out of the stored results if the lesson has changed since: its ranges are void."""
    path = results_path(WITHOUT_BF16, lesson.root)
    if lesson.key not in read_json(path).get("lessons", {}) or not is_stale(lesson):
        return False
    drop_lesson(path, lesson.key)
    return True


def _measured(outcome: Outcome, profile: str, output: Path) -> dict[str, Any]:
    entry = read_json(output / "results" / f"{profile}.json").get("lessons", {}).get(outcome.lesson.key, {})
    return {name: value for name, value in entry.items() if name not in ("checks", "ranges")}


def _store_repeat(outcome: Outcome, reference: str, measured: dict[str, Any]) -> list[str]:
    """Keep the values of a run with another seed beside the stored run, under the seed."""
    lesson, seed = outcome.lesson, os.environ["FINETUNE_SEED"]
    path = results_path(reference, lesson.root)
    kept = read_json(path).get("lessons", {}).get(lesson.key, {})
    if not kept.get("values"):
        return [
            f"{lesson.name}: FINETUNE_SEED={seed} repeats a stored run, and there is none: store one without it first"
        ]
    update_lesson(
        path, reference, lesson.key, {"repeats": {**kept.get("repeats", {}), seed: measured.get("values", {})}}
    )
    return []


def _store_one(outcome: Outcome, reference: str, measured: dict[str, Any]) -> list[str]:
    lesson = outcome.lesson
    if reference == WITHOUT_BF16:
        measured["hash"] = _sized_hash(lesson)
    update_lesson(results_path(reference, lesson.root), reference, lesson.key, measured)
    if reference != "cpu":
        return []
    if _drop_stale(lesson):
        again = f"FINETUNE_PRECISION=fp32 python -m finetune_utils build --store {lesson.name[:2]}"
        print(f"{lesson.name}: its run without bfloat16 was of an older source and is dropped (renew it: {again})")
    notebook, executed = fresh_notebook(lesson), read_notebook(outcome.executed)
    clean_outputs(executed, lesson.root)
    copy_outputs(executed, notebook)
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
        for result in cell.outputs:
            if result.output_type == "execute_result":
                result.execution_count = count
    notebook.metadata["course"]["hash"] = lesson.hash()
    write_text(lesson.notebook, dump(notebook))
    return size_problem(lesson.notebook)
