"""The ranges of "Check your run": what was seen, widened by its span."""

import json

import pytest

from finetune_utils.ranges import range_of, seeds_for


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
    rows = [
        {"seed": 0, "control": "", "x": 7.5},
        {"seed": 1, "control": "", "x": 8.5},
        {"seed": 0, "control": "c", "x": 99},
    ]
    (folder / "a.json").write_text(json.dumps({"settings": {"lesson": "lesson77"}, "rows": rows}))
    (folder / "b.json").write_text(json.dumps({"settings": {}, "rows": [{"x": -3}]}))
    assert seeds_for("lesson77", tmp_path) == {"x": [7.5, 8.5]}
    assert seeds_for("lesson78", tmp_path) == {}
