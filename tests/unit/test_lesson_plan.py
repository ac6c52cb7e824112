"""A lesson as a teacher sees it: sections with cells and minutes, the notes in its header, and what can be left out."""

import re

import pytest
from toy_course import FIRST, HEADER, make_course

from finetune_utils import notebooks
from finetune_utils.errors import UserError
from finetune_utils.lesson_plan import END, NOTES, START, Plan
from finetune_utils.placeholders import find_typed_numbers
from finetune_utils.results import ROOT, results_path, update_lesson
from finetune_utils.sources import Lesson, all_lessons

BODY = """
# %% [markdown]
# # Toy lesson

# %% tags=["parameters"]
PROFILE = "cpu"

# %% [markdown]
# ## One
# word word
#
# **Predict, then run:** what?

# %%
kept = 1
unused = 2

# %% [markdown]
# Text of one. ## not a heading
#
# ### A detail

# %%
detail = kept

# %% [markdown]
# ## Two

# %%
two = kept

# %%
print(two)

# %% [markdown]
# ## Check your run

# %%
print(kept, two)

# %% [markdown]
# ## Further reading
#
# a b c
"""
TEACHING = """\
#     teaching:
#       skippable: [A detail, Two]
#       watch: {mean: the mean}
#       mistakes: ["They forget {{lesson01.mean:.1f}}."]
"""


@pytest.fixture
def root(tmp_path):
    make_course(tmp_path)
    update_lesson(results_path("cpu", tmp_path), "cpu", "lesson01", {"values": {"mean": 8.25}, "seconds": 90})
    return tmp_path


def toy(root, teaching=TEACHING, body=BODY):
    header = HEADER.replace("#     needs:", teaching + "#     needs:")
    (root / "notebooks" / "sources" / "01_toy.py").write_text(header + body, encoding="utf-8")
    return Plan(Lesson("01_toy", root))


def test_sections_have_their_cells_words_and_predictions(root):
    sections = {section.title: section for section in toy(root).sections}
    assert list(sections) == [START, "One", "A detail", "Two", END]
    assert sections[START].cells == [1, 2], "the bootstrap cell comes first"
    assert sections["One"].cells == [3]
    assert sections["One"].predictions == 1
    assert sections["One"].lines == 2
    assert sections["Two"].cells == [5, 6]
    assert sections[END].cells == [7]
    assert sections[END].words == 0, "the reading list is not read in class"


@pytest.mark.parametrize("lesson", all_lessons(ROOT), ids=lambda lesson: lesson.name)
def test_cells_are_counted_as_in_the_notebook(lesson):
    notebook = notebooks.lesson_notebook(lesson, missing=lambda message: None)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counted = [number for section in Plan(lesson).sections for number in section.cells]
    assert sorted(counted) == list(range(1, len(code) + 1))
    assert "bootstrap" in code[0].metadata["tags"]


def test_a_skippable_section_takes_its_parts_along_but_not_the_next_one(root):
    marked = {s.title: s.skippable for s in toy(root).sections}
    assert marked == {START: False, "One": False, "A detail": True, "Two": True, END: False}
    whole = toy(root, TEACHING.replace("[A detail, Two]", "[One]"))
    assert [s.title for s in whole.sections if s.skippable] == ["One", "A detail"]


def test_cells_may_stay_unrun_when_no_other_section_needs_them(root):
    plan = toy(root)
    assert plan.optional_cells == [4, 6], "the check needs `two`, which cell 5 sets"
    assert toy(root, teaching="").optional_cells == []


def test_minutes_come_from_text_code_predictions_exercises_and_the_stored_run(root):
    plan = toy(root)
    assert plan.talk_minutes() > plan.talk_minutes(everything=False) > 0
    assert plan.run_minutes == 1.5
    assert Plan(Lesson("02_second", root)).run_minutes == 3, "without a stored run the header's estimate"
    assert plan.exercises == [], "the toy's exercises have no minutes in their headings"
    assert sum(x.minutes for x in Plan(Lesson("04_training", ROOT)).exercises) == 30


def test_mistakes_are_filled_with_stored_numbers(root):
    assert toy(root).mistakes() == ["They forget 8.2."]
    with pytest.raises(UserError, match=r"lesson01\.gone"):
        toy(root, TEACHING.replace("lesson01.mean", "lesson01.gone")).mistakes()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[A detail, Two]", "[Three]", "'Three'"),
        ("skippable:", "skipable:", "skipable"),
        ("[A detail, Two]", "Two", "skippable"),
    ],
)
def test_wrong_notes_are_refused(root, old, new, told):
    with pytest.raises(UserError, match=told):
        toy(root, TEACHING.replace(old, new)).sections  # noqa: B018


def test_a_value_to_watch_must_be_stored(root):
    with pytest.raises(UserError, match="watch: median"):
        toy(root, TEACHING.replace("mean: the mean", "median: the median")).watch  # noqa: B018
    assert toy(root).watch == {"mean": "the mean"}


def test_notes_make_no_stored_run_stale_and_stay_out_of_the_notebook(root):
    plain = toy(root, teaching="", body=FIRST.removeprefix(HEADER)).lesson
    before = plain.hash(), notebooks.dump(notebooks.lesson_notebook(plain))
    teaching = TEACHING.replace("[A detail, Two]", "[]")
    noted = toy(root, teaching, body=FIRST.removeprefix(HEADER)).lesson
    assert noted.metadata()["teaching"]
    assert (noted.hash(), notebooks.dump(notebooks.lesson_notebook(noted))) == before


NOTED = [plan for plan in map(Plan, all_lessons(ROOT)) if plan.notes]


def test_lessons_have_notes_for_the_teacher():
    without = {lesson.number for lesson in all_lessons(ROOT)} - {plan.lesson.number for plan in NOTED}
    assert not without


@pytest.mark.parametrize("plan", NOTED, ids=lambda plan: plan.lesson.name)
def test_the_notes_of_a_lesson_fit_it(plan):
    assert set(plan.notes) <= set(NOTES)
    assert 2 <= len(plan.mistakes()) <= 4
    assert 3 <= len(plan.watch) <= 6
    told = "\n".join(plan.notes["mistakes"])
    assert set(re.findall(r"exercise (\d\d\.\d)", told)) <= {exercise.number for exercise in plan.exercises}
    assert find_typed_numbers(re.sub(r"exercise \d\d\.\d", "", told)) == []
    assert 0.5 * plan.talk_minutes() <= plan.talk_minutes(everything=False) < plan.talk_minutes()
    assert plan.optional_cells, "something must be there to leave out"
