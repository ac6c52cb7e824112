"""Every lesson runs alone on `smoke`, from a cache that holds only the models."""

import os

import pytest

from finetune_utils.headless import run_one
from finetune_utils.results import read_json
from finetune_utils.sources import all_lessons


@pytest.mark.timeout(900)
@pytest.mark.parametrize("lesson", all_lessons(), ids=lambda lesson: lesson.name)
def test_a_lesson_runs_alone(lesson, only_models, tmp_path):
    outcome = run_one(lesson, "smoke", tmp_path / "out")
    assert outcome.ok, outcome.error
    entry = read_json(tmp_path / "out" / "results" / "smoke.json")["lessons"][lesson.key]
    assert entry.get("values"), "the lesson records nothing: end it with course.check_run(...)"
    assert outcome.passed == outcome.total
    for folder in (only_models / "models").iterdir():
        assert folder.is_symlink(), f"the lesson made {folder.name} again instead of using the cached copy"
    assert os.environ.get("FINETUNE_UNDER_RUN") is None
