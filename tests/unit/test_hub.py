"""The public data sets, through the real loading code, from small local files of the same schema."""

import json

import datasets
import pytest

from finetune_utils.data import load_rows
from finetune_utils.errors import UserError
from finetune_utils.hub import HUB, load_hub

TEAM = {
    "conference": "Eastern Conference",
    "wins": "1",
    "line_score": {"Q1": {"PTS": "20"}, "game": {"PTS": "96"}},
}
GAME = {
    "sportsett_id": "1",
    "gem_id": "GEM-sportsett_basketball-train-0",
    "game": {
        "day": "1",
        "month": "November",
        "year": "2014",
        "season": "2014",
        "stadium": "Wells Fargo Center",
    },
    "teams": {
        "home": {**TEAM, "name": "76ers", "place": "Philadelphia"},
        "vis": {**TEAM, "name": "Heat", "place": "Miami", "line_score": {"game": {"PTS": "114"}}},
    },
    "summaries": ["The Miami Heat won."],
}
CHOICES = {"text": ["iron", "wood", "air", "tea"], "label": ["A", "B", "C", "D"]}
# the schema of each public data set, in made-up rows, and what becomes of them
CASES = {
    "lamini/lamini_docs": (
        [{"question": "q", "answer": "a", "input_ids": [1, 2], "attention_mask": [1, 1], "labels": [1, 2]}],
        [{"question": "q", "answer": "a"}],
    ),
    "mteb/tweet_sentiment_extraction": (
        [
            {"id": "x1", "text": " sad day ", "label": 0, "label_text": "negative"},
            {"id": "x2", "text": None, "label": 1, "label_text": "neutral"},
            {"id": "x3", "text": "great!", "label": 2, "label_text": "positive"},
        ],
        [
            {"id": "x1", "text": "sad day", "label": "negative"},
            {"id": "x3", "text": "great!", "label": "positive"},
        ],
    ),
    "knkarthick/dialogsum": (
        [{"id": "train_0", "dialogue": "#Person1#: Hi.", "summary": "A greets B.", "topic": "greeting"}],
        [{"id": "train_0", "topic": "greeting", "dialogue": "#Person1#: Hi.", "summary": "A greets B."}],
    ),
    "tatsu-lab/alpaca": (
        [{"instruction": "Add.", "input": "2, 3", "output": "5", "text": "Below is an instruction ..."}],
        [{"instruction": "Add.", "input": "2, 3", "output": "5"}],
    ),
    "GEM/sportsett_basketball": (
        [GAME],
        [
            {
                "date": "2014-11-01",
                "season": "2014-15",
                "home": "Philadelphia 76ers",
                "away": "Miami Heat",
                "home_points": 96,
                "away_points": 114,
            }
        ],
    ),
    "allenai/ai2_arc": (
        [
            {"id": "M1", "question": "Which is a metal?", "choices": CHOICES, "answerKey": "A"},
            {
                "id": "M2",
                "question": "Which?",
                "choices": {**CHOICES, "label": list("1234")},
                "answerKey": "3",
            },
        ],
        [
            {"id": "M1", "question": "Which is a metal?", "choices": CHOICES["text"], "answer": 0},
            {"id": "M2", "question": "Which?", "choices": CHOICES["text"], "answer": 2},
        ],
    ),
    "allenai/c4": (
        [{"text": "A page.", "timestamp": "2019-04-25T12:57:54Z", "url": "https://example.org/"}],
        [{"text": "A page.", "url": "https://example.org/"}],
    ),
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def save(path, rows):
    if path.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(str(path))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_data_set_is_covered():
    assert CASES.keys() == HUB.keys()


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", CASES)
def test_rows_come_in_our_columns(tmp_path, name, ending):
    raw, expected = CASES[name]
    path = save(tmp_path / f"part.{ending}", raw)
    assert load_hub(name, data_files=path) == expected
    assert load_rows(name, source="hub", data_files=str(path), limit=1) == expected[:1]


def test_csv_of_the_same_schema(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text('id,dialogue,summary,topic\ntrain_0,"A: Hi.\nB: Hello.",They greet.,greeting\n')
    assert load_hub("knkarthick/dialogsum", data_files=path)[0]["dialogue"] == "A: Hi.\nB: Hello."


def test_what_is_asked_of_the_hub(monkeypatch):
    asked = []

    def remember(*args, **options):
        asked.append((args, options))
        return []

    monkeypatch.setattr(datasets, "load_dataset", remember)
    for name in HUB:
        assert load_hub(name, split="test", limit=3) == []
    calls = dict(zip(HUB, asked, strict=True))
    assert calls["lamini/lamini_docs"] == (
        ("lamini/lamini_docs", None),
        {"split": "test", "streaming": False},
    )
    assert calls["allenai/ai2_arc"][0] == ("allenai/ai2_arc", "ARC-Easy")
    assert calls["tatsu-lab/alpaca"][1]["streaming"] is True
    files = {"test": "hf://datasets/GEM/sportsett_basketball/test.jsonl"}
    expected = (("json",), {"data_files": files, "split": "test", "streaming": True})
    assert calls["GEM/sportsett_basketball"] == expected


@pytest.mark.parametrize("offline", ["0", "1"])
def test_no_hub_is_an_error_and_never_a_silent_replacement(monkeypatch, offline):
    def unreachable(*_, **__):
        raise ConnectionError("Couldn't reach 'lamini/lamini_docs' on the Hub\n(long traceback)")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    with pytest.raises(UserError) as caught:
        load_rows("lamini/lamini_docs", source="hub")
    message = str(caught.value)
    assert "Cannot load lamini/lamini_docs, split train, from the hub (ConnectionError: Couldn't reach" in message
    assert ("HF_HUB_OFFLINE is set" in message) == (offline == "1")
    assert "source='disk'" in message


def test_a_connection_lost_halfway_is_an_error_too(monkeypatch):
    def half(*_, **__):
        yield {"instruction": "i", "input": "", "output": "o"}
        raise TimeoutError("read timed out")

    monkeypatch.setattr(datasets, "load_dataset", half)
    with pytest.raises(UserError, match="TimeoutError: read timed out"):
        load_rows("tatsu-lab/alpaca", source="hub")
    assert len(load_rows("tatsu-lab/alpaca", source="hub", limit=1)) == 1


def test_other_columns_than_expected(tmp_path):
    path = save(tmp_path / "part.jsonl", [{"question": "q", "answer": "a"}, {"question": "q", "reply": "a"}])
    with pytest.raises(UserError, match="row 1 of tatsu-lab/alpaca does not have the expected schema"):
        load_hub("tatsu-lab/alpaca", data_files=path)
    raw = [{**CASES["allenai/ai2_arc"][0][0], "answerKey": "E"}]
    with pytest.raises(UserError, match="its columns: id, question, choices, answerKey"):
        load_hub("allenai/ai2_arc", data_files=save(tmp_path / "arc.jsonl", raw))


def test_unknown_name_and_missing_file(tmp_path):
    with pytest.raises(UserError, match="Unknown public data set 'lamini_docs': choose one of lamini/lamini_docs"):
        load_rows("lamini_docs", source="hub")
    with pytest.raises(UserError, match=r"gone\.jsonl: cannot be read as tatsu-lab/alpaca"):
        load_hub("tatsu-lab/alpaca", data_files=tmp_path / "gone.jsonl")
