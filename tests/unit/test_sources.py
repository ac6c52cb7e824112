"""Lesson sources: names, metadata, hash, cell ids, bootstrap."""

import os
import subprocess

import pytest
from toy_course import FIRST, HEADER, make_course

from finetune_utils import sources
from finetune_utils.errors import UserError


@pytest.fixture
def root(tmp_path):
    return make_course(tmp_path)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ((), ["01_toy", "02_second"]),
        (("2",), ["02_second"]),
        (("02",), ["02_second"]),
        (("02_second", "1"), ["01_toy", "02_second"]),
        (("01_toy.ipynb",), ["01_toy"]),
    ],
)
def test_lessons_go_by_number_or_name(root, names, found):
    assert [lesson.name for lesson in sources.find_lessons(names, root)] == found


def test_an_unknown_lesson_lists_those_there_are(root):
    with pytest.raises(UserError, match="no lesson '7': choose from 01_toy, 02_second"):
        sources.find_lessons(["7"], root)


def test_the_title_is_the_first_heading(root):
    lesson = sources.all_lessons(root)[0]
    assert lesson.title() == "Toy lesson"
    assert (lesson.number, lesson.key) == ("01", "lesson01")
    lesson.source.write_text(FIRST.replace("# # Toy lesson\n", "# Toy lesson\n"), encoding="utf-8")
    with pytest.raises(UserError, match=r"01_toy\.py:9: found no title"):
        lesson.title()


@pytest.mark.parametrize("broken", [FIRST.removeprefix(HEADER), FIRST.replace("cpu: 3", "cpu: soon")])
def test_minutes_are_required(root, broken):
    lesson = sources.all_lessons(root)[0]
    lesson.source.write_text(broken, encoding="utf-8")
    with pytest.raises(UserError, match="no minutes by profile"):
        lesson.metadata()


def test_the_hash_sees_source_and_data_and_not_line_ends(root):
    lesson = sources.all_lessons(root)[0]
    first = lesson.hash()
    data = root / "data" / "toy.jsonl"
    for path in (data, lesson.source):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert lesson.hash() == first
    data.write_text('{"n": 7}\n{"n": 10}\n', encoding="utf-8")
    second = lesson.hash()
    lesson.source.write_text(FIRST.replace("noise", "noises"), encoding="utf-8")
    assert len({first, second, lesson.hash()}) == 3


def test_what_only_a_shrunk_profile_runs_is_no_part_of_a_run_at_full_size(root):
    lesson = sources.all_lessons(root)[0]
    before = lesson.hash(), lesson.hash(shrunk=True), [cell.id for cell in sources.to_notebook(lesson.text()).cells]
    block, line = "if profile.shrunk:\n    # fewer rows\n    rows = rows[:2]\n", "mean = sum("
    assert sources.at_full_size(f"{block}n = 1\n{block}") == "n = 1\n"
    lesson.source.write_text(FIRST.replace("# %%\nimport json", f"# %%\n{block}\n# %%\nimport json"), encoding="utf-8")
    assert block in lesson.text()
    assert (lesson.hash(), lesson.hash(shrunk=True)) == (before[0], lesson.hash(shrunk=True))
    lesson.source.write_text(FIRST.replace(line, block + line), encoding="utf-8")
    after = lesson.hash(), lesson.hash(shrunk=True), [cell.id for cell in sources.to_notebook(lesson.text()).cells]
    assert block in lesson.text()
    assert (before[0], before[2]) == (after[0], after[2])
    assert before[1] != after[1]


@pytest.mark.parametrize(
    "code",
    [
        "if profile.shrunk:\n    n = 2\nelse:\n    n = 3",
        "for row in rows:\n    if profile.shrunk:\n        break",
        "if not profile.shrunk:\n    n = 2",
        "if profile.shrunk or small:\n    n = 2",
        "n = 2 if profile.shrunk else 3",
        "if profile.shrunk:\n    n = (",
        "table\nif profile.shrunk:\n    n = 2",
    ],
)
def test_nothing_else_is_taken_out(code):
    assert sources.at_full_size(code) == code


def test_the_hash_sees_every_file_of_a_data_folder(root):
    lesson = sources.all_lessons(root)[0]
    lesson.source.write_text(FIRST.replace("toy.jsonl]", "adapters]", 1), encoding="utf-8")
    with pytest.raises(UserError, match="data: adapters"):
        lesson.hash()
    (root / "data" / "adapters" / "inner").mkdir(parents=True)
    part = root / "data" / "adapters" / "inner" / "weights.bin"
    part.write_bytes(b"\x07")
    first = lesson.hash()
    part.write_bytes(b"\x09")
    assert lesson.hash() != first


def test_a_changed_cell_does_not_renumber_the_others():
    before = sources.to_notebook(FIRST).cells
    after = sources.to_notebook(FIRST.replace('print("profile"', 'print("Profile"')).cells
    differing = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a["id"] != b["id"]]
    assert differing == [3]


def test_equal_cells_get_different_ids_and_filled_numbers_change_none():
    twice = "# %%\n17\n\n# %%\n17\n"
    first, second = (cell["id"] for cell in sources.to_notebook(twice).cells)
    assert second == f"{first}-2"
    shown = sources.to_notebook(FIRST, FIRST.replace("{{lesson01.mean:.2f}}", "8.00"))
    assert "8.00" in shown.cells[0].source
    assert [c["id"] for c in shown.cells] == [c["id"] for c in sources.to_notebook(FIRST).cells]


def test_the_badge_appears_once_the_repository_has_an_owner(root):
    wanted = "https://colab.research.google.com/github/someone/toy-course/blob/main/notebooks/01_toy.ipynb"
    assert wanted in sources.badge("notebooks/01_toy.ipynb", root)
    project = root / "pyproject.toml"
    project.write_text(project.read_text().replace("someone", "OWNER"), encoding="utf-8")
    assert sources.badge("notebooks/01_toy.ipynb", root) == ""


def run_bootstrap(root, monkeypatch):
    commands, folders = [], []
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    monkeypatch.setattr(os, "chdir", folders.append)
    monkeypatch.setattr("sys.path", ["sentinel"])
    exec(sources.bootstrap(root), {})
    return commands, folders


def test_the_bootstrap_cell_does_nothing_outside_colab(root, monkeypatch):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    assert run_bootstrap(root, monkeypatch) == ([], [])


def test_the_bootstrap_cell_fetches_the_course_on_colab(root, monkeypatch):
    import sys

    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-x")
    (clone, install), folders = run_bootstrap(root, monkeypatch)
    assert clone[:2] == ["git", "clone"]
    assert clone[-2:] == ["https://github.com/someone/toy-course", "/content/toy-course"]
    assert "--no-deps" in install
    assert install[-1] == "/content/toy-course"
    assert folders == ["/content/toy-course/notebooks"]
    assert sys.path == ["/content/toy-course", "sentinel"]


def test_the_bootstrap_cell_is_short_and_leaves_the_big_packages_alone(root):
    code = sources.bootstrap(root)
    assert len(code.splitlines()) <= 12
    assert not any(name in code for name in ("torch", "numpy", "pandas"))


def test_a_header_that_is_no_yaml_is_one_line_that_names_the_lesson(root):
    lesson = sources.all_lessons(root)[0]
    broken = FIRST.replace("needs: nothing but Python", "needs: [Better at what?]")
    assert broken != FIRST
    lesson.source.write_text(broken, encoding="utf-8")
    with pytest.raises(UserError, match="header of 'Toy lesson' is no valid YAML: .*expected"):
        lesson.metadata()
