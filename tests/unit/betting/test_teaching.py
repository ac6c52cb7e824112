"""Training rows of both kinds: what is supervised, how probable, and in which proportion."""

import random
from collections import Counter

import pytest

from finetune_utils.betting import teaching
from finetune_utils.betting.questions import margin_rows, win_rows
from finetune_utils.betting.teaching import draw_games, json_examples, json_prompt, mix, yes_no_examples, yes_no_prompt
from finetune_utils.errors import UserError
from finetune_utils.hardware import FP32
from finetune_utils.training import TrainSettings, train


@pytest.fixture
def rows(table, monkeypatch):
    monkeypatch.setattr(teaching, "YES_NO", ("Y", "N"))  # single tokens of the throwaway tokenizer
    return win_rows(table.iloc[2000:2002], [0.7, 0.4])


def supervised(example, tokenizer):
    return tokenizer.decode([label for label in example["labels"] if label != -100])


def test_a_yes_no_row_is_as_probable_as_its_reference(rows, tokenizer):
    y, n = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("Y", "N"))
    for example, row in zip(yes_no_examples(rows, tokenizer), rows, strict=True):
        prompt = tokenizer(row["question"] + "\nYes or No:", add_special_tokens=False)["input_ids"]
        ((position, other, p),) = example["soft_labels"]
        assert example["input_ids"][:position] == prompt
        likelier = max(row["probability"], 1 - row["probability"])
        assert (example["labels"][position], other) == ((y, n) if row["probability"] >= 0.5 else (n, y))
        assert p == pytest.approx(1 - likelier)


def test_a_hard_row_teaches_what_happened(rows, tokenizer):
    for example, row in zip(yes_no_examples(rows, tokenizer, "outcome"), rows, strict=True):
        assert example["soft_labels"] == []
        assert supervised(example, tokenizer) == ("Y" if row["outcome"] else "N") + "<|im_end|>"


def test_a_json_row_is_supervised_on_its_answer_only(rows, table, tokenizer):
    rows = rows + margin_rows(table.iloc[2000:2001], [4.4], 17.5, sides=(1,))
    examples = json_examples(rows, tokenizer)
    assert supervised(examples[0], tokenizer) == ' {"probability": 0.70, "confidence_interval": [0.54, 0.82]}<|im_end|>'
    assert supervised(examples[-1], tokenizer) == ' {"margin": 4, "confidence_interval": [-14, 22]}<|im_end|>'
    told = json_examples(rows[:1], tokenizer, ["1"])[0]
    assert supervised(told, tokenizer) == " 1<|im_end|>"


def test_the_prompts_are_those_of_the_examples(rows, tokenizer):
    for prompt, examples in ((yes_no_prompt, yes_no_examples), (json_prompt, json_examples)):
        (example,) = examples(rows[:1], tokenizer)
        asked = [token for token, label in zip(example["input_ids"], example["labels"], strict=True) if label == -100]
        assert tokenizer.decode(asked) == prompt(rows[0], tokenizer)


def test_lopsided_games_are_drawn_more_often_and_both_sides_stay_together():
    rows = [{"id": (i, side), "estimate": 0.9 if i % 10 == 0 else 0.5} for i in range(200) for side in (1, -1)]
    drawn = draw_games(rows, 80, random.Random(0))
    assert len(drawn) == 80
    games = [row["id"][0] for row in drawn[::2]]
    assert games == [row["id"][0] for row in drawn[1::2]]
    assert [row["id"][1] for row in drawn[:4]] == [1, -1, 1, -1]
    assert len(set(games)) == 40
    far = sum(row["estimate"] == 0.9 for row in drawn[::2])
    assert 10 <= far <= 20  # one game in ten is far; in an even draw four of forty would be
    assert games != sorted(games)
    assert drawn == draw_games(rows, 80, random.Random(0)) != draw_games(rows, 80, random.Random(1))


def test_all_games_are_drawn_when_there_are_too_few_and_equal_ones_are_no_problem():
    rows = [{"id": i // 2, "estimate": 0.5} for i in range(10)]
    assert sorted(row["id"] for row in draw_games(rows, 99, random.Random(0))) == [i // 2 for i in range(10)]


def test_a_mix_keeps_its_shares_in_every_stretch():
    parts = {"yes": ["y1", "y2", "y3"], "json": ["j1", "j2"], "margin": ["m1"]}
    mixed = mix(parts, {"yes": 0.5, "json": 0.3, "margin": 0.2}, 200)
    for start in range(0, 200, 20):
        assert Counter(text[0] for text in mixed[start : start + 20]) == {"y": 10, "j": 6, "m": 4}
    assert [text for text in mixed if text[0] == "y"][:4] == ["y1", "y2", "y3", "y1"]


def test_a_part_with_a_head_start_comes_first_and_keeps_its_share_of_the_whole():
    parts = {"yes": ["y"], "json": ["j"], "margin": ["m"]}
    mixed = "".join(mix(parts, {"yes": 0.6, "json": 0.28, "margin": 0.12}, 250, first="yes", head_start=0.24))
    assert mixed.startswith("y" * 60)
    assert Counter(mixed) == {"y": 150, "j": 70, "m": 30}
    assert all(mixed[start : start + 19].count("y") == 9 for start in range(60, 250, 19))
    with pytest.raises(UserError, match="head start 0.7 must be 0 or more and within the share of the part 'yes'"):
        mix(parts, {"yes": 0.6, "json": 0.28, "margin": 0.12}, 250, first="yes", head_start=0.7)


def test_in_blocks_every_step_is_of_one_kind():
    parts = {"yes": [f"y{i}" for i in range(5)], "json": [f"j{i}" for i in range(8)]}
    mixed = mix(parts, {"yes": 0.25, "json": 0.75}, 46, block=4)
    assert len(mixed) == 46
    steps = ["".join(sorted({text[0] for text in mixed[i : i + 4]})) for i in range(0, 46, 4)]
    assert Counter(steps) == {"y": 3, "j": 9}
    assert [text for text in mixed if text[0] == "y"] == [
        "y0",
        "y1",
        "y2",
        "y3",
        "y4",
        "y0",
        "y1",
        "y2",
        "y3",
        "y4",
        "y0",
        "y1",
    ]


def test_soft_and_json_rows_train_together(rows, tiny_model, tokenizer):
    parts = {"yes": yes_no_examples(rows, tokenizer), "json": json_examples(rows, tokenizer)}
    examples = mix(parts, {"yes": 0.5, "json": 0.5}, 16)
    settings = TrainSettings(max_steps=20, batch_size=4, learning_rate=1e-2, shuffle=False)
    losses = train(tiny_model(), tokenizer, examples, settings, precision=FP32).losses
    assert sum(losses[-4:]) < 0.6 * sum(losses[:4])


def test_what_cannot_be_taught_is_refused(rows, table, tokenizer):
    with pytest.raises(UserError, match="asks about margin: only a win question"):
        yes_no_examples(margin_rows(table.iloc[:1], [1], 17), tokenizer)
    with pytest.raises(UserError, match="Unknown target 'teacher': choose probability or outcome"):
        yes_no_examples(rows, tokenizer, "teacher")
    with pytest.raises(UserError, match="must be 0 or more and sum to 1"):
        mix({"a": [1]}, {"a": 0.7}, 2)
    with pytest.raises(UserError, match="The part 'b' has a share and no examples"):
        mix({"a": [1], "b": []}, {"a": 0.5, "b": 0.5}, 2)
