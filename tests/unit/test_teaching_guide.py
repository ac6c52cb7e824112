"""docs/teaching.md is made from lessons and stored runs, and what it promises is there."""

import re

import pytest
from toy_course import make_course

from finetune_utils import teaching_guide
from finetune_utils.__main__ import cli
from finetune_utils.lesson_plan import Plan
from finetune_utils.notebooks import build
from finetune_utils.readme import BLOCK
from finetune_utils.results import ROOT, results_path, update_lesson
from finetune_utils.sources import all_lessons
from finetune_utils.teaching_guide import GUIDE, TABLES, build_guide, cell_ranges, lesson_page

PAGE = "# Toy\n" + "".join(f"<!-- begin {name} -->\n<!-- end {name} -->\n" for name in TABLES)


@pytest.fixture
def root(tmp_path):
    make_course(tmp_path)
    update_lesson(results_path("cpu", tmp_path), "cpu", "lesson01", {"values": {"mean": 8.25}, "seconds": 90})
    (tmp_path / "docs").mkdir()
    (tmp_path / GUIDE).write_text(PAGE, encoding="utf-8")
    return tmp_path


def text():
    return (ROOT / GUIDE).read_text(encoding="utf-8")


def test_lessons_without_notes_stored_run_or_exercises_have_a_page_too(root):
    assert build_guide(root=root) == [GUIDE]
    made = (root / GUIDE).read_text(encoding="utf-8")
    assert "### Toy lesson" in made
    assert "### Second toy" in made
    assert "This lesson has no stored run yet" in made
    assert "None are written down yet" in made
    assert "| 3.0 (estimate) |" in made
    assert "No lesson is marked for the half day." in made


def test_build_writes_the_guide_and_its_check_finds_an_old_one(root):
    assert GUIDE in build(root=root)
    assert GUIDE not in build(root=root)
    update_lesson(results_path("cpu", root), "cpu", "lesson01", {"seconds": 600})
    told = [line for line in build(check=True, root=root) if GUIDE in line]
    assert told == [f"{GUIDE}: its tables differ from the stored runs (run: python -m finetune_utils build)"]
    (root / GUIDE).unlink()
    assert not [line for line in build(root=root) if GUIDE in line], "a course without the page needs none"


def test_a_new_lesson_appears_by_itself(root):
    build_guide(root=root)
    source = root / "notebooks" / "sources" / "02_second.py"
    new = source.read_text(encoding="utf-8").replace("# # Second toy", "# # Third toy")
    (source.parent / "03_third.py").write_text(new, encoding="utf-8")
    assert build_guide(check=True, root=root)
    build_guide(root=root)
    made = (root / GUIDE).read_text(encoding="utf-8")
    assert "### Third toy" in made
    assert re.search(r"\| \d+:\d\d \| \d+ \| Third toy \|", made), "in the timetable, too"


def test_the_guide_has_every_table_and_every_lesson():
    assert [match[2] for match in BLOCK.finditer(text())] == list(TABLES)
    for lesson in all_lessons(ROOT):
        assert f"### {lesson.title().removeprefix('Lesson ')}\n" in text()


def test_links_in_the_guide_lead_somewhere():
    headings = {teaching_guide._anchor(line.lstrip("# ")) for line in text().splitlines() if line.startswith("#")}
    targets = re.findall(r"\]\(([^)]+)\)", text())
    assert len(targets) > 20
    for target in targets:
        there = target[1:] in headings if target.startswith("#") else (ROOT / "docs" / target).exists()
        assert there, target


def test_commands_in_the_guide_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    spans = "\n".join(re.findall(r"`([^`\n]+)`", text()))
    targets, commands = re.findall(r"\bmake ([a-z-]+)", spans), re.findall(r"-m finetune_utils ([a-z-]+)", spans)
    assert {"offline-kit", "course", "lab"} <= set(targets)
    assert {"doctor", "check-kit", "build"} <= set(commands)
    assert set(commands) <= set(cli.commands)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("lesson", all_lessons(ROOT), ids=lambda lesson: lesson.name)
def test_a_lesson_fits_on_a_screen(lesson):
    page = lesson_page(Plan(lesson))
    lines = sum(1 + len(re.sub(r"\]\([^)]*\)", "", line)) // 130 for line in page.splitlines() if line)
    assert lines <= 40


def test_a_sentence_names_cells_as_jupyter_does():
    assert cell_ranges([5, 3, 4, 9, 11, 12]) == "[3-5], [9], [11-12]"
    assert cell_ranges([]) == ""


def test_ranges_and_yes_or_no_values_are_shown(root):
    source = root / "notebooks" / "sources" / "01_toy.py"
    notes = "#     teaching:\n#       watch: {mean: the mean, held: it held, free: no range}\n#     needs:"
    source.write_text(source.read_text(encoding="utf-8").replace("#     needs:", notes), encoding="utf-8")
    entry = {"values": {"mean": 8.25, "held": True, "free": 1.5}, "ranges": {"mean": [8, 9], "held": [1.0, 1.0]}}
    update_lesson(results_path("cpu", root), "cpu", "lesson01", entry)
    page = lesson_page(Plan(all_lessons(root)[0]))
    assert "| the mean | 8.25 | 8 to 9 |" in page
    assert "| it held | yes | the same |" in page
    assert "| no range | 1.5 | - |" in page
