"""Two models on the same rows: a model against itself shows nothing, a real change shows with its direction."""

import json

import numpy as np
import pytest

from finetune_utils.comparison import Line, compare, compare_nll, format_lines, mark_answers
from finetune_utils.error_categories import CATEGORIES
from finetune_utils.errors import UserError
from finetune_utils.evaluation import Interval, groups_needed, mean_difference, minimum_detectable_difference
from finetune_utils.nll import NLL

REDIRECT = "Let's keep to fine-tuning: ask me anything about training a model."
FACTS = ["a step of the weights", "a pass over all rows", "a frozen model with few weights", "a piece of text"]
REFERENCES = [f"It is {fact}." for fact in FACTS for _ in range(2)] + [REDIRECT] * 2
QUESTIONS = [f"What is word {i}?" for i in range(8)] + ["Who won the cup?", "Is it raining?"]
GROUPS = [i // 2 for i in range(8)] + ["cup", "rain"]
BAD = [
    "It is it is it is it is",
    None,
    "Paris.",
    "",
    "I cannot say that.",
    "Bread",
    "No",
    "Hm",
    "It was Brazil.",
    "Yes.",
]


def encode(texts):
    raw = np.array([[1.0, float(len(text))] for text in texts])
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def marks(answers, **options):
    return mark_answers(QUESTIONS, answers, REFERENCES, **options)


def by_name(lines):
    return {line.name: line for line in lines}


def test_a_model_against_itself_has_only_intervals_that_cover_0():
    lines = compare(marks(BAD, encode=encode), marks(BAD, encode=encode), REFERENCES, GROUPS)
    lines.append(compare_nll(NLL(np.arange(10.0), np.ones(10)), NLL(np.arange(10.0), np.ones(10)), GROUPS))
    assert len(lines) == 5 + 1 + len(CATEGORIES) + 1
    for line in lines:
        assert line.change.low <= 0 <= line.change.high
        assert line.verdict == "no difference shown"


def test_two_models_that_guess_equally_well_are_not_told_apart():
    first = [text if i % 2 else "Bread" for i, text in enumerate(REFERENCES)]
    second = [text if i % 4 in (0, 3) else "Bread" for i, text in enumerate(REFERENCES)]
    line = by_name(compare(marks(first), marks(second), REFERENCES, range(10)))["exact match"]
    assert line.verdict == "no difference shown"
    assert line.change.low < 0 < line.change.high


def test_every_measure_sees_that_the_references_are_better_than_rubbish():
    lines = by_name(compare(marks(BAD, encode=encode), marks(REFERENCES, encode=encode), REFERENCES, GROUPS))
    for name in ("exact match", "ROUGE-L", "similarity", "redirects, off-topic rows", "errors of any kind"):
        assert lines[name].verdict == "better", name
    assert (lines["exact match"].before, lines["exact match"].after) == (0.0, 1.0)
    assert (lines["errors of any kind"].before, lines["errors of any kind"].after) == (1.0, 0.0)
    assert lines["redirects, off-topic rows"].rows == 2
    assert lines["redirects, other rows"].rows == 8
    back = by_name(compare(marks(REFERENCES), marks(BAD), REFERENCES, GROUPS))
    assert back["ROUGE-L"].verdict == back["errors of any kind"].verdict == "worse"
    assert "similarity" not in back


def test_failures_are_counted_not_skipped():
    line = by_name(compare(marks(BAD), marks(REFERENCES), REFERENCES, GROUPS))["errors: empty"]
    assert (line.before * 10, line.rows) == (2, 10)


def test_redirecting_everything_is_good_on_some_rows_and_bad_on_the_others():
    lines = by_name(compare(marks(BAD), marks([REDIRECT] * 10), REFERENCES, GROUPS))
    assert lines["redirects, off-topic rows"].verdict == "better"
    assert lines["redirects, other rows"].verdict == "worse"


def test_wordings_of_a_fact_are_drawn_together():
    half = [text if i % 4 < 2 else "Bread" for i, text in enumerate(REFERENCES)]
    by_fact = by_name(compare(marks(BAD), marks(half), REFERENCES, GROUPS))["exact match"]
    by_row = by_name(compare(marks(BAD), marks(half), REFERENCES, range(10)))["exact match"]
    assert by_fact.change.high - by_fact.change.low > by_row.change.high - by_row.change.low
    assert (by_fact.groups, by_row.groups) == (6, 10)


def test_one_group_has_a_change_and_no_interval():
    lines = by_name(compare(marks(BAD), marks(REFERENCES), REFERENCES, [*GROUPS[:8], "same", "same"]))
    line = lines["redirects, off-topic rows"]
    assert (line.before, line.after, line.change, line.verdict) == (0.0, 1.0, None, "too few groups")
    assert line.detectable == float("inf")
    assert "low" not in line.as_dict()


def test_the_table_names_both_numbers_the_interval_and_the_verdict():
    lines = [
        Line("NLL", 3.25, 2.5, Interval(-0.75, -0.875, -0.625), "lower", 12, 6),
        Line("ROUGE-L", 0.125, 0.125, Interval(0.0, -0.25, 0.25), "higher", 12, 6),
        Line("redirects", 0.0, 1.0, None, "higher", 1, 1),
    ]
    head, nll, rouge, redirects = format_lines(lines, "before", "after").splitlines()
    assert head.split()[:2] == ["before", "after"]
    assert nll.split() == ["NLL", "3.250", "2.500", "-0.750", "[-0.875,", "-0.625]", "12", "better"]
    assert rouge.endswith("no difference shown")
    assert redirects.endswith("too few groups")
    assert json.loads(json.dumps(lines[0].as_dict()))["low"] == -0.875
    assert [Line.from_dict(line.as_dict()) for line in lines] == lines


def test_rows_must_pair_up():
    with pytest.raises(UserError, match="found 10, 10, 10, 9"):
        compare(marks(BAD), marks(BAD), REFERENCES, GROUPS[:9])
    with pytest.raises(UserError, match="Found 1 questions and 2 references"):
        mark_answers(["a"], ["b", "c"], ["d", "e"])
    with pytest.raises(UserError, match="Found 1 predictions and 2 references"):
        mark_answers(["a", "b"], ["b"], ["d", "e"])


# --- how large a difference must be to be found


def test_the_minimum_detectable_difference_is_that_of_the_textbook():
    # Standard error 0.1: (1.96 + 0.8416) x 0.1, and twice as many standard errors at power 0.975.
    interval = Interval(0.05, 0.05 - 0.1959964, 0.05 + 0.1959964)
    assert minimum_detectable_difference(interval) == pytest.approx(0.28016, abs=1e-4)
    assert minimum_detectable_difference(interval, power=0.975) == pytest.approx(0.39199, abs=1e-4)
    assert minimum_detectable_difference(interval, power=0.5) == pytest.approx(0.1959964, abs=1e-6)


def test_four_times_the_rows_find_half_the_difference():
    interval = Interval(0.0, -0.1, 0.1)
    detectable = minimum_detectable_difference(interval)
    assert groups_needed(interval, 50, detectable) == pytest.approx(50, abs=1)
    assert groups_needed(interval, 50, -detectable / 2) == pytest.approx(200, abs=1)
    with pytest.raises(UserError, match="difference of 0"):
        groups_needed(interval, 50, 0.0)


def test_rows_in_which_nothing_differs_cannot_tell_what_they_would_find():
    nothing = Interval(0.0, 0.0, 0.0)
    assert minimum_detectable_difference(nothing) == float("inf")
    assert groups_needed(nothing, 50, 0.1) == float("inf")


def test_such_a_difference_is_found_four_times_in_five():
    rng = np.random.default_rng(4)
    true = minimum_detectable_difference(mean_difference(np.zeros(100), rng.normal(0, 1, 100), range(100)))
    trials = rng.normal(true, 1, (5000, 100))
    z = trials.mean(axis=1) / (trials.std(axis=1, ddof=1) / 10)
    assert 0.7 < (z > 1.96).mean() < 0.9  # the pilot's own spread is off by a few percent
