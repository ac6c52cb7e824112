"""Exercises: the stub and the solution made from one source."""

import pytest
from toy_course import EXERCISES, make_course

from finetune_utils.errors import UserError
from finetune_utils.exercises import exercise_notebooks, split_source, unexpected_differences


@pytest.fixture
def path(tmp_path):
    return make_course(tmp_path) / "notebooks" / "sources" / "exercises" / "01_toy.py"


def test_the_solution_is_dropped_from_the_stub():
    stub, solution = split_source(EXERCISES, "x.py")
    assert "def supervised(labels):\n    ...\n" in stub
    assert 'def double(x):\n    raise NotImplementedError("multiply by two")\n\n' in stub
    assert "sum(" not in stub
    assert "    return sum(label != IGNORE for label in labels)\n" in solution
    assert "    return 2 * x\n" in solution
    assert not any(mark in text for text in (stub, solution) for mark in ("# solution", "# end", "# stub"))


def test_both_notebooks_share_their_cell_ids(path):
    stub, solution = exercise_notebooks(path)
    assert [c["id"] for c in stub.cells] == [c["id"] for c in solution.cells]
    assert stub.cells[3].source == "def supervised(labels):\n    ..."
    assert unexpected_differences(stub, solution) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("    # end solution\n", "", r"12: found # solution; expected # end solution in the same cell"),
        ("    # solution\n", "", r"13: found # end solution; expected # solution before it"),
        ("# %%\nIGNORE", "# %%\n# stub: 1\nIGNORE", r"5: found # stub: 1; expected # solution before it"),
        (
            "    # solution\n",
            "    # solution\n    # solution\n",
            r"13: found # solution; expected # end solution for the one in line 12",
        ),
        ('# %% tags=["exercise"]', "# %%", "found no exercise"),
        ('# %% tags=["check"]', "# %%", "no check after exercise 1"),
        (
            "# %%\nIGNORE = -101",
            "# %%\n# solution\nIGNORE = -101\n# end solution",
            "cell 2 differs in source",
        ),
    ],
)
def test_a_marker_out_of_place_is_refused(path, old, new, told):
    assert old in EXERCISES
    path.write_text(EXERCISES.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=told):
        exercise_notebooks(path)


def test_an_exercise_without_a_solution_is_refused(path):
    text = EXERCISES.replace("    # solution\n", "").replace("    # end solution\n", "")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="no solution in exercise 1"):
        exercise_notebooks(path)


def test_an_unclosed_marker_in_the_last_cell_is_refused():
    with pytest.raises(UserError, match=r"x\.py:2: found # solution"):
        split_source("# %%\n# solution\n41", "x.py")


def test_a_difference_outside_the_exercises_is_found(path):
    stub, solution = exercise_notebooks(path)
    solution.cells[1].source = "IGNORE = -102"
    assert unexpected_differences(stub, solution) == ["cell 2 differs in source, and is no exercise"]
    stub.cells[3].metadata["tags"] = ["exercise", "extra"]
    assert len(unexpected_differences(stub, solution)) == 2
    solution.cells.pop()
    assert unexpected_differences(stub, solution) == ["the stub has 7 cells and the solution 6"]
