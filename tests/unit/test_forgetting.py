"""Windows of a text: every token once, no window over the border of two pieces, intervals by piece."""

import pytest

from finetune_utils.errors import UserError
from finetune_utils.forgetting import by_piece, forgotten, neutral_nll, neutral_windows, text_windows

TEXT = (
    "# Rates\n\nA learning rate is a step.\n\nIt moves the weights.\n\n# Masks\n\nThe mask hides the prompt.\n\n"
    "# Loss\n\nIt is nan."
)


def test_every_token_stands_in_one_window_and_no_window_has_two_pieces(tokenizer):
    windows = text_windows(TEXT, tokenizer, length=5)
    assert list(dict.fromkeys(windows.pieces)) == ["Rates", "Masks", "Loss"]
    for title, piece in zip(("Rates", "Masks", "Loss"), TEXT.split("# ")[1:], strict=True):
        ids = [
            t for e, name in zip(windows.examples, windows.pieces, strict=True) if name == title for t in e["input_ids"]
        ]
        whole = tokenizer(f"# {piece}".strip())["input_ids"]
        assert ids == whole[: len(ids)]
        assert len(whole) - len(ids) <= 1  # a last token alone has nothing before it and is left out
    assert all(2 <= len(e["input_ids"]) <= 5 and e["labels"] == e["input_ids"] for e in windows.examples)


def test_fewer_windows_are_spread_over_the_text(tokenizer):
    windows = text_windows(TEXT, tokenizer, length=5, limit=3)
    assert len(windows.examples) == len(windows.pieces) == 3
    assert windows.pieces[0] == "Rates"
    assert windows.pieces[-1] != "Rates"


def test_a_text_without_headings_is_one_piece(tokenizer):
    assert set(text_windows("The loss is nan. " * 9, tokenizer, length=8).pieces) == {"piece 0"}


def test_an_empty_text_and_a_window_of_one_token_are_refused(tokenizer):
    with pytest.raises(UserError, match="is empty"):
        text_windows(" \n", tokenizer)
    with pytest.raises(UserError, match="length is 1"):
        text_windows(TEXT, tokenizer, length=1)


def test_a_model_has_forgotten_nothing_against_itself_and_much_against_another(tiny_model, tokenizer):
    windows = text_windows(TEXT, tokenizer, length=8)
    before = neutral_nll(tiny_model(), tokenizer, windows)
    same = forgotten(before, neutral_nll(tiny_model(), tokenizer, windows), windows)
    assert (same.estimate, same.low, same.high) == (0.0, 0.0, 0.0)
    after = neutral_nll(tiny_model(seed=5), tokenizer, windows)
    change = forgotten(before, after, windows)
    assert change.estimate == pytest.approx(after.mean - before.mean)
    assert change.low < change.high
    pieces = by_piece(before, windows)
    counts = {name: sum(c for c, p in zip(before.counts, windows.pieces, strict=True) if p == name) for name in pieces}
    total = sum(counts.values())
    assert sum(pieces[name] * counts[name] for name in pieces) / total == pytest.approx(before.mean)


def test_the_neutral_text_has_many_pieces(tokenizer):
    windows = neutral_windows(tokenizer, length=512)
    assert len(set(windows.pieces)) >= 20
    assert len(neutral_windows(tokenizer, length=512, limit=4).examples) == 4
