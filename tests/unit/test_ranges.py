"""The ranges of "Check your run": what was seen, widened by its span."""

import json

import pytest
from toy_course import make_course

from finetune_utils.errors import UserError
from finetune_utils.ranges import compute_ranges, range_of, seeds_for
from finetune_utils.results import ROOT, read_json, results_path, update_lesson, write_text
from finetune_utils.sources import all_lessons
from finetune_utils.storing import is_stale


def test_a_range_holds_what_was_seen_and_a_margin_of_its_span():
    low, high = range_of([2.0, 2.5, 3.0])
    assert low == pytest.approx(1.0)
    assert high == pytest.approx(4.0)


def test_a_single_value_still_gets_a_margin():
    assert range_of([50.0]) == pytest.approx((49.0, 51.0))
    assert range_of([0.0]) == pytest.approx((-0.01, 0.01))


def test_a_gap_of_rounding_must_stay_one():
    assert range_of([5e-7], "trainer_gap") == (0.0, 1e-4)
    assert range_of([8e-5, 3e-5], "merged_gap") == pytest.approx((0.0, 8e-4))
    assert range_of([0.2], "rounded_gap") == pytest.approx((0.19, 0.21))  # a real difference
    assert range_of([5e-7], "loss") == pytest.approx((-0.01, 0.01), abs=1e-6)


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
    (folder / "c.json").write_text(
        json.dumps({"settings": {"repeats_of": ["lesson76", "lesson77"]}, "rows": [{"y": 5}]})
    )
    assert seeds_for("lesson77", tmp_path) == {"x": [7.5, 8.5], "y": [5]}
    assert seeds_for("lesson76", tmp_path) == {"y": [5]}
    assert seeds_for("lesson78", tmp_path) == {}


def studies_of_seeds():
    """Stored studies whose rows are seeds and controls of a lesson's run."""
    found = []
    for path in sorted((ROOT / "notebooks" / "studies").glob("*.json")):
        study = read_json(path)
        if "lesson" in study.get("settings", {}):
            found.append(pytest.param(study, id=path.stem))
    return found


@pytest.mark.parametrize("study", studies_of_seeds())
def test_every_stored_seed_passes_and_every_control_fails_the_check_of_its_lesson(study):
    """A check that a run with shuffled answers or with learning rate 0 passes would be worth nothing."""
    lesson = read_json(results_path("cpu"))["lessons"][study["settings"]["lesson"]]
    ranges = lesson["ranges"]
    controls = set()
    for row in study["rows"]:
        outside = [n for n, v in row.items() if n in ranges and not ranges[n][0] <= v <= ranges[n][1]]
        if row["control"]:
            controls.add(row["control"])
            assert outside, f"the control {row['control']!r} passes"
        else:
            assert not outside, f"seed {row['seed']} fails {outside}"
    untrained = {"lesson07": "zero-shot"}.get(study["settings"]["lesson"], "learning rate 0")
    assert untrained in controls  # a model that learned nothing
    assert len(controls) >= 2
    assert len({row["seed"] for row in study["rows"]}) >= 3


@pytest.mark.parametrize(
    ("study", "control", "names"),
    [
        ("assistant", "learning rate 0", ["unseen_tuned", "reworded_tuned", "redirect_tuned"]),
        ("assistant", "shuffled answers", ["reworded_tuned"]),  # on unseen facts the manner alone lowers the NLL
        ("forecaster", "zero-shot", ["yes_no_brier", "stated_brier", "valid"]),
        ("forecaster", "shuffled outcomes", ["yes_no_brier", "stated_brier"]),
    ],
)
def test_on_fewer_rows_too_a_model_that_learned_nothing_fails(study, control, names):
    content = read_json(ROOT / "notebooks" / "studies" / f"{study}.json")
    row = next(row for row in content["rows"] if row["control"] == control)
    stored = read_json(results_path("cpu-fp32"))["lessons"]
    if content["settings"]["lesson"] not in stored:
        pytest.skip("no run without bfloat16 is stored: FINETUNE_PRECISION=fp32 python -m finetune_utils build --store")
    ranges = stored[content["settings"]["lesson"]]["ranges"]
    for name in names:
        low, high = ranges[name]
        assert not low <= row[name] <= high, f"{name} of the control is {row[name]}, inside {low} to {high}"


def test_the_runs_without_bfloat16_are_of_the_lessons_as_they_are():
    stored = read_json(results_path("cpu-fp32"))["lessons"]
    lessons = {lesson.key: lesson for lesson in all_lessons()}
    assert stored
    assert not [key for key in stored if is_stale(lessons[key])], "build --store with FINETUNE_PRECISION=fp32"
    assert all(entry["ranges"] and entry["environment"]["precision"] == "fp32" for entry in stored.values())


@pytest.mark.parametrize("profile", ["cpu", "cpu-fp32"])
def test_every_stored_repeat_passes_the_check_of_its_lesson(profile):
    stored = read_json(results_path(profile))["lessons"]
    repeats = [
        (lesson, name, run) for lesson, entry in stored.items() for name, run in entry.get("repeats", {}).items()
    ]
    assert repeats
    for lesson, name, run in repeats:
        ranges = stored[lesson]["ranges"]
        checked = {key: value for key, value in run.items() if key in ranges and value is not None}
        assert len(checked) >= 10, f"{lesson}: the repeat {name} is of another lesson"
        outside = {key: value for key, value in checked.items() if not ranges[key][0] <= value <= ranges[key][1]}
        assert not outside, f"{lesson}: run `make ranges` after the repeat {name}"


@pytest.mark.parametrize("lesson", ["lesson04", "lesson06"])
def test_every_repeat_of_the_memory_measurement_passes_in_its_lessons(lesson):
    low, high = read_json(results_path("cpu"))["lessons"][lesson]["ranges"]["memory_error"]
    repeats = seeds_for(lesson)["memory_error"]
    assert len(repeats) >= 5
    assert all(low <= value <= high for value in repeats)
    assert -0.25 < low < high < 0.25  # what the lessons promise of the estimate


def test_repeats_of_a_stored_run_widen_its_ranges(tmp_path):
    make_course(tmp_path)
    entry = {"values": {"x": 5.0, "same": True}, "repeats": {"1": {"x": 6.0, "same": True}, "2": {"x": 5.5}}}
    update_lesson(results_path("cpu-fp32", tmp_path), "cpu-fp32", "lesson01", entry)
    compute_ranges(["1"], "cpu-fp32", tmp_path)
    stored = read_json(results_path("cpu-fp32", tmp_path))["lessons"]["lesson01"]
    assert stored["ranges"] == {"x": [4.0, 7.0], "same": [1.0, 1.0]}


def test_a_run_on_another_machine_widens_a_range_and_is_no_other_seed(tmp_path):
    make_course(tmp_path)
    values = {"x": 5.0, "y": 1.0, "memory_error": 0.1}
    for profile, entry in {
        "cpu": {"values": values, "repeats": {"amd-zen4": {"x": 6.0, "y": 1.01, "memory_error": 0.1}}},
        "cpu-fp32": {"values": {"y": 1.0}, "repeats": {"1": {"y": 1.0}}},
    }.items():
        update_lesson(results_path(profile, tmp_path), profile, "lesson01", entry)
    compute_ranges(["1"], "cpu", tmp_path)
    ranges = read_json(results_path("cpu", tmp_path))["lessons"]["lesson01"]["ranges"]
    assert ranges["x"] == [4.0, 7.0]
    assert ranges["y"] == pytest.approx(
        [0.9495, 1.0605]
    )  # the wide margin of a lesson whose seeds are in the other size
    assert ranges["memory_error"] == [-0.25, 0.25]
    other_seed = {"repeats": {"amd-zen4-1": {"y": 1.01, "memory_error": 0.1}}}
    update_lesson(results_path("cpu", tmp_path), "cpu", "lesson01", other_seed)
    compute_ranges(["1"], "cpu", tmp_path)
    ranges = read_json(results_path("cpu", tmp_path))["lessons"]["lesson01"]["ranges"]
    assert ranges["y"] == pytest.approx([0.9798, 1.0302])
    assert ranges["memory_error"] == pytest.approx([0.09, 0.11])


def test_a_spread_seen_elsewhere_widens_a_range_that_one_run_makes(tmp_path):
    assert range_of([5.0], "x", [7.0, 7.5, 6.0]) == pytest.approx((3.5, 6.5))
    assert range_of([5.0, 9.0], "x", [7.0, 7.5]) == pytest.approx((1.0, 13.0))  # its own is wider
    assert range_of([5e-7], "x_gap", [0.0, 0.5]) == (0.0, 1e-4)
    make_course(tmp_path)
    for profile, entry in {
        "cpu": {"values": {"x": 5.0, "y": 1.0}},
        "cpu-fp32": {"values": {"x": 6.0, "z": 100.0}, "repeats": {"1": {"x": 7.5}}},
    }.items():
        update_lesson(results_path(profile, tmp_path), profile, "lesson01", entry)
        update_lesson(results_path(profile, tmp_path), profile, "lesson01", {"ranges": {"x": [-99, 99]}})
    for _ in range(2):  # ranges are made from values, never from ranges
        compute_ranges(["1"], "cpu", tmp_path)
        compute_ranges(["1"], "cpu-fp32", tmp_path)
    stored = {
        name: read_json(results_path(name, tmp_path))["lessons"]["lesson01"]["ranges"] for name in ("cpu", "cpu-fp32")
    }
    # y was seen once, in a lesson that was repeated in the other size only
    assert stored == {"cpu": {"x": [3.5, 6.5], "y": [0.95, 1.05]}, "cpu-fp32": {"x": [4.5, 9.0], "z": [95.0, 105.0]}}
    with pytest.raises(UserError, match="02_second: no stored cpu run"):
        compute_ranges(["2"], "cpu", tmp_path)


def test_without_bfloat16_or_from_a_single_run_the_memory_estimate_may_be_off_by_what_the_lessons_promise(tmp_path):
    make_course(tmp_path)
    for profile in ("cpu", "cpu-fp32"):
        entry = {"values": {"memory_error": -0.18, "packed_same": 0.5}, "repeats": {"1": {"memory_error": -0.18}}}
        update_lesson(results_path(profile, tmp_path), profile, "lesson01", entry)
        compute_ranges(["1"], profile, tmp_path)
    ranges = [read_json(results_path(name, tmp_path))["lessons"]["lesson01"]["ranges"] for name in ("cpu", "cpu-fp32")]
    assert ranges[0] == {"memory_error": pytest.approx([-0.19, -0.17])}  # which texts stay the same is luck: no range
    assert ranges[1] == {"memory_error": [-0.25, 0.25]}
    update_lesson(results_path("cpu", tmp_path), "cpu", "lesson02", {"values": {"memory_error": -0.18}})
    compute_ranges(["2"], "cpu", tmp_path)
    assert read_json(results_path("cpu", tmp_path))["lessons"]["lesson02"]["ranges"] == {"memory_error": [-0.25, 0.25]}


def test_a_value_that_a_study_does_not_have_is_left_out(tmp_path):
    make_course(tmp_path)
    rows = [{"seed": 0, "x": 4.0, "y": None}, {"seed": 1, "x": None, "y": 2.0}]
    write_text(
        tmp_path / "notebooks" / "studies" / "s.json", json.dumps({"settings": {"lesson": "lesson01"}, "rows": rows})
    )
    assert seeds_for("lesson01", tmp_path) == {"x": [4.0], "y": [2.0]}


def test_no_range_is_stored_when_one_lesson_has_no_run(tmp_path):
    make_course(tmp_path)
    update_lesson(results_path("cpu-fp32", tmp_path), "cpu-fp32", "lesson01", {"values": {"x": 5.0}})
    with pytest.raises(UserError, match="02_second: no stored cpu-fp32 run; run `FINETUNE_PRECISION=fp32 make"):
        compute_ranges([], "cpu-fp32", tmp_path)
    assert "ranges" not in read_json(results_path("cpu-fp32", tmp_path))["lessons"]["lesson01"]
