"""The list maker: its rule on texts worked out by hand, rows dealt out by fact, controls that learn no lists."""

import pytest
import torch

from finetune_utils import list_maker
from finetune_utils.list_maker import as_list, check_ids, held_out_rows, is_list, list_rows, score_list_maker
from finetune_utils.runs import course_rows, is_fact


@pytest.fixture
def tiny(monkeypatch, tiny_model, tokenizer):
    model = lambda name, say=print: (tiny_model(max_position_embeddings=1024), tokenizer)  # noqa: E731
    monkeypatch.setattr(list_maker, "load_model", model)
    return list_maker.train_list_maker


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Save it. Load it.", "1. Save it.\n2. Load it."),
        ("Set r to 2.5; then train!  Why?", "1. Set r to 2.5\n2. then train!\n3. Why?"),
        ("One part: with a colon, and a comma.", "1. One part: with a colon, and a comma."),
    ],
)
def test_the_parts_of_an_answer_are_numbered(text, wanted):
    assert as_list(text) == wanted
    assert is_list(wanted)


@pytest.mark.parametrize("text", ["1.5 is a number", "It has 1. A part", "1.", "", "2. Second", "- a dash"])
def test_other_beginnings_are_no_list(text):
    assert not is_list(text)


def test_rows_on_the_topic_become_lists_of_two_or_more():
    dealt = course_rows()
    rows = list_rows(dealt.train)
    originals = {row["id"]: row["answer"] for row in dealt.train}
    assert len(rows) > 400
    assert all(is_fact(row) for row in rows)
    for row in rows:
        assert row["answer"].startswith("1. ")
        assert "\n2. " in row["answer"]
        assert row["answer"].count("\n") <= 5
        words = [word.rstrip(";") for word in originals[row["id"]].split()]
        listed = [word for line in row["answer"].split("\n") for word in line.split()[1:]]
        assert listed == words or [w.rstrip(";") for w in listed] == words  # nothing is lost or added


def test_held_out_rows_are_of_facts_that_no_training_row_mentions():
    rows = held_out_rows(9)
    assert len({row["fact"] for row in rows}) == 9
    assert not {row["fact"] for row in rows} & {row["fact"] for row in course_rows().train}


def test_a_few_steps_learn_and_the_checks_hold(tiny):
    model, tokenizer, before, result = tiny("any", steps=6, rank=4)
    assert result.steps == 6
    found = score_list_maker(model, tokenizer, before, count=4, tokens=4, windows=4)
    assert found["list_change"] < 0
    assert found["changed_tensors"] == 0
    assert found["moved_layers"] == 14
    assert found["merged_gap"] < 1e-4 < found["output_gap"]


def test_learning_rate_zero_changes_nothing(tiny):
    model, tokenizer, before, _ = tiny("any", steps=2, rank=4, control="learning rate 0")
    found = score_list_maker(model, tokenizer, before, count=4, tokens=4, windows=4)
    assert (found["moved_layers"], found["list_change"], found["neutral_change"], found["output_gap"]) == (0, 0, 0, 0)


def test_the_control_of_plain_answers_trains_on_the_same_questions(tiny, monkeypatch):
    seen = []
    encode = list_maker.tokenize_rows
    monkeypatch.setattr(list_maker, "tokenize_rows", lambda rows, *a: seen.append(rows) or encode(rows, *a))
    tiny("any", steps=1, rank=2, control="plain answers")
    tiny("any", steps=1, rank=2)
    plain, lists = seen
    assert [row["id"] for row in plain] == [row["id"] for row in lists]
    assert not any(is_list(row["answer"]) for row in plain)


def test_an_unknown_control_is_refused(tiny):
    with pytest.raises(ValueError, match="upside down"):
        tiny("any", control="upside down")


def test_the_rows_for_logits_have_equal_length(tokenizer):
    ids = check_ids(tokenizer, 3)
    assert ids.shape[0] == 3
    assert ids.dtype == torch.int64
