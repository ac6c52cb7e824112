"""What a teacher needs to know about a lesson: its sections, their minutes and cells, and the notes in its header.

The notes are the `teaching` part of the metadata in a lesson's source, and every field may be left out:

    #   course:
    #     teaching:
    #       half_day: true                      # the lesson is part of the half-day workshop
    #       skippable: [Heading, Other heading] # sections that the rest of the lesson can do without
    #       waits: [Heading]                    # where the cells that take long are
    #       watch: {name: what it is}           # values of "Check your run" to put on the wall
    #       mistakes: [A sentence or two., ...] # two to four that learners make in this lesson
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .cell_needs import needed_cells
from .errors import UserError
from .placeholders import fill_markdown
from .results import read_json, results_path
from .sources import Lesson, read_source, to_notebook

# What a minute in class holds. Nothing measured: change them when your class is quicker.
WORDS_A_MINUTE, LINES_A_MINUTE, MINUTES_A_PREDICTION = 120, 10, 2
START, END = "Title and first cells", "Check your run and summary"
ENDINGS = {"Check your run", "What you learned", "Where this breaks", "Further reading"}
NOTES = {"half_day": bool, "skippable": list, "waits": list, "watch": dict, "mistakes": list}
EXERCISE = re.compile(r"^# ## (\d\d\.\d) (.+) \((\w+), (\d+) minutes\)", re.MULTILINE)


@dataclass
class Section:
    """One section of a lesson. `cells` are counted as a notebook counts them when it is run from the top."""

    title: str
    level: int
    cells: list[int]
    skippable: bool = False
    words: int = 0
    lines: int = 0
    predictions: int = 0

    @property
    def minutes(self) -> int:
        """Whole minutes to read the text, go through the code and make the predictions; running not included."""
        talk = self.words / WORDS_A_MINUTE + self.lines / LINES_A_MINUTE + self.predictions * MINUTES_A_PREDICTION
        return max(1, round(talk))


@dataclass(frozen=True)
class Exercise:
    """One exercise: its number (`04.1`), title, level and minutes, as its heading says."""

    number: str
    title: str
    level: str
    minutes: int


@dataclass(frozen=True)
class Plan:
    """A lesson as a teacher sees it."""

    lesson: Lesson

    @cached_property
    def notes(self) -> dict[str, Any]:
        """The `teaching` part of the lesson's metadata.

        Raises:
            UserError: an unknown field, or one of the wrong type.
        """
        notes = self.lesson.metadata().get("teaching") or {}
        for name, value in notes.items():
            if not isinstance(value, NOTES.get(name, ())):
                known = ", ".join(f"{field} ({kind.__name__})" for field, kind in NOTES.items())
                raise UserError.at(self.lesson.source, 1, found=f"teaching: {name}: {value!r}", expected=known)
        return notes

    @cached_property
    def sections(self) -> list[Section]:
        """The sections in order, the last ones (check, summary, reading) as one.

        Raises:
            UserError: the notes name a heading that the lesson does not have.
        """
        found = _merge_endings(_read_sections(self.lesson))
        titles = {section.title for section in found}
        for name in [*self.notes.get("skippable", []), *self.notes.get("waits", [])]:
            if name not in titles:
                raise UserError.at(
                    self.lesson.source, 1, found=f"teaching: {name!r}", expected="a heading of the lesson"
                )
        inside = False
        for section in found:  # a section takes those below it along
            named = section.title in self.notes.get("skippable", [])
            inside = named if section.level == 2 else inside
            section.skippable = named or inside
        return found

    @cached_property
    def optional_cells(self) -> list[int]:
        """The cells that need not run: they are in skippable sections, and no other section needs them."""
        codes = [cell.source for cell in _cells(self.lesson) if cell.cell_type == "code"]
        taught = [number for section in self.sections if not section.skippable for number in section.cells]
        needed = needed_cells(codes, [number - 1 for number in taught])
        return [number for number in range(1, len(codes) + 1) if number - 1 not in needed]

    @cached_property
    def exercises(self) -> list[Exercise]:
        """The lesson's exercises; none when it has no file for them."""
        path = self.lesson.exercises
        found = EXERCISE.findall(read_source(path)) if path.is_file() else []
        return [Exercise(number, title, level, int(minutes)) for number, title, level, minutes in found]

    @cached_property
    def stored(self) -> dict[str, Any]:
        """The stored cpu run: `values`, `ranges`, `seconds`; empty when there is none."""
        return read_json(results_path("cpu", self.lesson.root)).get("lessons", {}).get(self.lesson.key, {})

    @property
    def run_minutes(self) -> float:
        """Minutes that all cells take: of the stored run, else what the header estimates for `cpu`."""
        seconds = self.stored.get("seconds")
        return seconds / 60 if seconds is not None else float(self.lesson.metadata()["minutes"].get("cpu", 0))

    def talk_minutes(self, everything: bool = True) -> int:
        """Minutes of reading and talking, with or without the skippable sections."""
        return sum(section.minutes for section in self.sections if everything or not section.skippable)

    @property
    def watch(self) -> dict[str, str]:
        """The values to look at, by name, with what each one is.

        Raises:
            UserError: the stored run has no value of that name.
        """
        watch = self.notes.get("watch", {})
        for name in watch if self.stored else ():
            if name not in self.stored.get("values", {}):
                raise UserError.at(self.lesson.source, 1, found=f"teaching: watch: {name}", expected="a stored value")
        return watch

    def mistakes(self) -> list[str]:
        """The common mistakes, with stored numbers filled in."""
        name = self.lesson.source.relative_to(self.lesson.root).as_posix()
        return [fill_markdown(str(text), name, self.lesson.root) for text in self.notes.get("mistakes", [])]


def _cells(lesson: Lesson) -> list[Any]:
    """The cells as in the notebook that `build` writes: one bootstrap cell, after the title."""
    cells = [cell for cell in to_notebook(lesson.text()).cells if "bootstrap" not in cell.metadata.get("tags", ())]
    first = next((i for i, cell in enumerate(cells) if cell.cell_type == "code"), len(cells))
    bootstrap = type(cells[0])(cell_type="code", source="", metadata={})
    return [*cells[:first], bootstrap, *cells[first:]]


def _read_sections(lesson: Lesson) -> list[Section]:
    found, number = [Section(START, 2, [])], 0
    for cell in _cells(lesson):
        if cell.cell_type == "code":
            number += 1
            found[-1].cells.append(number)
            found[-1].lines += len([line for line in cell.source.splitlines() if line.strip()])
            continue
        for line in cell.source.splitlines():
            if heading := re.match(r"(##+) +(.+)", line):
                found.append(Section(heading[2].strip(), len(heading[1]), []))
            else:
                found[-1].words += len(line.split())
                found[-1].predictions += line.count("**Predict")
    return found


def _merge_endings(sections: list[Section]) -> list[Section]:
    """Put check, summary and limits together; nobody reads the code of the check or the reading list in class."""
    kept = [section for section in sections if section.title not in ENDINGS]
    last = Section(END, 2, [])
    for section in sections:
        if section.title in ENDINGS:
            last.cells += section.cells
            last.words += section.words if section.title != "Further reading" else 0
    return [*kept, last] if last.cells or last.words else kept
