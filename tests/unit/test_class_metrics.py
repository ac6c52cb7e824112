"""Scores of a classifier: by hand, against scikit-learn, and intervals that behave."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score

from finetune_utils.class_metrics import class_scores_of, confusion, macro_f1, macro_f1_difference, macro_f1_interval
from finetune_utils.errors import UserError

TRUTH = [0, 0, 0, 0, 1, 1, 2, 2]
SAID = [0, 0, 1, 0, 1, 2, 2, 0]


def test_the_matrix_has_a_row_for_each_true_class():
    assert confusion(TRUTH, SAID, 3).tolist() == [[3, 1, 0], [0, 1, 1], [1, 0, 1]]


def test_scores_of_a_class_by_hand():
    first = class_scores_of(TRUTH, SAID, 3)[0]
    assert (first.precision, first.recall, first.f1, first.rows) == (3 / 4, 3 / 4, 3 / 4, 4)
    assert macro_f1(TRUTH, SAID, 3) == pytest.approx((3 / 4 + 1 / 2 + 1 / 2) / 3)


def test_a_class_that_is_never_there_and_never_said_scores_0():
    assert class_scores_of([0, 1], [0, 1], 3)[2].f1 == 0
    assert macro_f1([0, 1], [0, 1], 3) == pytest.approx(2 / 3)


def test_all_agree_with_scikit_learn_on_random_classes():
    rng = np.random.default_rng(5)
    for classes in (2, 3, 5):
        truth, said = rng.integers(classes, size=(2, 60))
        names = {"labels": range(classes), "average": None, "zero_division": 0}
        found = class_scores_of(truth, said, classes)
        assert confusion(truth, said, classes).tolist() == confusion_matrix(truth, said, labels=range(classes)).tolist()
        assert [x.precision for x in found] == pytest.approx(precision_score(truth, said, **names))
        assert [x.recall for x in found] == pytest.approx(recall_score(truth, said, **names))
        assert macro_f1(truth, said, classes) == pytest.approx(f1_score(truth, said, **(names | {"average": "macro"})))


def test_always_saying_the_most_frequent_class_has_accuracy_and_no_macro_f1():
    truth = [0] * 80 + [1] * 10 + [2] * 10
    assert macro_f1(truth, [0] * 100, 3) == pytest.approx(2 * 80 / 180 / 3)


def test_an_interval_holds_its_estimate_and_narrows_with_more_rows():
    one = macro_f1_interval(TRUTH * 5, SAID * 5, 3)
    many = macro_f1_interval(TRUTH * 80, SAID * 80, 3)
    assert one.estimate == many.estimate == pytest.approx(macro_f1(TRUTH, SAID, 3))
    assert one.low < one.estimate < one.high
    assert many.high - many.low < 0.4 * (one.high - one.low)


def test_a_difference_is_paired():
    """Two classifiers that err on the same rows but one: unpaired, the spread of either would hide the difference."""
    truth, before = TRUTH * 20, SAID * 20
    after = list(before)
    for i in range(2, len(after), 8):  # the third row of each block is now right
        after[i] = 0
    change = macro_f1_difference(truth, before, after, 3)
    apart = macro_f1_interval(truth, before, 3)
    assert change.excludes_zero
    assert change.estimate == pytest.approx(macro_f1(truth, after, 3) - macro_f1(truth, before, 3))
    assert change.high - change.low < apart.high - apart.low
    assert macro_f1_difference(truth, before, before, 3).low == 0


def test_groups_widen_the_interval_when_rows_come_in_copies():
    groups = [i for i in range(8) for _ in range(20)]
    truth, said = ([x for x in rows for _ in range(20)] for rows in (TRUTH, SAID))
    plain, grouped = macro_f1_interval(truth, said, 3), macro_f1_interval(truth, said, 3, groups)
    assert grouped.high - grouped.low > 2 * (plain.high - plain.low)


@pytest.mark.parametrize(
    ("truth", "said", "told"),
    [
        ([0, 1], [0], "2 labels and 1 predictions"),
        ([], [], "0 labels"),
        ([0, 3], [0, 1], "none of the 3"),
        ([0, 1], [0, -1], "none of the 3"),
    ],
)
def test_rows_that_do_not_fit_are_refused(truth, said, told):
    with pytest.raises(UserError, match=told):
        macro_f1(truth, said, 3)
