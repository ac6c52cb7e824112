"""What a lesson calls: say where it runs, check and record its numbers, read stored ones, show a table."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from . import hardware
from .errors import os_reason
from .profiles import Profile, get_profile, shrink_for_slow_cpu
from .results import ROOT, Value, read_json, results_path, save_ranges, stored, update_lesson
from .tables import OK, UNKNOWN, check_caption, check_rows, show_number, show_range, table_data

__all__ = ["check_run", "environment", "save_ranges", "show_table", "start", "stored"]


def start(profile_name: str) -> Profile:
    """Begin a lesson: fix the seed, say device, precision and sizes, and return the profile.

    `FINETUNE_MODEL` in the environment replaces the profile's models (tests use the tiny one).

    Raises:
        UserError: there is no such profile.
    """
    profile = profile_here(profile_name)
    hardware.quiet()
    hardware.set_seed(0)
    here = hardware.describe()
    print(
        f"Device: {here['device']} ({here['device_name']}). "
        f"Precision: {here['precision']}, because {here['precision_reason']}."
    )
    print(
        f"Profile {profile.name}: model {profile.model}, up to {profile.train_rows:,} training rows "
        f"and {profile.eval_rows:,} scored rows, batches of {profile.batch_size}."
    )
    if profile.shrunk:
        print(
            "Row counts are cut, because this CPU has no bfloat16: expect other numbers than in the text. "
            '"Check your run" compares them with runs of this size.'
        )
    if here["device"] != "cpu" and profile.name == "cpu":
        print('GPU found: try PROFILE = "gpu".')
    return profile


def profile_here(name: str) -> Profile:
    """The profile called `name` as this machine runs it: with fewer rows on a CPU without bfloat16.

    `FINETUNE_MODEL` in the environment replaces the model.

    Raises:
        UserError: an unknown profile.
    """
    profile = get_profile(name)
    if model := os.environ.get("FINETUNE_MODEL"):
        profile = dataclasses.replace(profile, model=model, side_model=model)
    here = hardware.describe()
    slow = (profile.name, here["device"], here["precision"]) == ("cpu", "cpu", "fp32")
    return shrink_for_slow_cpu(profile) if slow else profile


def environment() -> dict[str, str]:
    """What a stored result was measured with: versions, CPU capability, precision."""
    here = hardware.describe()
    return {
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
        "device": here["device"],
        "cpu_capability": here["cpu_capability"],
        "precision": here["precision"],
    }


def check_run(lesson: str, profile: str | Profile, root: Path = ROOT, **values: Value) -> None:
    """Record a lesson's numbers and compare them with the range that stored runs span.

    The table is always printed. The numbers go to `build/results/<profile>.json`, or to the folder that a
    headless run names in `FINETUNE_RESULTS`.

    Args:
        lesson: `lesson04`.
        profile: the profile, or its name. One whose sizes were cut is compared with runs of those sizes.
        root: the repository.
        **values: numbers or True / False, by name.

    Raises:
        AssertionError: under a headless run, when a value is outside its range; every such value is named. In a repeat
            with another seed, or while a changed lesson is stored, only values that are not finite count.
        TypeError: a value is neither a number nor True or False.
    """
    profile = profile_here(profile) if isinstance(profile, str) else profile
    name = profile.name
    numbers = {key: _plain(key, value) for key, value in values.items()}
    stored_run = read_json(results_path(profile.reference, root)).get("lessons", {}).get(lesson, {})
    ranges = stored_run.get("ranges", {})
    rows = check_rows(numbers, ranges)
    show_table(rows, caption=check_caption(lesson, name))
    verdicts = {row["name"]: row["result"] for row in rows}
    known = [key for key in numbers if key in ranges]
    passed = sum(verdicts[key] == OK for key in known)
    finite = {key: value if math.isfinite(value) else None for key, value in numbers.items()}
    folder = Path(os.environ.get("FINETUNE_RESULTS") or root / "build" / "results")
    checks = {"passed": passed, "total": len(known)}
    try:
        entry = {"values": finite, "checks": checks, "environment": environment()}
        update_lesson(folder / f"{name}.json", name, lesson, entry)
    except OSError as error:
        print(f"These numbers could not be saved ({os_reason(error)}).")
        if hardware.under_run():
            raise
    wrong = [key for key in numbers if verdicts[key] not in (OK, UNKNOWN)]
    # The ranges are made from repeats (other seeds, other machines), and those of a lesson that changed are about to be replaced.
    if hardware.repeat_name() or lesson in os.environ.get("FINETUNE_STORING", "").split():
        wrong = [key for key in wrong if not math.isfinite(numbers[key])]
    if wrong and hardware.under_run():
        told = [f"{key} is {show_number(numbers[key])}, expected {show_range(ranges.get(key))}" for key in wrong]
        raise AssertionError(f"{lesson}: " + "; ".join(told))


def _plain(key: str, value: Any) -> int | float | bool:
    """Turn numbers of NumPy and PyTorch into Python's own."""
    if hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, int | float | bool):
        raise TypeError(f"check_run: {key} is {type(value).__name__}, expected a number or True / False")
    return value


def show_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str] | None = None,
    caption: str = "",
    width: int = 50,
) -> None:
    """Show rows as a table whose long texts are wrapped: HTML in a notebook, plain text elsewhere.

    `columns` chooses and orders the columns (default: those of the first row); `width` is that of the widest
    text column in characters.
    """
    data = table_data(rows, columns, caption, width)
    if not _has_display():
        print(data["text/plain"])
        return
    from IPython.display import display

    display(data, raw=True)


def _has_display() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return type(get_ipython()).__name__ == "ZMQInteractiveShell"
