"""Stored results: lookup by key, merging, whole-or-nothing writing."""

import json

import pytest

from finetune_utils import results
from finetune_utils.errors import UserError


@pytest.fixture
def root(tmp_path):
    results.update_lesson(
        results.results_path("cpu", tmp_path),
        "cpu",
        "lesson04",
        {"values": {"nll_after": 2.375, "count": 17, "flag": False}, "seconds": 311.5},
    )
    study = tmp_path / "notebooks" / "studies" / "curve.json"
    content = {"values": {"nll_200": 3.625}, "rows": [{"n": 200}], "settings": {"seed": 7}, "hash": "ab"}
    results.write_text(study, json.dumps(content))
    (tmp_path / "data").mkdir()
    rows = '{"fact": "a"}\n{"fact": "a"}\n{"fact": "b"}\n'
    (tmp_path / "data" / "facts.jsonl").write_text(rows, encoding="utf-8")
    (tmp_path / "data" / "games.csv").write_text("home,away\nLAL,BOS\nNYK,MIA\n", encoding="utf-8")
    (tmp_path / "data" / "prose.txt").write_text("five words stand right here\n" * 250, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lesson04.nll_after", 2.375),
        ("lesson04.flag", False),
        ("lesson04.seconds", 311.5),
        ("lesson04", {"nll_after": 2.375, "count": 17, "flag": False}),
        ("study.curve.nll_200", 3.625),
        ("data.facts.rows", 3),
        ("data.facts.distinct_fact", 2),
        ("data.games.rows", 2),
        ("data.games.distinct_home", 2),
        ("data.prose.words", 1250),
        ("data.prose.kilobytes", 7),
    ],
)
def test_a_key_finds_its_value(root, key, value):
    assert results.stored(key, root) == value


def test_a_study_comes_whole(root):
    study = results.stored("study.curve", root)
    assert study["rows"] == [{"n": 200}]
    assert study["settings"] == {"seed": 7}


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("lesson04.nll", "notebooks/results/cpu.json"),
        ("lesson09.x", "make notebooks"),
        ("study.none.x", "make study NAME=none"),
        ("study.curve.typo", "notebooks/studies/curve.json"),
        ("data.facts.colour", "distinct_FIELD"),
        ("data.facts.distinct_typo", "distinct_FIELD"),
        ("data.gone.rows", "data/gone"),
    ],
)
def test_a_missing_key_says_where_it_looked(root, key, told):
    with pytest.raises(UserError, match=told) as caught:
        results.stored(key, root)
    assert repr(key) in str(caught.value)


def test_merging_keeps_other_lessons_and_fields(root):
    path = results.results_path("cpu", root)
    results.save_ranges("cpu", "lesson04", {"nll_after": (2.25, 2.5)}, root)
    results.update_lesson(path, "cpu", "lesson02", {"values": {"leak": 31}})
    results.update_lesson(path, "cpu", "lesson04", {"values": {"nll_after": 2.4375}})
    lessons = results.read_json(path)["lessons"]
    assert list(lessons) == ["lesson02", "lesson04"]
    assert lessons["lesson04"]["ranges"] == {"nll_after": [2.25, 2.5]}
    assert lessons["lesson04"]["values"] == {"nll_after": 2.4375}
    assert lessons["lesson04"]["seconds"] == 311.5
    assert lessons["lesson02"]["profile"] == "cpu"


def test_a_range_upside_down_is_refused(root):
    with pytest.raises(ValueError, match=r"lesson04\.nll_after: low 3 is above high 2"):
        results.save_ranges("cpu", "lesson04", {"nll_after": (3, 2)}, root)


def test_a_broken_results_file_is_named_with_its_line(root):
    path = results.results_path("cpu", root)
    path.write_text('{\n "lessons": {\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"cpu\.json:3: found no valid JSON"):
        results.stored("lesson04.nll_after", root)
    path.write_text("[1]", encoding="utf-8")
    with pytest.raises(UserError, match="expected an object"):
        results.stored("lesson04.nll_after", root)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "kept.json"
    results.write_text(path, "old\n")
    monkeypatch.setattr(results.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        results.write_text(path, "new\n")
    assert path.read_text() == "old\n"
    assert [p.name for p in tmp_path.iterdir()] == ["kept.json"]


def test_a_value_that_is_no_number_of_json_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        results.update_lesson(tmp_path / "x.json", "cpu", "lesson01", {"values": {"x": float("nan")}})
    assert not (tmp_path / "x.json").exists()
