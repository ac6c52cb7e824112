"""The parser: every target comes back, everything else is refused with a reason and never with another error."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_utils.betting.answers import (
    FIELDS,
    BadAnswer,
    answer_text,
    parse_answer,
    read_answers,
    read_starts,
    row_answer,
)
from finetune_utils.errors import UserError

GOOD = '{"probability": 0.62, "confidence_interval": [0.48, 0.74]}'


def test_the_text_of_an_answer():
    assert answer_text(0.62, [0.48, 0.74]) == GOOD
    assert answer_text(-4, [-21.6, 13.4], "margin") == '{"margin": -4, "confidence_interval": [-22, 13]}'
    assert answer_text(-0.3, [-20, 20], "margin") == '{"margin": 0, "confidence_interval": [-20, 20]}'
    assert answer_text(0.5, [0.2, 0.8], "next_ten") == '{"share": 0.50, "confidence_interval": [0.20, 0.80]}'
    row = {"kind": "win", "estimate": 0.62, "confidence_interval": [0.48, 0.74]}
    assert row_answer(row) == GOOD


def test_a_good_answer():
    answer = parse_answer(GOOD)
    assert (answer.estimate, answer.low, answer.high) == (0.62, 0.48, 0.74)
    assert parse_answer('\n{"confidence_interval":[0,1],"probability":1}').estimate == 1


@given(st.lists(st.integers(0, 100), min_size=3, max_size=3).map(sorted))
def test_every_target_comes_back(hundredths):
    low, p, high = (number / 100 for number in hundredths)
    for kind in ("win", "next_ten"):
        answer = parse_answer(answer_text(p, [low, high], kind), kind)
        assert (answer.low, answer.estimate, answer.high) == (low, p, high)


@given(st.lists(st.integers(-100, 100), min_size=3, max_size=3).map(sorted))
def test_every_margin_comes_back(points):
    low, margin, high = points
    answer = parse_answer(answer_text(margin, [low, high], "margin"), "margin")
    assert (answer.low, answer.estimate, answer.high) == (low, margin, high)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["probability", "x"]), inner, max_size=2)
    ),
    max_leaves=5,
)


@given(st.text(alphabet=string.printable + "é{}[]", max_size=80) | st.text(max_size=20) | JSON_VALUES.map(json.dumps))
def test_no_text_at_all_raises_anything_else(text):
    reading = read_answers([text])  # catches BadAnswer, and nothing else
    for answer in filter(None, reading.answers):
        assert 0 <= answer.low <= answer.estimate <= answer.high <= 1
    for _, problem in reading.problems:
        assert len(problem) < 200
        assert "\n" not in problem


@given(JSON_VALUES, JSON_VALUES, JSON_VALUES)
def test_right_fields_with_any_values_pass_only_when_they_are_an_answer(p, low, high):
    text = json.dumps({"probability": p, "confidence_interval": [low, high]})
    numbers = [p, low, high]
    right = all(isinstance(x, int | float) and not isinstance(x, bool) for x in numbers) and 0 <= low <= p <= high <= 1
    if right:
        assert parse_answer(text).estimate == p
    else:
        with pytest.raises(BadAnswer):
            parse_answer(text)


@given(st.integers(0, len(GOOD) - 1), st.characters())
def test_one_changed_character_is_never_repaired_silently(place, character):
    text = GOOD[:place] + character + GOOD[place + 1 :]
    try:
        answer = parse_answer(text)
    except BadAnswer:
        return
    assert json.loads(text)["probability"] == answer.estimate


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"not JSON \(expecting value\), at character 1"),
        ("The Lakers win.", r"not JSON"),
        (GOOD[:-1], r"not JSON .*, at character 58"),
        (GOOD + " Good luck!", r"text after the JSON object, at character 60"),
        (GOOD + GOOD, r"text after the JSON object"),
        ("0.62", r"the number 0.62 where an object should stand"),
        ("[0.62]", r"a list where an object"),
        ('{"probability": 0.62}', r'the field "confidence_interval" is missing'),
        ('{"confidence_interval": [0.4, 0.7]}', r'the field "probability" is missing'),
        (GOOD[:-1] + ', "reason": "form"}', r'the field "reason" was not asked for'),
        (
            '{"probability": 0.6, "probability": 0.7, "confidence_interval": [0.4, 0.8]}',
            r'"probability" stands there twice',
        ),
        (GOOD.replace("0.62", '"0.62"'), r'"probability" is a text where a number'),
        (GOOD.replace("0.62", "true"), r'"probability" is true or false where a number'),
        (GOOD.replace("0.62", "null"), r'"probability" is null where a number'),
        (GOOD.replace("0.62", "NaN"), r"NaN is not a number in JSON"),
        (GOOD.replace("0.62", "-Infinity"), r"-Infinity is not a number"),
        (GOOD.replace("0.62", "62"), r'"probability" is 62: it must lie between 0 and 1'),
        (GOOD.replace("0.62", "1e999"), r'"probability" is inf: it must lie'),
        (GOOD.replace("0.62", "9" * 400), r'"probability" is 9{20}: it must lie'),
        (GOOD.replace("0.62", "9" * 5000), r"not JSON"),
        (GOOD.replace("0.74", "1.74"), r'an end of "confidence_interval" is 1.74'),
        (GOOD.replace("[0.48, 0.74]", "[0.74, 0.48]"), r"the interval's ends are swapped: 0.74 and 0.48"),
        (GOOD.replace("0.62", "0.9"), r"probability 0.9 lies outside its own interval \[0.48, 0.74\]"),
        (GOOD.replace("[0.48, 0.74]", "[0.48]"), r'"confidence_interval" is a list of 1 where two numbers'),
        (GOOD.replace("[0.48, 0.74]", "0.1"), r'"confidence_interval" is the number 0.1 where two numbers'),
        ("[" * 100_000, r"nested too deeply"),
    ],
)
def test_what_is_wrong_is_named(text, message):
    with pytest.raises(BadAnswer, match=message):
        parse_answer(text)


def test_invalid_answers_count_as_no_opinion_and_are_never_dropped():
    reading = read_answers([GOOD, "Yes", GOOD.replace("0.62", "0.55")])
    assert reading.estimates == [0.62, 0.5, 0.55]
    assert reading.answers[1] is None
    assert reading.problems == [(1, "not JSON (expecting value), at character 1")]
    assert reading.valid_share == pytest.approx(2 / 3)
    assert read_answers([]).valid_share == 0
    assert read_answers(["?"], "margin").estimates == [0.0]


def test_a_target_that_the_parser_would_refuse_cannot_be_made():
    with pytest.raises(BadAnswer, match="lies outside its own interval"):
        answer_text(0.9, [0.1, 0.2])
    with pytest.raises(UserError, match=f"Unknown kind of question 'total': choose one of {', '.join(FIELDS)}"):
        answer_text(1, [0, 2], "total")


def test_a_number_is_read_from_an_answer_that_was_cut_off():
    whole = answer_text(-7, (-24, 10), "margin")
    assert read_starts([whole, whole[:14], '{"margin": 12, "conf'], "margin") == [-7, -7, 12]
    assert read_starts(['{"probability": 0.62, '], "win") == [0.62]


@pytest.mark.parametrize(
    "text", ['{"margin": 1', "7,", ' {"margin": 7,', '{"margin": 700,', '{"probability": 7,', '{"margin": "7",']
)
def test_a_beginning_that_may_be_cut_or_was_not_asked_for_is_no_opinion(text):
    assert read_starts([text, '{"margin": 3,'], "margin") == [0, 3]
