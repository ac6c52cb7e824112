"""De-duplicating, splitting by group, loading course data by name."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_utils import data
from finetune_utils.data import (
    check_no_overlap,
    data_path,
    deduplicate,
    fold,
    load_rows,
    split_by_group,
    to_dataset,
)
from finetune_utils.errors import UserError

ROWS = [{"fact": f"f{n // 5}", "question": f"Question {n}?", "line": n + 1} for n in range(100)]
SIZES = {"train": 0.8, "dev": 0.1, "test": 0.1}


def test_duplicates_are_found_despite_case_and_spaces():
    rows = [
        {"question": "What is LoRA?", "answer": "x"},
        {"question": " what  is\nlora? ", "answer": "X"},
        {"question": "What is LoRA?", "answer": "y"},
    ]
    assert deduplicate(rows, ["question", "answer"]) == ([rows[0], rows[2]], [rows[1]])
    assert deduplicate(rows, ["question"]) == ([rows[0]], rows[1:])
    assert deduplicate([{"n": [1]}, {"n": [1]}], ["n"]) == ([{"n": [1]}], [{"n": [1]}])
    with pytest.raises(UserError, match='A row has no "title"; its columns: question, answer'):
        deduplicate(rows, ["title"])


def test_split_keeps_groups_together_and_rows_in_order():
    parts = split_by_group(ROWS, "fact", SIZES, seed=3)
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 80, "dev": 10, "test": 10}
    check_no_overlap(parts, "fact")
    for rows in parts.values():
        assert [row["line"] for row in rows] == sorted(row["line"] for row in rows)


def test_split_depends_on_keys_and_seed_only():
    parts = split_by_group(ROWS, "fact", SIZES, seed=3)
    backwards = split_by_group(ROWS[::-1], "fact", SIZES, seed=3)
    assert {n: sorted(r["line"] for r in rows) for n, rows in backwards.items()} == {
        n: [r["line"] for r in rows] for n, rows in parts.items()
    }
    assert split_by_group(ROWS, "fact", SIZES, seed=4) != parts
    assert sorted({row["fact"] for row in parts["test"]}) == ["f11", "f3"]  # the same on every machine


def test_split_is_the_same_whatever_the_hash_seed(tmp_path):
    code = (
        "from finetune_utils.data import split_by_group\n"
        "rows = [{'fact': f'f{n // 5}'} for n in range(100)]\n"
        "parts = split_by_group(rows, 'fact', {'train': 0.8, 'test': 0.2}, seed=1)\n"
        "print(sorted({r['fact'] for r in parts['test']}))"
    )
    run = [sys.executable, "-c", code]
    folder = str(data.Path(data.__file__).parents[1])
    prints = {
        subprocess.run(run, env={"PYTHONHASHSEED": s, "PYTHONPATH": folder}, capture_output=True).stdout
        for s in ("1", "2")
    }
    assert len(prints) == 1
    assert b"f" in prints.pop()


def test_split_by_number_of_groups_and_by_function():
    parts = split_by_group(ROWS, lambda row: row["line"] % 10, {"test": 2, "train": 3})
    assert {name: len(rows) for name, rows in parts.items()} == {"test": 20, "train": 30}
    parts = split_by_group(ROWS, "fact", {"test": 4, "train": 0.5})
    assert {name: len(rows) for name, rows in parts.items()} == {"test": 20, "train": 50}


@given(
    groups=st.lists(st.integers(0, 30), min_size=3, max_size=80),
    shares=st.sampled_from([(0.8, 0.1, 0.1), (0.7, 0.2, 0.1), (1 / 3, 1 / 3, 1 / 3), (0.5, 0.25, 0.25)]),
    seed=st.integers(0, 5),
)
def test_every_row_lands_in_exactly_one_part(groups, shares, seed):
    rows = [{"group": group, "row": n} for n, group in enumerate(groups)]
    sizes = dict(zip(("a", "b", "c"), shares, strict=True))
    try:
        parts = split_by_group(rows, "group", sizes, seed)
    except UserError:  # too few groups for three parts
        assert len(set(groups)) < 10
        return
    check_no_overlap(parts, "group")
    assert all(parts.values())
    assert sorted(row["row"] for part in parts.values() for row in part) == list(range(len(rows)))


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (
            {"train": 0.99, "test": 0.01},
            "Cannot split 20 groups into train=0.99, test=0.01: test would be empty",
        ),
        ({"train": 0.8, "test": 0}, "test would be empty"),
        ({"train": 15, "test": 6}, "that is more than there are"),
        ({"train": 0.8, "test": 0.4}, "that is more than there are"),
        ({"train": -3}, "train would be empty"),
    ],
)
def test_impossible_sizes(sizes, words):
    with pytest.raises(UserError, match=words):
        split_by_group(ROWS, "fact", sizes)


def test_split_needs_its_column():
    with pytest.raises(UserError, match=r'A row \(line 1\) has no "topic"'):
        split_by_group(ROWS, "topic", SIZES)


def test_overlap_is_shown_with_an_example():
    splits = {
        "train": [ROWS[0], {"question": "Why bother?", "line": 7}],
        "test": [{"question": " why BOTHER? "}],
    }
    with pytest.raises(UserError, match=r"The same question is in train \(line 7\) and test: .*why BOTHER"):
        check_no_overlap(splits, "question")
    with pytest.raises(UserError, match="The same value"):
        check_no_overlap(splits, lambda row: row["question"].strip()[-1])
    check_no_overlap({"train": [ROWS[0], ROWS[0]], "test": [ROWS[1]]}, "question")


def test_fold():
    assert fold("  Straße\tNo.\u00a01 ") == fold("STRASSE no. 1")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A small data folder in place of the course's."""
    monkeypatch.setattr(data, "DATA_DIR", tmp_path)
    (tmp_path / "pairs.jsonl").write_text('{"question": "q", "answer": "a"}\n' * 3)
    (tmp_path / "prose.txt").write_text("# One\n\nfirst\nline\n\nsecond\n\n# Two\n\nthird\n")
    (tmp_path / "README.md").write_text("# Data\n")
    (tmp_path / "build_pairs.py").write_text("")
    return tmp_path


def test_course_data_by_name(folder):
    assert data_path("pairs") == data_path("pairs.jsonl") == folder / "pairs.jsonl"
    assert load_rows("pairs") == [{"question": "q", "answer": "a"}] * 3
    assert len(load_rows("pairs", limit=2)) == 2
    assert load_rows("prose") == [
        {"title": "One", "text": "first\nline"},
        {"title": "One", "text": "second"},
        {"title": "Two", "text": "third"},
    ]


def test_unknown_data_source_and_limit(folder):
    with pytest.raises(UserError, match="Unknown course data 'pears'; found in the data folder: pairs, prose"):
        load_rows("pears")
    with pytest.raises(UserError, match="Unknown source 'web': choose disk or hub"):
        load_rows("pairs", source="web")
    with pytest.raises(UserError, match="limit is 0"):
        load_rows("pairs", limit=0)


def test_a_missing_data_folder_is_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "DATA_DIR", tmp_path / "gone")
    with pytest.raises(UserError, match="set FINETUNE_DATA"):
        load_rows("course_qa")


def test_the_environment_names_another_data_folder(tmp_path):
    code = "from finetune_utils.data import DATA_DIR; print(DATA_DIR)"
    root = str(data.Path(data.__file__).parents[1])
    env = {"FINETUNE_DATA": str(tmp_path), "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == str(tmp_path)


def test_to_dataset_keeps_columns_that_only_some_rows_have():
    table = to_dataset([{"question": "q", "line": 1}, {"question": "r", "topic": "t", "line": 2}])
    assert table.to_list() == [{"question": "q", "topic": None}, {"question": "r", "topic": "t"}]
    assert json.dumps(table[0])
