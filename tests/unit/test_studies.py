"""Studies: stored whole with a hash, stale when source or data change, and every one runs on a tiny model."""

import importlib.util
import json
import math

import pytest

from finetune_utils import studies
from finetune_utils.errors import UserError
from finetune_utils.results import ROOT, stored
from finetune_utils.studies import store_study, study_path, study_state
from finetune_utils.trials import FACT_ROWS

SOURCES = sorted((ROOT / "notebooks" / "studies").glob("*.py"))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "notebooks" / "studies").mkdir(parents=True)
    (tmp_path / "notebooks" / "studies" / "curve.py").write_text("print('seven')\n", encoding="utf-8")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "course_qa.jsonl").write_text('{"fact": "a"}\n', encoding="utf-8")
    return tmp_path


def test_what_is_stored_is_what_a_lesson_reads(root):
    path = store_study("curve", {"seed": 7}, [{"rows": 24, "nll": 2.5}], {"nll_24": 2.5}, root=root)
    assert path == root / "notebooks" / "studies" / "curve.json"
    study = stored("study.curve", root)
    assert study["settings"] == {"seed": 7}
    assert study["rows"] == [{"rows": 24, "nll": 2.5}]
    assert stored("study.curve.nll_24", root) == 2.5
    assert study["environment"]["torch"]


def test_a_study_is_stale_when_its_source_or_its_data_change(root):
    assert study_state("curve", root) == "not run"
    store_study("curve", {}, [], {}, root=root)
    assert study_state("curve", root) == ""
    source = study_path("curve", root)
    source.write_bytes(b"print('seven')\r\n")  # a checkout on Windows is no change
    assert study_state("curve", root) == ""
    source.write_text("print('eight')\n", encoding="utf-8")
    assert study_state("curve", root) == "stale"
    store_study("curve", {}, [], {}, root=root)
    (root / "data" / "course_qa.jsonl").write_text('{"fact": "b"}\n', encoding="utf-8")
    assert study_state("curve", root) == "stale"


def test_data_that_the_study_does_not_read_does_not_matter(root):
    (root / "data" / "other.csv").write_text("a\n1\n", encoding="utf-8")
    store_study("curve", {}, [], {}, data=["other.csv"], root=root)
    (root / "data" / "course_qa.jsonl").write_text("{}\n", encoding="utf-8")
    assert study_state("curve", root) == ""


def test_rows_that_the_study_leaves_out_do_not_matter_and_all_others_do(root):
    data = root / "data" / "course_qa.jsonl"
    fact, joke, march = '{"topic": "lora"}\n', '{"topic": "off-topic"}\n', '{"topic": "near-topic"}\n'
    bakery = '{"topic": "situation"}\n'
    data.write_text(fact + joke, encoding="utf-8")
    store_study("curve", {}, [], {}, data=[FACT_ROWS], root=root)
    data.write_text(bakery + fact + march + joke + joke + bakery, encoding="utf-8")
    assert study_state("curve", root) == ""
    data.write_text(fact + fact + joke, encoding="utf-8")
    assert study_state("curve", root) == "stale"


def test_an_unknown_study_is_told_with_those_that_exist(root):
    with pytest.raises(UserError, match=r"no study 'curv': choose from curve\."):
        store_study("curv", {}, [], {}, root=root)


def test_a_missing_data_file_is_told(root):
    with pytest.raises(UserError, match=r"nowhere\.jsonl: found no such file"):
        store_study("curve", {}, [], {}, data=["nowhere.jsonl"], root=root)


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}])
def test_what_json_cannot_hold_is_refused_and_the_old_rows_stay(root, value):
    store_study("curve", {}, [{"n": 3}], {}, root=root)
    with pytest.raises(UserError, match="curve cannot be stored"):
        store_study("curve", {}, [{"n": value}], {}, root=root)
    assert stored("study.curve", root)["rows"] == [{"n": 3}]
    assert [p.name for p in (root / "notebooks" / "studies").iterdir() if p.suffix != ".py"] == ["curve.json"]


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_study_says_what_it_asks_and_can_be_run(path):
    module = load(path)
    assert module.__doc__.startswith("Study: ")
    assert callable(module.main)


TRAINING = [path for path in SOURCES if "TINY = " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_a_study_that_trains_computes_finite_rows_on_a_tiny_model(path, monkeypatch, tiny_model, tokenizer):
    from finetune_utils import arms, classification, list_maker, trials
    from finetune_utils.betting import forecaster, forecasts, teaching

    for module in (teaching, forecasts):  # Y and N are single tokens of the throwaway tokenizer
        monkeypatch.setattr(module, "YES_NO", ("Y", "N"))
    study = load(path)
    for module in (arms, classification, list_maker, trials, forecaster, study):
        model = lambda name, say=print: (tiny_model(max_position_embeddings=2048), tokenizer)  # noqa: E731
        if module is not study or hasattr(study, "load_model"):
            monkeypatch.setattr(module, "load_model", model)
    # The names of values hold the ranks, or the arms of the forecaster.
    options = study.TINY | ({"ranks": study.RANKS} if "ranks" in study.TINY else {})
    if path.stem == "forecaster":
        options |= {"runs": (study.RUNS[0], *study.RUNS[3:])}
    found = study.compute(**options)
    json.dumps(found, allow_nan=False)
    assert len(found["rows"]) >= 2
    assert all(isinstance(value, int | float) for value in found["values"].values())
    if (stored_path := path.with_suffix(".json")).is_file():
        kept = json.loads(stored_path.read_text(encoding="utf-8"))
        assert kept["values"].keys() == found["values"].keys()
        assert kept["rows"][0].keys() == found["rows"][0].keys()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_what_is_stored_in_the_repository_is_current(path):
    assert studies.study_state(path.stem) != "stale", f"run: make study NAME={path.stem}"
