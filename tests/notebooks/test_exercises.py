"""Every exercise is proven both ways: the untouched stub fails with its own message, the solution passes."""

import pytest
from toy_course import EXERCISES, make_course

from finetune_utils.exercises import run_exercises
from finetune_utils.sources import all_lessons

LESSONS = [lesson for lesson in all_lessons() if lesson.exercises.is_file()]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
@pytest.mark.usefixtures("only_models")
def test_exercises_are_proven_both_ways(lesson):
    assert run_exercises(lesson) == []


@pytest.fixture
def toy(tmp_path):
    return all_lessons(make_course(tmp_path))[0]


def test_a_good_set_has_no_findings(toy):
    assert run_exercises(toy) == []


BAD = {
    "assert supervised([IGNORE, 5, 6]) == 2, ": (
        "assert supervised([IGNORE, 5, 6]) in (2, None), ",
        "01_toy stub, cell 5: the check passes although nothing was solved",
    ),
    'assert answer == 42, "double(21) should be 42."': (
        "assert answer == 42",
        "01_toy stub, cell 7: the check fails without a message",
    ),
    "    return 2 * x\n": (
        "    return 2 * x + 1\n",
        "01_toy solution, cell 7: fails with AssertionError: double(21) should be 42.",
    ),
    "IGNORE = -101": (
        "IGNORE = -101\n1 / 0",
        "01_toy stub, cell 2: fails with ZeroDivisionError: division by zero",
    ),
    '"Count every label except IGNORE."': (
        '"double(21) should be 42."',
        "01_toy stub, cell 7: the check says the same as 01_toy stub, cell 5",
    ),
    "except NotImplementedError": (
        "except KeyError",
        "01_toy stub, cell 7: the check fails with NotImplementedError: multiply by two, "
        "expected an AssertionError that teaches",
    ),
}


@pytest.mark.parametrize("old", BAD)
def test_a_bad_set_is_found_out(toy, old):
    new, finding = BAD[old]
    assert old in EXERCISES
    toy.exercises.write_text(EXERCISES.replace(old, new), encoding="utf-8")
    assert finding in run_exercises(toy)


def test_a_solution_cannot_lean_on_names_of_the_stub(toy):
    text = EXERCISES.replace(
        "IGNORE = -101", "try:\n    seen\nexcept NameError:\n    seen = True\nelse:\n    1 / 0\nIGNORE = -101"
    )
    toy.exercises.write_text(text, encoding="utf-8")
    assert run_exercises(toy) == []
