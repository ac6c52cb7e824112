"""Store what lessons measure: `notebooks/results/` and the outputs in the notebooks come from here and from nowhere else."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError
from .exercises import kernel_environment
from .headless import Outcome, run_all
from .notebooks import build, copy_outputs, dump, fresh_notebook, read_notebook, state
from .outputs import clean_outputs, size_problem
from .profiles import PROFILES, shrink_for_slow_cpu
from .results import ROOT, drop_fields, drop_lesson, read_json, results_path, update_lesson, write_text
from .sources import Lesson, all_lessons, find_lessons

WITHOUT_BF16 = shrink_for_slow_cpu(PROFILES["cpu"]).reference


@dataclass(frozen=True)
class _Target:
    """Where the values of one call of `store` go: a profile, its reference, and the name of a repeat (empty: the stored run)."""

    profile: str
    reference: str
    repeat: str

    def stale(self, lesson: Lesson) -> bool:
        """Whether what is stored there is missing, or of another source or other data than today's."""
        if self.reference == WITHOUT_BF16:
            return is_stale(lesson)
        return self.profile == "cpu" and bool(state(lesson))

    def entry(self, lesson: Lesson) -> dict[str, Any]:
        """What is stored there for a lesson."""
        return read_json(results_path(self.reference, lesson.root)).get("lessons", {}).get(lesson.key, {})


def store(
    names: tuple[str, ...] | list[str] = (), profile: str = "cpu", root: Path = ROOT, force: bool = False
) -> bool:
    """Run the lessons whose source or data changed, store what they give, and build; True when all is ok.

    Each lesson is stored when it is through, unless its source or data changed meanwhile. Outputs are kept for `cpu`;
    another profile stores its results only, and runs every lesson named. On a CPU without bfloat16 the sizes of `cpu` are
    cut, so its results go to `cpu-fp32.json` and the outputs stay. `force` runs unchanged lessons too. With `FINETUNE_SEED`
    or `FINETUNE_REPEAT` in the environment a run is a repeat of an unchanged lesson (see `hardware.repeat_name`): its
    values are kept beside those of the stored run, for the ranges. A changed lesson loses its repeats and ranges, which
    were of another source.

    Raises:
        UserError: `FINETUNE_MODEL` is set, or `cpu` would run on another device: the numbers would be of something else.
    """
    target = _target(profile)
    lessons = find_lessons(names, root)
    stale = [lesson for lesson in lessons if target.stale(lesson)]
    problems = []
    if target.repeat:
        problems = [
            _not_repeatable(lesson, target) for lesson in lessons if lesson in stale or not target.entry(lesson)
        ]
        lessons = [lesson for lesson in lessons if lesson not in stale and target.entry(lesson)]
    elif profile == "cpu" and not force:
        lessons = stale
    outcomes = _run_and_keep(lessons, stale, target, root, problems) if lessons else []
    for line in problems:
        print(line)
    build(root=root)
    print(f"{len(outcomes)} lessons run, {len(all_lessons(root))} built.")
    if outcomes and target.reference == WITHOUT_BF16:
        print(
            f"This CPU has no bfloat16: results are in {target.reference}.json, and the outputs in the notebooks stay."
        )
    return not problems and all(outcome.ok for outcome in outcomes)


def _target(profile: str) -> _Target:
    from .course import profile_here  # these import PyTorch, which building does without
    from .hardware import describe, repeat_name

    if model := os.environ.get("FINETUNE_MODEL"):
        raise UserError(f"FINETUNE_MODEL is {model!r}: stored runs are of the course's own model. Unset it.")
    if profile == "cpu" and (device := describe()["device"]) != "cpu":
        raise UserError(
            f"Stored runs of `cpu` are made on a CPU, and this would run on {device}: hide the device first."
        )
    return _Target(profile, profile_here(profile).reference, repeat_name())


def _run_and_keep(
    lessons: list[Lesson], stale: list[Lesson], target: _Target, root: Path, problems: list[str]
) -> list[Outcome]:
    """Run lessons and store each when it is through; what was not stored is told in `problems`."""
    name = f"{target.reference}-{target.repeat}" if target.repeat else target.reference
    output, marks = root / "build" / "store" / name, {lesson.key: _mark(lesson) for lesson in lessons}

    def keep(outcome: Outcome) -> None:
        """Store what one lesson gave, unless it failed or is no longer what was run."""
        lesson = outcome.lesson
        if outcome.ok and _mark(lesson) != marks[lesson.key]:
            problems.append(f"{lesson.name}: its source or data changed while it ran; store it again")
        elif outcome.ok and target.repeat:
            _store_repeat(lesson, target, _measured(outcome, target.profile, output))
        elif outcome.ok:
            problems.extend(_store_one(outcome, target, _measured(outcome, target.profile, output), lesson in stale))

    # The ranges of a changed lesson are void: they must not fail the run that replaces them.
    with kernel_environment(FINETUNE_STORING=" ".join(lesson.key for lesson in stale)):
        return run_all(lessons, target.profile, output, fresh_notebook, done=keep)


def is_stale(lesson: Lesson) -> bool:
    """Whether the stored run without bfloat16 is missing, or of another source, data or sizes than today's."""
    entry = read_json(results_path(WITHOUT_BF16, lesson.root)).get("lessons", {}).get(lesson.key, {})
    return entry.get("hash") != _sized_hash(lesson)


def _sized_hash(lesson: Lesson) -> str:
    sizes = repr(shrink_for_slow_cpu(PROFILES["cpu"]))
    return hashlib.sha256(f"{lesson.hash(shrunk=True)} {sizes}".encode()).hexdigest()


def _mark(lesson: Lesson) -> str:
    """What a run was made from: it changes with any code cell and any data file."""
    return lesson.hash(shrunk=True)


def _not_repeatable(lesson: Lesson, target: _Target) -> str:
    return (
        f"{lesson.name}: a repeat ({target.repeat}) is of the stored {target.reference} run of today's source, and "
        "there is none: store one first, without FINETUNE_SEED and FINETUNE_REPEAT"
    )


def _measured(outcome: Outcome, profile: str, output: Path) -> dict[str, Any]:
    entry = read_json(output / "results" / f"{profile}.json").get("lessons", {}).get(outcome.lesson.key, {})
    return {name: value for name, value in entry.items() if name not in ("checks", "ranges", "profile")}


def _store_repeat(lesson: Lesson, target: _Target, measured: dict[str, Any]) -> None:
    """Keep the values of a run with another seed, or on another machine, beside the stored run."""
    repeats = {**target.entry(lesson).get("repeats", {}), target.repeat: measured.get("values", {})}
    path = results_path(target.reference, lesson.root)
    update_lesson(path, target.reference, lesson.key, {"repeats": repeats})


def _store_one(outcome: Outcome, target: _Target, measured: dict[str, Any], stale: bool) -> list[str]:
    lesson, path = outcome.lesson, results_path(target.reference, outcome.lesson.root)
    if stale and drop_fields(path, lesson.key, ("ranges", "repeats")):
        print(f"{lesson.name}: its ranges were of an older source (renew them: make ranges LESSON={lesson.number})")
    if target.reference == WITHOUT_BF16:
        measured["hash"] = _sized_hash(lesson)
    update_lesson(path, target.reference, lesson.key, measured)
    if target.reference != "cpu":
        return []
    other = results_path(WITHOUT_BF16, lesson.root)
    if lesson.key in read_json(other).get("lessons", {}) and is_stale(lesson):
        drop_lesson(other, lesson.key)  # its ranges are void, too
        again = f"FINETUNE_PRECISION=fp32 python -m finetune_utils build --store {lesson.number}"
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
