"""Timetables for a class: which lessons, how much of each, and when there is a break."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .lesson_plan import Plan

# Minutes after midnight, and minutes.
DAY_STARTS, HALF_DAY_ENDS, DAY_ENDS = 9 * 60, 13 * 60, 17 * 60
LUNCH_FROM, LUNCH_UNTIL = 11 * 60 + 45, 13 * 60
OPENING, BREAK, LUNCH = 15, 15, 60
WELCOME = "Welcome; `doctor` on every laptop"
SHORTEST_STRETCH, LONGEST_STRETCH, LAST_STRETCH = 45, 95, 120


@dataclass(frozen=True)
class Choice:
    """What is taught: all sections or those marked must, and so many exercises of each lesson, the first ones."""

    everything: bool
    exercises: tuple[int, ...]


@dataclass(frozen=True)
class Slot:
    """One line of a timetable."""

    start: int
    minutes: int
    what: str

    @property
    def end(self) -> int:
        """When it is over, in minutes after midnight."""
        return self.start + self.minutes


def half_day(plans: Sequence[Plan]) -> tuple[Choice, list[Slot]]:
    """The fullest half day that ends in time, of the lessons whose notes say `half_day`; else the shortest."""
    chosen = [plan for plan in plans if plan.notes.get("half_day")]
    for choice in choices(chosen):
        day = lay_out(blocks(chosen, choice), with_lunch=False)
        if day[-1].end <= HALF_DAY_ENDS:
            break
    return choice, day


def two_days(plans: Sequence[Plan]) -> tuple[Choice, list[list[Slot]]]:
    """The fullest two days, with all lessons in order, that end in time; else the shortest."""
    for choice in choices(plans):
        todo = [
            blocks([plan], Choice(choice.everything, (n,))) for plan, n in zip(plans, choice.exercises, strict=True)
        ]
        splits = []
        for first in range(len(plans) + 1):
            parts = [[block for lesson in some for block in lesson] for some in (todo[:first], todo[first:])]
            splits.append([lay_out(parts[0]), lay_out(parts[1], "Questions from the first day")])
        days = min(splits, key=lambda split: max(day[-1].end for day in split))
        if max(day[-1].end for day in days) <= DAY_ENDS:
            break
    return choice, days


def choices(plans: Sequence[Plan]) -> list[Choice]:
    """What can be chosen, the fullest first.

    Skippable sections are given up before exercises. Then one exercise after another: the last one of the lesson whose
    remaining exercises take the longest.
    """
    counts = [len(plan.exercises) for plan in plans]
    found = [Choice(True, tuple(counts)), Choice(False, tuple(counts))]
    while any(counts):
        minutes = [sum(x.minutes for x in plan.exercises[:n]) for plan, n in zip(plans, counts, strict=True)]
        counts[minutes.index(max(minutes))] -= 1
        found.append(Choice(False, tuple(counts)))
    return found


def blocks(plans: Sequence[Plan], choice: Choice) -> list[tuple[str, int]]:
    """What fills a day: for each lesson one block to read and run it and one for its exercises, in fives of minutes."""
    found = []
    for plan, count in zip(plans, choice.exercises, strict=True):
        found.append((plan.lesson.title(), in_fives(plan.talk_minutes(choice.everything) + plan.run_minutes)))
        if some := plan.exercises[:count]:
            names = f" {some[0].number}" if count == 1 else f"s {some[0].number} to {some[-1].number}"
            found.append((f"Exercise{names}", in_fives(sum(x.minutes for x in some))))
    return found


def lay_out(todo: Sequence[tuple[str, int]], opening: str = WELCOME, with_lunch: bool = True) -> list[Slot]:
    """Give each block its time, with a break before a stretch gets too long."""
    slots = [Slot(DAY_STARTS, OPENING, opening)]
    rested, had_lunch = DAY_STARTS, not with_lunch
    for number, (what, minutes) in enumerate(todo, start=1):
        now = slots[-1].end
        end = now + minutes
        relief = number == len(todo) or (not had_lunch and LUNCH_FROM <= end <= LUNCH_UNTIL)  # lunch or the end is near
        tired = end - rested > (LAST_STRETCH if relief else LONGEST_STRETCH)
        lunch = not had_lunch and now >= LUNCH_FROM and (tired or end > LUNCH_UNTIL)
        if lunch or (tired and now - rested >= SHORTEST_STRETCH):
            had_lunch = had_lunch or lunch
            slots.append(Slot(now, LUNCH if lunch else BREAK, "Lunch" if lunch else "Break"))
            rested = slots[-1].end
        slots.append(Slot(slots[-1].end, minutes, what))
    return slots


def in_fives(minutes: float) -> int:
    """Round up to a multiple of five."""
    return 5 * int(-(-minutes // 5))


def clock(minutes: int) -> str:
    """Minutes after midnight as a time of day."""
    return f"{minutes // 60}:{minutes % 60:02}"
