"""The labeled pairs of answers: schema, balance, questions from the test facts, and a card that counts right."""

import json
import re
from collections import Counter

import pytest

from finetune_utils import runs
from finetune_utils.data import DATA_DIR, deduplicate, load_rows
from finetune_utils.quality import find_personal_data

FIELDS = ["id", "fact", "question", "reference", "a", "b", "a_from", "b_from", "better", "why"]
MODELS = {"untuned model", "tuned model"}


@pytest.fixture(scope="module")
def pairs():
    return load_rows("quality_pairs")


def origin(row):
    return row["id"].partition("-")[0]


def test_every_pair_has_its_fields_and_no_blanks_around_them(pairs):
    for row in pairs:
        assert list(row) == FIELDS
        assert all(isinstance(value, str) and value == value.strip() != "" for value in row.values()), row["id"]
        assert row["better"] in ("a", "b", "tie"), row["id"]
        assert row["a"] != row["b"], row["id"]
        assert 2 <= len(row["why"].split()) <= 12, row["id"]
        assert row["why"][-1] != ".", row["id"]
    assert len({row["id"] for row in pairs}) == len(pairs) >= 66
    assert deduplicate(pairs, ["question", "a", "b"])[1] == []


def test_questions_and_references_are_those_of_facts_that_nobody_trains_on(pairs):
    unseen = {(row["fact"], row["question"], row["answer"]) for row in runs.course_rows().unseen}
    for row in pairs:
        assert (row["fact"], row["question"], row["reference"]) in unseen, row["id"]
    assert len({row["fact"] for row in pairs}) >= 40


def test_the_id_says_where_the_answers_come_from(pairs):
    count = {"models": 2, "mixed": 1, "written": 0}
    for row in pairs:
        assert re.fullmatch(r"(models|mixed|written)-\d\d", row["id"])
        sources = [row["a_from"], row["b_from"]]
        assert sum(source in MODELS for source in sources) == count[origin(row)], row["id"]
        assert set(sources) <= MODELS | {"written"}
    assert all({row["a_from"], row["b_from"]} == MODELS for row in pairs if origin(row) == "models")


def test_neither_side_nor_one_model_wins_by_habit(pairs):
    labels = Counter(row["better"] for row in pairs)
    assert abs(labels["a"] - labels["b"]) <= 4
    assert 0.1 < labels["tie"] / len(pairs) < 0.3
    real = [row for row in pairs if origin(row) == "models" and row["better"] != "tie"]
    winners = Counter(row[f"{row['better']}_from"] for row in real)
    assert min(winners[name] for name in MODELS) >= 5
    first = Counter(row["a_from"] for row in pairs if origin(row) == "models")
    assert 0.25 < first["tuned model"] / first.total() < 0.75  # nor does a model always stand on the same side


def test_a_written_answer_is_no_copy_of_the_reference(pairs):
    for row in pairs:
        for side in "ab":
            if row[f"{side}_from"] == "written":
                assert row[side] != row["reference"], row["id"]
                assert len(row[side].split()) <= 45, row["id"]


def test_no_personal_data(pairs):
    texts = [row[side] for row in pairs for side in "ab"]
    assert [f.text for text in texts for f in find_personal_data(text) if f.kind != "name"] == []


def test_the_card_counts_right_and_shows_a_row(pairs):
    card = (DATA_DIR / "README.md").read_text(encoding="utf-8")
    text = card.partition("## `quality_pairs.jsonl`")[2].partition("\n## ")[0]
    labels, origins = Counter(row["better"] for row in pairs), Counter(map(origin, pairs))
    words = " ".join(text.split())
    assert f"{len(pairs)} pairs, {labels['a']} for `a`, {labels['b']} for `b` and {labels['tie']} ties" in words
    assert f"{origins['models']} of two real answers (`models`), {origins['mixed']} of a real and a" in words
    assert f"{origins['written']} of two written ones (`written`)" in words
    assert f"| `quality_pairs.jsonl` | {len(pairs)} |" in card
    (example,) = re.findall(r"```json\n(.*?)\n```", text, re.DOTALL)
    assert json.loads(example) in pairs
