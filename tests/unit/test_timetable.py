"""Timetables end in time, have breaks, and hold all lessons in order."""

from types import SimpleNamespace

import pytest

from finetune_utils import timetable
from finetune_utils.timetable import DAY_ENDS, HALF_DAY_ENDS, LAST_STRETCH, Choice, choices, half_day, lay_out, two_days

RESTS = ("Break", "Lunch")


def plan(number, talk=60, skippable=15, run=4.0, exercises=(5, 10, 10), half=False):
    return SimpleNamespace(
        lesson=SimpleNamespace(title=lambda: f"Lesson {number:02}: Toy"),
        notes={"half_day": half},
        run_minutes=run,
        talk_minutes=lambda everything=True: talk if everything else talk - skippable,
        exercises=[SimpleNamespace(number=f"{number:02}.{i}", minutes=m) for i, m in enumerate(exercises, start=1)],
    )


def stretches(slots):
    """Minutes from one rest to the next."""
    found = [0]
    for slot in slots:
        if slot.what in RESTS:
            found.append(0)
        else:
            found[-1] += slot.minutes
    return found


def no_gaps(slots):
    return all(left.end == right.start for left, right in zip(slots, slots[1:], strict=False))


def test_slots_follow_each_other_with_a_break_before_it_gets_long():
    slots = lay_out([("a", 60), ("b", 60), ("c", 60), ("d", 60), ("e", 60)])
    assert no_gaps(slots)
    assert max(stretches(slots)) <= LAST_STRETCH
    assert [slot.what for slot in slots].count("Lunch") == 1
    assert slots[-1].what == "e", "a day does not end with a break"


def test_lunch_comes_about_noon_and_a_half_day_has_none():
    blocks = [("x", 50)] * 6
    (lunch,) = [slot for slot in lay_out(blocks) if slot.what == "Lunch"]
    assert 11 * 60 + 45 <= lunch.start <= 13 * 60
    assert not [slot for slot in lay_out(blocks, with_lunch=False) if slot.what == "Lunch"]


def test_the_half_day_takes_the_lessons_that_are_marked_and_as_much_as_fits():
    plans = [plan(n, half=n in (1, 4, 5)) for n in range(1, 8)]
    choice, slots = half_day(plans)
    assert [slot.what for slot in slots if slot.what.startswith("Lesson")] == [f"Lesson 0{n}: Toy" for n in (1, 4, 5)]
    assert slots[-1].end <= HALF_DAY_ENDS
    assert not choice.everything
    short, _ = half_day([plan(1, talk=20, skippable=5, half=True)])
    assert short == Choice(True, (3,)), "all of a short lesson fits"


@pytest.mark.parametrize("count", [1, 2, 8, 10])
def test_two_days_hold_all_lessons_in_order_and_end_in_time(count):
    _, days = two_days([plan(n) for n in range(1, count + 1)])
    told = [slot.what for day in days for slot in day if slot.what.startswith("Lesson")]
    assert told == [f"Lesson {n:02}: Toy" for n in range(1, count + 1)]
    assert all(day[-1].end <= DAY_ENDS and no_gaps(day) for day in days)
    assert max(max(stretches(day)) for day in days) <= LAST_STRETCH


def test_more_lessons_leave_less_time_for_exercises():
    some, _ = two_days([plan(n) for n in range(1, 9)])
    more, _ = two_days([plan(n) for n in range(1, 11)])
    assert sum(more.exercises) / 10 < sum(some.exercises) / 8


def test_too_much_for_the_time_is_shown_as_it_is():
    choice, days = two_days([plan(n, talk=300, skippable=0) for n in range(4)])
    assert max(day[-1].end for day in days) > DAY_ENDS
    assert choice.exercises == (0, 0, 0, 0)


def test_skippable_sections_are_given_up_before_exercises_and_long_exercises_first():
    found = choices([plan(1, exercises=(5, 5)), plan(2, exercises=(5, 10, 15))])
    assert found[:3] == [Choice(True, (2, 3)), Choice(False, (2, 3)), Choice(False, (2, 2))]
    assert found[-1] == Choice(False, (0, 0))
    assert len(found) == len(set(found))


def test_blocks_are_rounded_up_to_five_minutes():
    assert timetable.in_fives(41) == 45
    assert timetable.in_fives(40) == 40
    assert timetable.blocks([plan(1, exercises=(7,))], Choice(True, (1,))) == [
        ("Lesson 01: Toy", 65),
        ("Exercise 01.1", 10),
    ]
    assert timetable.clock(9 * 60 + 5) == "9:05"
