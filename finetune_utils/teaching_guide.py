"""The tables of docs/teaching.md: timetables and one page a lesson, made from the lessons' metadata and stored runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from .lesson_plan import LINES_A_MINUTE, MINUTES_A_PREDICTION, WORDS_A_MINUTE, Plan, Section
from .readme import build_readme
from .results import ROOT
from .sources import all_lessons
from .tables import show_number, show_range
from .timetable import Choice, Slot, clock, half_day, two_days

GUIDE = "docs/teaching.md"
NO_MISTAKES = "None are written down yet. The messages of the exercises' checks name the usual ones."
MEMORY = re.compile(r"about (\d+) GB of free memory")


def build_guide(check: bool = False, root: Path = ROOT) -> list[str]:
    """Fill docs/teaching.md; with `check` only say whether it differs."""
    return build_readme(check, root, TABLES, GUIDE)


def overview(root: Path = ROOT) -> str:
    """One line a lesson: minutes of each kind and the memory it needs."""
    lines = [
        "| lesson | read and talk | of that skippable | run | exercises | free memory |",
        "|---|---|---|---|---|---|",
    ]
    totals = [0, 0, 0.0, 0]
    for plan in _plans(root):
        talk, run = plan.talk_minutes(), plan.run_minutes
        numbers = [talk, talk - plan.talk_minutes(False), run, sum(x.minutes for x in plan.exercises)]
        totals = [a + b for a, b in zip(totals, numbers, strict=True)]
        name, memory = (
            plan.lesson.title().removeprefix("Lesson "),
            MEMORY.search(str(plan.lesson.metadata().get("needs"))),
        )
        shown = f"{run:.1f}" + ("" if plan.stored else " (estimate)")
        told = f"{memory[1]} GB" if memory else "-"
        lines.append(f"| [{name}](#{_anchor(name)}) | {numbers[0]} | {numbers[1]} | {shown} | {numbers[3]} | {told} |")
    lines.append(f"| **together** | {totals[0]} | {totals[1]} | {totals[2]:.0f} | {totals[3]} | |")
    counted = f"{WORDS_A_MINUTE} words or {LINES_A_MINUTE} lines of code a minute, {MINUTES_A_PREDICTION} minutes a prediction"
    told = f"Minutes. Reading and talking: {counted}. Running: the stored run on 2 cores. Exercises: as their headings say."
    return "\n".join(lines) + f"\n\n{told}\n"


def half_day_table(root: Path = ROOT) -> str:
    """The half-day timetable."""
    plans = _plans(root)
    if not any(plan.notes.get("half_day") for plan in plans):
        return "No lesson is marked for the half day.\n"
    choice, slots = half_day(plans)
    return _told(choice, [plan for plan in plans if plan.notes.get("half_day")]) + "\n\n" + _timetable(slots)


def two_days_table(root: Path = ROOT) -> str:
    """The timetables of both days."""
    plans = _plans(root)
    choice, days = two_days(plans)
    parts = [_told(choice, plans)]
    parts += [f"**Day {number}**\n\n{_timetable(slots)}" for number, slots in enumerate(days, start=1)]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def lesson_pages(root: Path = ROOT) -> str:
    """One screen a lesson: sections, what to expect, common mistakes."""
    return "\n\n".join(lesson_page(plan) for plan in _plans(root)) + "\n"


def lesson_page(plan: Plan) -> str:
    """What a teacher needs to teach one lesson."""
    lesson, parts = plan.lesson, []
    places = {"Lesson": "notebooks", "exercises": "notebooks/exercises", "solutions": "notebooks/solutions"}
    links = [f"[{n}](../{at}/{lesson.name}.ipynb)" for n, at in places.items() if n == "Lesson" or plan.exercises]
    parts.append(f"### {lesson.title().removeprefix('Lesson ')}\n\n{', '.join(links)}. {_waits(plan)}")
    parts.append(_sections(plan))
    parts.append(_unrun(plan))
    parts.append(_expected(plan))
    mistakes = [f"* {text}" for text in plan.mistakes()] or [NO_MISTAKES]
    parts.append("**Common mistakes**\n\n" + "\n".join(mistakes))
    return "\n\n".join(part for part in parts if part)


def cell_ranges(cells: Iterable[int]) -> str:
    """Numbers of cells as a teacher sees them: `[1], [3-5]`."""
    runs: list[list[int]] = []
    for cell in sorted(cells):
        if runs and cell == runs[-1][1] + 1:
            runs[-1][1] = cell
        else:
            runs.append([cell, cell])
    return ", ".join(f"[{first}]" if first == last else f"[{first}-{last}]" for first, last in runs)


def _plans(root: Path) -> list[Plan]:
    return [Plan(lesson) for lesson in all_lessons(root)]


def _told(choice: Choice, plans: Sequence[Plan]) -> str:
    every = sum(len(plan.exercises) for plan in plans)
    sections = "all sections" if choice.everything else "the sections marked must"
    return f"You teach {sections} of {len(plans)} lessons, and {sum(choice.exercises)} of their {every} exercises."


def _timetable(slots: Sequence[Slot]) -> str:
    lines = ["| time | minutes | what |", "|---|---|---|"]
    lines += [f"| {clock(slot.start)} | {slot.minutes} | {slot.what} |" for slot in slots]
    return "\n".join([*lines, f"| {clock(slots[-1].end)} | | End |"]) + "\n"


def _waits(plan: Plan) -> str:
    minutes = max(1, round(plan.run_minutes))
    told = f"The cells take about {minutes} minute{'s' if minutes > 1 else ''} together."
    if waits := plan.notes.get("waits"):
        names = " and ".join(f"*{name}*" for name in waits)
        told += f" The long wait{'s are' if len(waits) > 1 else ' is'} in {names}: start the cell, then talk."
    return told


def _sections(plan: Plan) -> str:
    """Two lists of sections, each with its cells and minutes; the parts of a section are counted in it."""
    rows: list[tuple[Section, list[int], list[int]]] = []  # head, cells, minutes
    parent = 0
    for section in plan.sections:
        fold = rows and section.level > 2 and section.skippable == rows[parent][0].skippable
        if not fold:
            rows.append((section, [], []))
            parent = len(rows) - 1 if section.level == 2 else parent
        place = parent if fold else len(rows) - 1
        rows[place][1].extend(section.cells)
        rows[place][2].append(section.minutes)
    told = []
    for name, skippable in (("Must", False), ("Skippable", True)):
        some = [(head.title, cells, sum(minutes)) for head, cells, minutes in rows if head.skippable is skippable]
        if some:
            total = sum(minutes for _, _, minutes in some)
            listed = "; ".join(f"{title} ({_in_cells(cells)}{minutes} min)" for title, cells, minutes in some)
            told.append(f"**{name}, {total} minutes:** {listed}.")
    return "\n\n".join(told)


def _in_cells(cells: Sequence[int]) -> str:
    return f"{cell_ranges(cells)}, " if cells else ""


def _unrun(plan: Plan) -> str:
    """Which cells of the skippable sections may stay unrun, and which may not."""
    skippable = {cell for section in plan.sections if section.skippable for cell in section.cells}
    if not skippable:
        return ""
    optional = set(plan.optional_cells)
    unrun, silent = skippable & optional, skippable - optional
    told = f"**Cells:** {cell_ranges(unrun)} may stay unrun." if unrun else "**Cells:** run every one."
    if silent:
        them = "it" if len(silent) == 1 else "them"
        told += f" Run {cell_ranges(silent)} even when you skip the talk: a later cell or the check needs {them}."
    return told


def _expected(plan: Plan) -> str:
    """The values to put on the wall, with the ranges of "Check your run"."""
    if not plan.stored:
        return "**Expect.** This lesson has no stored run yet."
    values, ranges = plan.stored.get("values", {}), plan.stored.get("ranges", {})
    if not plan.watch:
        return f'**Expect.** "Check your run" prints {len(values)} values at the end of the lesson.'
    lines = ["| expect | stored run | range |", "|---|---|---|"]
    for name, what in plan.watch.items():
        whole = isinstance(values[name], bool)  # yes or no, with nothing in between
        shown = "-" if name not in ranges else "the same" if whole else show_range(ranges[name])
        lines.append(f"| {what} | {show_number(values[name])} | {shown} |")
    return "\n".join(lines) + ("" if ranges else "\n\nThis lesson has no ranges yet.")


def _anchor(heading: str) -> str:
    """The link target that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


TABLES = {"overview": overview, "half_day": half_day_table, "two_days": two_days_table, "lessons": lesson_pages}
