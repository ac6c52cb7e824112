"""The ranges of "Check your run": wide enough for another seed, too narrow for a run that learned nothing."""

import json

import pytest

from finetune_utils.ranges import range_of, seeds_for
from finetune_utils.results import ROOT, read_json, results_path

LEARNED = ("reworded_drop", "reworded_tuned", "unseen_change", "unseen_tuned", "redirect_tuned")


def test_a_range_holds_what_was_seen_and_a_margin_of_its_span():
    low, high = range_of([2.0, 2.5, 3.0])
    assert low == pytest.approx(1.0)
    assert high == pytest.approx(4.0)


def test_a_single_value_still_gets_a_margin():
    assert range_of([50.0]) == pytest.approx((49.0, 51.0))
    assert range_of([0.0]) == pytest.approx((-0.01, 0.01))


def test_a_truth_value_has_no_margin():
    assert range_of([True]) == (1.0, 1.0)


def test_seeds_come_from_studies_that_name_the_lesson_and_controls_are_left_out(tmp_path):
    folder = tmp_path / "notebooks" / "studies"
    folder.mkdir(parents=True)
    rows = [{"seed": 0, "control": "", "x": 7.5}, {"seed": 1, "control": "", "x": 8.5}, {"seed": 0, "control": "c", "x": 99}]
    (folder / "a.json").write_text(json.dumps({"settings": {"lesson": "lesson77"}, "rows": rows}))
    (folder / "b.json").write_text(json.dumps({"settings": {}, "rows": [{"x": -3}]}))
    assert seeds_for("lesson77", tmp_path) == {"x": [7.5, 8.5]}
    assert seeds_for("lesson78", tmp_path) == {}


def stored_study():
    study = read_json(ROOT / "notebooks" / "studies" / "assistant.json")
    assert study, "notebooks/studies/assistant.json is missing: run `make study NAME=assistant`"
    return study


def test_every_stored_seed_lies_inside_the_stored_ranges():
    ranges = read_json(results_path("cpu"))["lessons"]["lesson04"]["ranges"]
    rows = [row for row in stored_study()["rows"] if not row["control"]]
    assert len({row["seed"] for row in rows}) >= 3
    for row in rows:
        for name in LEARNED:
            assert ranges[name][0] <= row[name] <= ranges[name][1], f"seed {row['seed']}: {name}"


@pytest.mark.parametrize("control", ["shuffled answers", "learning rate 0"])
def test_a_run_that_could_not_learn_falls_outside_the_stored_ranges(control):
    ranges = read_json(results_path("cpu"))["lessons"]["lesson04"]["ranges"]
    row = next(row for row in stored_study()["rows"] if row["control"] == control)
    outside = [name for name in LEARNED if not ranges[name][0] <= row[name] <= ranges[name][1]]
    assert "reworded_drop" in outside
    assert "reworded_tuned" in outside
