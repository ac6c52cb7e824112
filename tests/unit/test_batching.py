"""Which examples go together, in which order, and what the collator makes of them."""

from collections import Counter

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from finetune_utils.batching import (
    SupervisedCollator,
    can_skip_logits,
    example_order,
    length_batches,
    with_openings,
)
from finetune_utils.errors import UserError

PAD = 7
LENGTHS = [3 + (i * 37) % 101 for i in range(192)]  # 3 to 103, in no order


def padding(order, lengths, batch_size):
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return sum(max(lengths[i] for i in b) * len(b) - sum(lengths[i] for i in b) for b in batches)


# --- the order


def test_a_seed_fixes_the_order_and_another_seed_changes_it():
    first = example_order(LENGTHS, 8, seed=3)
    assert example_order(LENGTHS, 8, seed=3) == first
    assert example_order(LENGTHS, 8, seed=4) != first


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=40),
    st.integers(1, 9),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
)
def test_every_epoch_takes_every_example_once(lengths, batch_size, epochs, grouped, shuffled):
    n = len(lengths)
    order = example_order(lengths, batch_size, epochs=epochs, seed=5, group_by_length=grouped, shuffle=shuffled)
    assert len(order) == n * epochs
    for epoch in range(epochs):
        assert sorted(order[epoch * n : (epoch + 1) * n]) == list(range(n))


@pytest.mark.parametrize("grouped", [True, False])
def test_epochs_differ_from_each_other(grouped):
    order = example_order(LENGTHS, 8, epochs=2, group_by_length=grouped)
    assert order[:192] != order[192:]


def test_a_longer_run_begins_like_a_shorter_one_so_that_a_resumed_run_sees_what_was_left():
    whole = example_order(LENGTHS, 8, epochs=3)
    assert example_order(LENGTHS, 8, epochs=1) == whole[:192]
    assert example_order(LENGTHS, 8, max_steps=10) == whole[:80]


@pytest.mark.parametrize("epochs", [1, 3])
def test_batches_hold_rows_of_similar_length(epochs):
    grouped = example_order(LENGTHS, 8, epochs=epochs)
    mixed = example_order(LENGTHS, 8, epochs=epochs, group_by_length=False)
    assert padding(grouped, LENGTHS, 8) < 0.1 * padding(mixed, LENGTHS, 8)


def test_the_short_batch_of_an_epoch_comes_last_so_that_it_shifts_no_other():
    lengths = LENGTHS[:190]
    order = example_order(lengths, 8)
    assert padding(order, lengths, 8) < 0.1 * padding(example_order(lengths, 8, group_by_length=False), lengths, 8)


def test_long_batches_do_not_all_come_first():
    order = example_order(LENGTHS, 8)
    means = [sum(LENGTHS[i] for i in order[k : k + 8]) / 8 for k in range(0, 192, 8)]
    assert means != sorted(means)
    assert means != sorted(means, reverse=True)


def test_without_shuffling_the_given_order_is_kept_in_every_epoch():
    assert example_order([9, 1, 5, 3], 2, epochs=2, shuffle=False) == [0, 1, 2, 3] * 2


@pytest.mark.parametrize(("epochs", "expected"), [(0.5, 96), (1.25, 240), (0.0001, 1)])
def test_parts_of_an_epoch_count(epochs, expected):
    order = example_order(LENGTHS, 8, epochs=epochs)
    assert len(order) == expected
    assert max(Counter(order).values()) - min(Counter(order[:192]).values()) <= 1


def test_steps_overrule_epochs_and_go_round_as_often_as_needed():
    order = example_order([5] * 10, 4, accumulation=3, epochs=1, max_steps=2)
    assert len(order) == 24
    assert set(Counter(order).values()) <= {2, 3}


# --- batches for scoring


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 150))
def test_scoring_batches_hold_every_row_once_within_the_budget_longest_first(lengths, budget):
    batches = length_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    in_order = [lengths[i] for batch in batches for i in batch]
    assert in_order == sorted(in_order, reverse=True)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


def test_the_budget_is_used_up_before_a_new_batch_begins():
    assert [len(batch) for batch in length_batches([10] * 7, 30)] == [3, 3, 1]


# --- the collator

LONG = {"input_ids": [21, PAD, 23, 24, 25], "labels": [-100, -100, 23, 24, 25]}
SHORT = {"input_ids": [31, PAD], "labels": [-100, PAD]}


def test_padding_goes_to_the_right_with_pad_id_mask_0_and_label_minus_100():
    batch = SupervisedCollator(PAD, multiple=4)([SHORT, LONG])
    assert batch["input_ids"].tolist() == [[31, PAD] + [PAD] * 6, [21, PAD, 23, 24, 25] + [PAD] * 3]
    assert batch["attention_mask"].tolist() == [[1] * 2 + [0] * 6, [1] * 5 + [0] * 3]
    assert batch["labels"].tolist() == [[-100, PAD] + [-100] * 6, [-100, -100, 23, 24, 25] + [-100] * 3]


def test_positions_to_keep_are_those_before_a_trained_token():
    batch = SupervisedCollator(PAD, multiple=1)([SHORT, LONG])
    assert batch["logits_to_keep"].dtype == torch.bool
    assert batch["logits_to_keep"].int().tolist() == [[1, 0, 0, 0, 0], [0, 1, 1, 1, 0]]
    assert batch["shift_labels"].tolist() == [PAD, 23, 24, 25]


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 99), st.booleans()), min_size=2, max_size=20), min_size=1, max_size=5)
)
def test_the_short_form_says_the_same_as_the_full_labels(rows):
    examples = [
        {"input_ids": [t for t, _ in row], "labels": [t if trained else -100 for t, trained in row]} for row in rows
    ]
    batch = SupervisedCollator(PAD)(examples)
    kept = [(r, t) for r, t in batch["logits_to_keep"].nonzero().tolist()]
    from_rows = [(r, t - 1, row[t][0]) for r, row in enumerate(rows) for t in range(1, len(row)) if row[t][1]]
    assert [(r, t, label) for (r, t), label in zip(kept, batch["shift_labels"].tolist(), strict=True)] == from_rows
    assert [batch["labels"][r, t + 1].item() for r, t in kept] == batch["shift_labels"].tolist()


@pytest.mark.parametrize(("length", "multiple", "width"), [(1, 8, 8), (8, 8, 8), (9, 8, 16), (9, 1, 9), (17, 16, 32)])
def test_widths_are_rounded_up_to_a_multiple(length, multiple, width):
    example = {"input_ids": [5] * length, "labels": [5] * length}
    batch = SupervisedCollator(PAD, multiple=multiple)([example, SHORT] if length > 1 else [example])
    assert {tensor.shape[1] for name, tensor in batch.items() if name != "shift_labels"} == {width}
    assert batch["attention_mask"][0].sum() == length


def test_the_plain_form_has_labels_only():
    batch = SupervisedCollator(PAD, sparse=False)([LONG, SHORT])
    assert set(batch) == {"input_ids", "attention_mask", "labels"}


def test_a_missing_pad_token_is_refused_and_pad_id_0_is_not_missing():
    with pytest.raises(UserError, match=r"no pad token: set tokenizer\.pad_token"):
        SupervisedCollator(None)
    assert SupervisedCollator(0, multiple=3)([SHORT])["input_ids"].tolist() == [[31, PAD, 0]]


def test_examples_stay_as_they_were():
    before = {name: list(values) for name, values in SHORT.items()}
    SupervisedCollator(PAD)([SHORT, LONG])
    assert before == SHORT


def test_an_older_library_is_recognized_by_its_missing_feature(monkeypatch):
    monkeypatch.setattr(transformers.modeling_utils, "slice_logits_to_keep", lambda *_: None, raising=False)
    assert can_skip_logits()
    monkeypatch.delattr(transformers.modeling_utils, "slice_logits_to_keep")
    assert not can_skip_logits()


def numbered(count):
    """Examples whose first id is their number: two prompt tokens, four answer tokens."""
    return [{"input_ids": [i, 7, 20 + i, 31, 32, 33], "labels": [-100, -100, 20 + i, 31, 32, 33]} for i in range(count)]


def test_every_batch_of_whole_examples_is_followed_by_one_of_openings():
    examples = numbered(9)
    ordered = with_openings(examples, batch_size=2, tokens=2, seed=3)
    assert len(ordered) == 16  # the ninth fills no batch
    whole = [e for i in range(0, 16, 4) for e in ordered[i : i + 2]]
    cut = [e for i in range(2, 16, 4) for e in ordered[i : i + 2]]
    assert all(e in examples for e in whole)
    assert len({e["input_ids"][0] for e in whole}) == len({e["input_ids"][0] for e in cut}) == 8
    for e in cut:
        i = e["input_ids"][0]
        assert e == {"input_ids": [i, 7, 20 + i, 31], "labels": [-100, -100, 20 + i, 31]}
    assert [e["input_ids"][0] for e in whole] != sorted(e["input_ids"][0] for e in whole)
    assert ordered == with_openings(examples, 2, 2, seed=3) != with_openings(examples, 2, 2, seed=4)
    assert len(with_openings(examples[:1], batch_size=4)) == 2


def test_openings_may_come_from_a_part_of_the_examples_as_often_as_it_takes():
    examples = numbered(8)
    ordered = with_openings(examples, batch_size=4, tokens=1, openings=examples[:3])
    cut = [e["input_ids"][0] for e in ordered[4:8] + ordered[12:]]
    assert sorted(cut.count(i) for i in range(3)) == [2, 3, 3]
    assert sorted(e["input_ids"][0] for e in ordered[:4] + ordered[8:12]) == list(range(8))


def test_several_batches_of_openings_may_follow_each_batch_of_whole_examples():
    ordered = with_openings(numbered(6), batch_size=2, tokens=1, turns=2)
    sizes = [len(e["input_ids"]) for e in ordered]
    assert sizes == [6, 6, 3, 3, 3, 3] * 3
    cut = [e["input_ids"][0] for e in ordered if len(e["input_ids"]) == 3]
    assert sorted(cut) == sorted([*range(6), *range(6)])


def test_openings_may_wait_until_a_share_of_the_whole_examples_is_through():
    ordered = with_openings(numbered(10), batch_size=2, tokens=1, turns=2, alone=0.5)
    sizes = [len(e["input_ids"]) for e in ordered]
    assert sizes == [6] * 4 + [6, 6, 3, 3, 3, 3] * 3
    assert len({e["input_ids"][0] for e in ordered if len(e["input_ids"]) == 6}) == 10
    cut = [e["input_ids"][0] for e in ordered if len(e["input_ids"]) == 3]
    assert sorted(cut.count(i) for i in range(10)) == [1] * 8 + [2] * 2


def test_openings_are_short_and_leave_the_examples_alone():
    example = {"input_ids": [5, 6, 7, 8], "labels": [-100, 6, -100, 8]}
    before = {name: list(values) for name, values in example.items()}
    assert with_openings([example], 1, tokens=1)[1] == {"input_ids": [5, 6], "labels": [-100, 6]}
    assert example == before
