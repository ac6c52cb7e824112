"""Which cells can be left out is read from names; leaving them out must change nothing for the others."""

import pytest

from finetune_utils.cell_needs import names_in, needed_cells


def test_a_name_that_the_cell_sets_first_is_not_needed():
    assert "x" not in names_in("x = 1\nprint(x)").needs
    assert "x" in names_in("print(x)\nx = 1").needs
    assert "x" in names_in("x = x + 1").needs
    assert "x" in names_in("x += 1").needs


@pytest.mark.parametrize(
    "code",
    [
        "def f():\n    return rows",
        "double = lambda: rows",
        "found = [y for y in rows]",
        "class A:\n    def f(self):\n        return rows",
        "for row in rows:\n    pass",
        "with open(rows) as file:\n    pass",
        "if rows:\n    pass",
        "try:\n    rows\nexcept ValueError:\n    pass",
        "print(f'{len(rows)}')",
        "def f(x=rows):\n    return x",
    ],
)
def test_names_are_found_wherever_they_are_used(code):
    assert "rows" in names_in(code).needs


def test_variables_of_functions_loops_and_comprehensions_are_not_needed():
    code = "for i, (a, b) in enumerate(pairs):\n    print(i, a, b)\n[y for y in range(3)]\ndef f(z):\n    w = z\n    return w"
    assert names_in(code).needs - {"enumerate", "print", "range"} == {"pairs"}
    assert names_in("try:\n    1 / 0\nexcept OSError as error:\n    print(error)").needs - {"print", "OSError"} == set()


def test_a_name_set_in_a_branch_does_not_hide_who_set_it_before():
    cells = ["x = 1", "if flag:\n    x = 2", "print(x)"]
    assert needed_cells(cells, [2]) == {0, 1, 2}
    assert needed_cells(["x = 1", "x = 2", "print(x)"], [2]) == {1, 2}


def test_what_changes_a_thing_in_place_is_needed_by_who_uses_it_later():
    assert needed_cells(["caught = []", "caught.append(1)", "len(caught)"], [2]) == {0, 1, 2}
    assert needed_cells(["d = {}", "d['a'] = 1", "d.b, c = 1, 2", "len(d)"], [3]) == {0, 1, 2, 3}
    assert needed_cells(["model = 1", "result = train(model)", "print(model)"], [2]) == {0, 1, 2}
    assert needed_cells(["model = 1", "result = score(model)", "print(model)"], [2]) == {0, 2}


def test_a_call_of_a_module_changes_nothing():
    assert needed_cells(["import torch", "torch.manual_seed(1)", "torch.ones(2)"], [2]) == {0, 2}


def test_needs_are_followed_through_other_cells():
    cells = ["a = 1", "unused = 5", "def f():\n    return a", "b = f()", "print(b)"]
    assert needed_cells(cells, [4]) == {0, 2, 3, 4}


def test_leaving_the_other_cells_out_changes_no_result():
    cells = [
        "import math\nrows = [1, 2, 3]",
        "for row in rows:\n    last = row",
        "table = [row * 2 for row in rows]",
        "def total(some):\n    return math.fsum(some) + len(rows)",
        "rows.append(4)",
        "lost = table[0]",
        "result = total(table)",
    ]
    kept = needed_cells(cells, [6])
    assert kept == {0, 2, 3, 4, 6}
    everything, some = {}, {}
    for place, code in enumerate(cells):
        exec(code, everything)
        if place in kept:
            exec(code, some)
    assert everything["result"] == some["result"] == 16
