"""The ranges of "Check your run": from the stored run, from runs on other machines, and from the spread of seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import UserError
from .results import ROOT, read_json, results_path, save_ranges
from .sources import find_lessons

# Other processors and library versions round differently; a run may differ by so much without being wrong.
RELATIVE, ABSOLUTE = 0.02, 0.01
# Without bfloat16 there are more kinds of processors, and fewer rows, of which a single one counts for more. And where a
# training was repeated in the other size only, its spread there is all that is known.
WIDE = (0.05, 0.03)
# A `..._gap` this small is the rounding between two ways to compute the same: it may grow to so much or tenfold, no further.
ROUNDING, SAME = 1e-3, 1e-4
# What the lessons promise on every machine, where nothing better is known. How much freed memory a process keeps is the
# allocator's affair: on one machine the same float32 steps took 2.5 GB at their peak in one hour and 3.2 GB in another.
PROMISED = {"memory_error": (-0.25, 0.25)}
# Endings of names whose values no machine repeats: times, and which texts rounding to 4 bits happens to leave alone. What
# comes after a threshold that the run itself chose has no seeds yet.
NO_RANGE = ("_seconds", "_speed", "packed_same", "_shifted", "_shifted_low", "_shifted_high")
# The same lesson with other sizes: how much seeds move a value in one tells how much they may in the other.
OTHER_SIZE = {"cpu": "cpu-fp32", "cpu-fp32": "cpu"}


def range_of(
    values: Sequence[float],
    name: str = "",
    elsewhere: Sequence[float] = (),
    least: tuple[float, float] = (RELATIVE, ABSOLUTE),
) -> tuple[float, float]:
    """The range in which another seed should fall: the values seen, widened by their span on both sides.

    Three runs show about half of the spread that many runs would. The margin is never below the relative and the absolute
    one of `least`, nor below the span of the same value `elsewhere`, in runs of another size. But a value below `ROUNDING`
    whose `name` ends in `_gap` has no margin: such a distance between two ways to compute the same stays tiny anywhere.
    """
    low, high = min(values), max(values)
    if all(isinstance(value, bool) for value in values):
        return float(low), float(high)
    if name.endswith("_gap") and low >= 0 and high < ROUNDING:
        return 0.0, max(SAME, 10 * high)
    span = max(elsewhere) - min(elsewhere) if elsewhere else 0.0
    margin = max(high - low, span, least[0] * max(abs(low), abs(high)), least[1])
    return low - margin, high + margin


def compute_ranges(lessons: Sequence[str] = (), profile: str = "cpu", root: Path = ROOT) -> None:
    """Store the ranges of lessons: around the stored value and those that other machines and other seeds gave.

    Values that no machine repeats (see `NO_RANGE`) have none: a lesson names them `..._seconds` or `..._speed`.

    Raises:
        UserError: a lesson has no stored run.
    """
    seen = {lesson: seen_values(profile, lesson.key, root) for lesson in find_lessons(list(lessons), root)}
    missing = [lesson.name for lesson, found in seen.items() if not found]
    if missing:
        how = "FINETUNE_PRECISION=fp32 make notebooks" if profile == "cpu-fp32" else "make notebooks"
        raise UserError(f"{', '.join(missing)}: no stored {profile} run; run `{how}` first.")
    for lesson, found in seen.items():
        other = seen_values(OTHER_SIZE[profile], lesson.key, root) if profile in OTHER_SIZE else {}
        # A run on another machine says how it rounds, and nothing about seeds or about how memory is freed.
        here = seen_values(profile, lesson.key, root, machines=False)
        borrowed = _repeated(other) and not _repeated(here)
        least = WIDE if profile == "cpu-fp32" or borrowed else (RELATIVE, ABSOLUTE)
        ranges = {}
        for name, values in found.items():
            if name.endswith(NO_RANGE):
                continue
            promised = PROMISED.get(name) if profile == "cpu-fp32" or len(here[name]) == 1 else None
            ranges[name] = promised or range_of(values, name, other.get(name, []), least)
        save_ranges(profile, lesson.key, ranges, root)
        print(f"{lesson.name}: {len(ranges)} ranges")


def _repeated(found: Mapping[str, Sequence[float]]) -> bool:
    """Whether any value was seen in more than one run."""
    return any(len(values) > 1 for values in found.values())


def seen_values(profile: str, lesson: str, root: Path = ROOT, machines: bool = True) -> dict[str, list[float]]:
    """Every value of a lesson's stored run, by name, followed by what its repeats and, on `cpu`, studies saw.

    Repeats are runs with another seed or on another machine (see `hardware.repeat_name`); the latter only with `machines`.
    """
    entry = read_json(results_path(profile, root)).get("lessons", {}).get(lesson, {})
    seeds = seeds_for(lesson, root) if profile == "cpu" else {}
    repeats = [run for name, run in entry.get("repeats", {}).items() if machines or name.rpartition("-")[2].isdecimal()]
    return {
        name: [value, *seeds.get(name, []), *(r[name] for r in repeats if r.get(name) is not None)]
        for name, value in entry.get("values", {}).items()
        if value is not None
    }


def seeds_for(lesson: str, root: Path = ROOT) -> Mapping[str, list[float]]:
    """What other runs measured, by name: the rows of every stored study that names `lesson` in its settings, as the
    `lesson` of its seeds and controls or among those that it `repeats_of`.

    Rows with a `control` are left out: they are runs that went wrong on purpose.
    """
    found: dict[str, list[float]] = {}
    for path in sorted((root / "notebooks" / "studies").glob("*.json")):
        study = read_json(path)
        settings = study.get("settings", {})
        if lesson not in (settings.get("lesson"), *settings.get("repeats_of", ())):
            continue
        for row in study["rows"]:
            if not row.get("control"):
                for name in [key for key, value in row.items() if key not in ("seed", "control") and value is not None]:
                    found.setdefault(name, []).append(row[name])
    return found
