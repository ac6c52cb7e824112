"""Every metric loads by path without a network, agrees with the plain function, and combines with others."""

import sys
import tomllib
from pathlib import Path

import evaluate
import numpy as np
import pytest

from finetune_utils import metrics, scores
from finetune_utils.errors import UserError
from finetune_utils.metrics import FOLDER, METRICS, load_metric

SAID = ["It is cold outside", "the tide comes in slowly at dawn", ""]
WANTED = ["It is very cold outside", "the tide comes in slowly at noon", "Yes."]


def encode(texts):
    raw = np.array([[len(text) + 1.0, 3.0] for text in texts])
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def test_every_folder_is_a_metric_and_every_metric_a_folder():
    assert sorted(path.parent.name for path in FOLDER.glob("*/*.py")) == sorted(METRICS)
    assert all((FOLDER / name / f"{name}.py").is_file() for name in METRICS)


def test_the_files_of_the_metrics_are_shipped_with_the_package():
    root = Path(metrics.__file__).resolve().parents[2]
    patterns = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]
    shipped = {path for pattern in patterns["finetune_utils"] for path in (root / "finetune_utils").glob(pattern)}
    assert set(FOLDER.glob("*/*.py")) <= shipped


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exact_match", {"exact_match": 0.0}),
        ("rouge", {name: np.mean(values) for name, values in scores.rouge(SAID, WANTED).items()}),
        ("bleu", {"bleu": scores.bleu(SAID, WANTED)}),
    ],
)
def test_a_loaded_text_metric_gives_what_its_function_gives(name, expected):
    assert load_metric(name).compute(predictions=SAID, references=WANTED) == pytest.approx(expected)
    assert load_metric(name).compute(predictions=SAID, references=[[w, w] for w in WANTED]) == pytest.approx(expected)


def test_a_metric_loads_by_its_path_with_the_library_alone():
    metric = evaluate.load(str(FOLDER / "exact_match"))
    assert metric.compute(predictions=["a", "B "], references=["a", "b"]) == {"exact_match": 1.0}


@pytest.mark.parametrize("kind", [list, lambda labels: ["abc"[label] for label in labels]], ids=["numbers", "names"])
def test_label_metrics_take_numbers_and_names(kind):
    said, wanted = kind([0, 1, 2, 2]), kind([0, 1, 1, 2])
    assert load_metric("accuracy").compute(predictions=said, references=wanted) == {"accuracy": 0.75}
    found = load_metric("macro_f1").compute(predictions=said, references=wanted)
    assert found == {"macro_f1": pytest.approx((1 + 2 / 3 + 2 / 3) / 3)}


def test_similarity_takes_an_encoder_of_your_own():
    found = load_metric("embedding_similarity").compute(predictions=SAID, references=WANTED, encode=encode)
    assert found["embedding_similarity"] == pytest.approx(np.mean(scores.embedding_similarity(SAID, WANTED, encode)))


def test_metrics_combine_and_take_rows_in_batches():
    both = evaluate.combine([load_metric("exact_match"), load_metric("rouge"), load_metric("bleu")])
    both.add_batch(predictions=SAID[:2], references=WANTED[:2])
    both.add_batch(predictions=SAID[2:], references=WANTED[2:])
    found = both.compute()
    assert found.keys() == {"exact_match", "rouge1", "rouge2", "rougeL", "bleu"}
    assert found["rougeL"] == pytest.approx(np.mean(scores.rouge(SAID, WANTED)["rougeL"]))
    assert both.compute(predictions=["a"], references=["a"])["exact_match"] == 1.0  # nothing of the first rows is left


def test_two_copies_of_a_metric_can_collect_at_the_same_time():
    first, second = load_metric("exact_match"), load_metric("exact_match")
    first.add_batch(predictions=["a"], references=["a"])
    second.add_batch(predictions=["a"], references=["b"])
    assert (first.compute(), second.compute()) == ({"exact_match": 1.0}, {"exact_match": 0.0})


@pytest.mark.parametrize("name", METRICS)
def test_rows_that_do_not_pair_up_are_told_in_a_line(name):
    with pytest.raises(UserError, match="Found 1 predictions and 2 references"):
        load_metric(name).compute(predictions=["1"], references=["1", "2"])
    with pytest.raises(UserError, match="nothing to score"):
        load_metric(name).compute(predictions=[], references=[])


def test_an_empty_reference_is_named_through_the_library_too():
    with pytest.raises(UserError, match="Row 1 of 1 has an empty reference"):
        load_metric("bleu").compute(predictions=["a"], references=[""])


def test_an_unknown_metric_lists_those_there_are():
    with pytest.raises(UserError, match="Unknown metric 'meteor': choose one of accuracy, bleu"):
        load_metric("meteor")


def test_a_missing_library_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "evaluate", None)
    with pytest.raises(UserError, match="pip install evaluate"):
        load_metric("rouge")
