"""Building notebooks from sources: what is generated, kept, blanked and reported."""

import nbformat
import pytest
from toy_course import FIRST, make_course

from finetune_utils import notebooks
from finetune_utils.errors import UserError
from finetune_utils.results import results_path, update_lesson
from finetune_utils.sources import all_lessons


@pytest.fixture
def root(tmp_path):
    make_course(tmp_path)
    update_lesson(results_path("cpu", tmp_path), "cpu", "lesson01", {"values": {"mean": 8.25}})
    notebooks.build(root=tmp_path)
    for lesson in all_lessons(tmp_path):
        pretend_run(lesson)
    assert notebooks.build(root=tmp_path) == []
    assert notebooks.build(check=True, root=tmp_path) == []
    return tmp_path


def pretend_run(lesson):
    """Give every code cell an output, as a stored run would."""
    notebook = read(lesson.notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, start=1):
        cell.execution_count = count
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"output {count}\n")]
    notebook.metadata["course"]["hash"] = lesson.hash()
    lesson.notebook.write_text(notebooks.dump(notebook), encoding="utf-8")


def read(path):
    return nbformat.read(path, as_version=4)


def shown(notebook):
    return [[x.text for x in c.outputs] for c in notebook.cells if c.cell_type == "code"]


def test_all_three_folders_are_written_and_valid(root):
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.ipynb"))
    assert names == [
        "notebooks/01_toy.ipynb",
        "notebooks/02_second.ipynb",
        "notebooks/exercises/01_toy.ipynb",
        "notebooks/solutions/01_toy.ipynb",
    ]
    for name in names:
        nbformat.validate(read(root / name))
        text = (root / name).read_text(encoding="utf-8")
        assert text.endswith("}\n")
        assert '\n "cells": [' in text


def test_a_lesson_gets_minutes_needs_badge_bootstrap_and_links(root):
    first, second = (read(lesson.notebook) for lesson in all_lessons(root))
    header = first.cells[1].source
    assert "1 minute with `smoke`, 3 minutes with `cpu`, 2 minutes with `gpu` (estimated)." in header
    assert "nothing but Python" in header
    assert "/blob/main/notebooks/01_toy.ipynb" in header
    assert first.cells[2].metadata.tags == ["bootstrap"]
    assert first.cells[-1].source.endswith("[Exercises](exercises/01_toy.ipynb) | Next: [Second toy](02_second.ipynb)")
    assert second.cells[-1].source.endswith("Previous: [Toy lesson](01_toy.ipynb)")
    assert first.metadata.kernelspec.name == "python3"


def test_exercises_and_solutions_link_to_each_other_and_to_the_lesson(root):
    exercises = read(root / "notebooks" / "exercises" / "01_toy.ipynb")
    solutions = read(root / "notebooks" / "solutions" / "01_toy.ipynb")
    assert "[Toy lesson](../01_toy.ipynb)" in exercises.cells[-1].source
    assert "(../solutions/01_toy.ipynb)" in exercises.cells[-1].source
    assert "(../exercises/01_toy.ipynb)" in solutions.cells[-1].source
    assert "/notebooks/solutions/01_toy.ipynb" in solutions.cells[1].source


def test_stored_numbers_are_filled_and_change_no_id(root):
    lesson = all_lessons(root)[0]
    before = read(lesson.notebook)
    assert "The stored mean is 8.25 over 2 rows" in before.cells[0].source
    update_lesson(results_path("cpu", root), "cpu", "lesson01", {"values": {"mean": 9.5}})
    assert notebooks.build(check=True, root=root) == [
        "notebooks/01_toy.ipynb: differs from its source (run: python -m finetune_utils build)"
    ]
    assert notebooks.build(root=root) == ["notebooks/01_toy.ipynb"]
    after = read(lesson.notebook)
    assert "The stored mean is 9.50" in after.cells[0].source
    assert [c["id"] for c in after.cells] == [c["id"] for c in before.cells]
    assert shown(after) == shown(before)


def test_a_number_that_is_not_stored_is_an_error_after_all_is_written(root):
    lesson = all_lessons(root)[1]
    text = lesson.source.read_text().replace("# # Second toy", "# # Second toy\n# {{lesson02.gone}} {{study.a.b}}")
    lesson.source.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"02_second\.py:11: placeholder \{\{lesson02\.gone\}\}.*1 more like this"):
        notebooks.build(root=root)
    assert "{{lesson02.gone}}" in read(lesson.notebook).cells[0].source


@pytest.mark.parametrize("changed", ["source", "data"])
def test_a_change_blanks_the_outputs_of_that_lesson_only(root, changed):
    first, second = all_lessons(root)
    kept = shown(read(second.notebook))
    if changed == "source":
        first.source.write_text(FIRST.replace("noise", "noises"), encoding="utf-8")
    else:
        (root / "data" / "toy.jsonl").write_text('{"n": 41}\n', encoding="utf-8")
    assert notebooks.state(first) == "stale"
    told = notebooks.build(check=True, root=root)
    assert "notebooks/01_toy.ipynb: was changed after its stored run (run: make notebooks)" in told
    notebooks.build(root=root)
    assert notebooks.state(first) == "not run"
    assert all(outputs == [] for outputs in shown(read(first.notebook)))
    assert "hash" not in read(first.notebook).metadata.course
    assert shown(read(second.notebook)) == kept
    assert notebooks.build(check=True, root=root) == ["notebooks/01_toy.ipynb: has no stored run (run: make notebooks)"]


@pytest.mark.parametrize("what", ["code", "markdown", "id", "tag", "metadata"])
def test_an_edited_notebook_is_reported(root, what):
    path = root / "notebooks" / "02_second.ipynb"
    notebook = read(path)
    cell = notebook.cells[4]
    if what == "code":
        cell.source += "\n1"
    elif what == "markdown":
        notebook.cells[0].source += "!"
    elif what == "id":
        cell["id"] = "other"
    elif what == "tag":
        cell.metadata["tags"] = ["other"]
    else:
        notebook.metadata["widgets"] = {}
    path.write_text(notebooks.dump(notebook), encoding="utf-8")
    assert any(line.startswith("notebooks/02_second.ipynb: differs") for line in notebooks.build(True, root))


def test_missing_and_orphaned_notebooks_are_reported(root):
    (root / "notebooks" / "solutions" / "01_toy.ipynb").rename(root / "notebooks" / "09_old.ipynb")
    assert notebooks.build(check=True, root=root) == [
        "notebooks/solutions/01_toy.ipynb: is missing (run: python -m finetune_utils build)",
        "notebooks/09_old.ipynb: has no source (delete it)",
    ]


def test_a_checkout_with_windows_line_ends_is_in_order(root):
    for path in root.rglob("*"):
        if path.suffix in (".py", ".ipynb", ".jsonl"):
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert notebooks.build(check=True, root=root) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('# %% tags=["parameters"]', "# %%", "0 cells tagged parameters"),
        ('PROFILE = "cpu"', "SIZE = 7", "expected one that sets PROFILE"),
    ],
)
def test_a_lesson_needs_its_parameters_cell(root, old, new, told):
    source = all_lessons(root)[0].source
    source.write_text(FIRST.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=told):
        notebooks.build(root=root)


def test_two_lessons_cannot_share_a_number(root):
    sources = root / "notebooks" / "sources"
    (sources / "01_twin.py").write_text((sources / "02_second.py").read_text(), encoding="utf-8")
    with pytest.raises(UserError, match="Two lessons have the number 01: 01_toy and 01_twin"):
        notebooks.build(root=root)


def test_a_notebook_that_is_no_json_is_named(root):
    (root / "notebooks" / "01_toy.ipynb").write_text("<<<<<<< HEAD\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"01_toy\.ipynb: found no valid notebook"):
        notebooks.build(check=True, root=root)


def test_run_refuses_what_it_cannot_run(root, tmp_path):
    with pytest.raises(UserError, match="no lesson '9'"):
        notebooks.run_lessons(["9"], "smoke", root=root)
    with pytest.raises(UserError, match="Unknown profile 'huge'"):
        notebooks.run_lessons(["1"], "huge", root=root)
    (root / "notebooks" / "01_toy.ipynb").unlink()
    with pytest.raises(UserError, match="no such notebook; run `python -m finetune_utils build`"):
        notebooks.run_lessons(["1"], "smoke", root=root)
    with pytest.raises(UserError, match="There are no lessons"):
        notebooks.run_lessons([], "smoke", root=root / "data")
