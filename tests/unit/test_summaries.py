"""Summaries: rows in several wordings, what a shot costs, ROUGE with intervals, and names that nobody said."""

import pytest

from finetune_utils import summaries
from finetune_utils.errors import UserError
from finetune_utils.hardware import FP32
from finetune_utils.prompts import chat_prompt, render_prompt
from finetune_utils.scores import rouge
from finetune_utils.summaries import (
    NEW_WORDING,
    TEMPLATE,
    WORDINGS,
    encode_summaries,
    first_turns,
    invented,
    mean_interval,
    ordinary_words,
    reader_counts,
    rouge_gap,
    rouge_intervals,
    solved_examples,
    summarize,
    summary_question,
    summary_rows,
    train_long_rows,
)
from finetune_utils.tokenization import mask_text
from finetune_utils.training import TrainSettings, train

TALK = "Ana: Tea or coffee?\nBo: Coffee.\nAna: We have none.\nBo: Then tea at 4, with Ms. Chu."
ROW = {"id": "x-1", "dialogue": TALK, "summary": "Bo takes tea."}


def test_the_parts_share_no_dialogue_and_only_training_rows_vary_their_wording():
    parts = summary_rows()
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 100, "dev": 20, "test": 40}
    ids = [row["id"] for rows in parts.values() for row in rows]
    assert len(set(ids)) == 160
    used = {name: {row["question"].partition("\n\n")[0] for row in rows} for name, rows in parts.items()}
    assert used == {"train": set(WORDINGS), "dev": {WORDINGS[0]}, "test": {WORDINGS[0]}}
    assert [row["id"] for row in summary_rows(WORDINGS[:1])["train"]] == [row["id"] for row in parts["train"]]


def test_the_new_wording_is_no_trained_one_and_every_wording_asks_something_else():
    assert NEW_WORDING not in WORDINGS
    assert len(set(WORDINGS)) == len(WORDINGS) >= 4


def test_the_first_turns_are_taken_as_they_stand():
    assert first_turns(TALK) == "Ana: Tea or coffee? Bo: Coffee."
    assert first_turns(TALK, 9) == TALK.replace("\n", " ")


def test_solved_examples_are_the_shortest_rows():
    rows = summary_rows()["train"]
    chosen = solved_examples(rows, 3)
    longest = max(len(question) for question, _ in chosen)
    assert sum(len(row["question"]) <= longest for row in rows) == 3
    answers = {row["question"]: row["summary"] for row in rows}
    assert all(answers[question] == answer for question, answer in chosen)


def test_a_prompt_carries_instruction_examples_and_dialogue_in_order(monkeypatch, tokenizer):
    asked = []
    monkeypatch.setattr(summaries, "generate", lambda model, tok, prompts, *rest: asked.extend(prompts) or prompts)
    example = (summary_question("Cy: Hi."), "Cy says hi.")
    summarize(None, tokenizer, [ROW], NEW_WORDING, [example])
    assert asked == [chat_prompt(tokenizer, f"{NEW_WORDING}\n\n{TALK}", system="", examples=[example])]
    summarize(None, tokenizer, [ROW], system=None)
    assert asked[1] == chat_prompt(tokenizer, summary_question(TALK))


def test_what_is_trained_is_what_is_asked_and_only_the_summary_is_supervised(tokenizer):
    (row,) = summaries.with_wordings([ROW])
    (example,) = encode_summaries([row], tokenizer)
    assert mask_text(example, tokenizer) == render_prompt(row, tokenizer, TEMPLATE) + "[[Bo takes tea.<|im_end|>]]"
    assert render_prompt(row, tokenizer, TEMPLATE) == chat_prompt(tokenizer, summary_question(TALK), system="")


def test_long_rows_train_to_the_same_losses(tiny_model, tokenizer):
    rows = encode_summaries(summary_rows()["train"][:8], tokenizer)
    settings = TrainSettings(max_steps=3, batch_size=2, learning_rate=1e-3)
    runs = []
    for way in (train, lambda *parts, precision: train_long_rows(*parts)):
        model = tiny_model(max_position_embeddings=2048)
        runs.append((way(model, tokenizer, rows, settings, precision=FP32).losses, model.config._attn_implementation))
    (usual, before), (plain, after) = runs
    assert usual == pytest.approx(plain, rel=2e-2)
    assert before == after  # the choice of attention ends with the run


def test_rouge_has_an_interval_around_its_mean_and_a_perfect_system_scores_one():
    references = ["Bo takes tea.", "Ana buys a lamp.", "The game is off."]
    said = ["Bo takes tea.", "Ana sells a lamp.", "Rain."]
    found = rouge_intervals(said, references)
    for kind, interval in found.items():
        values = rouge(said, references)[kind]
        assert interval.estimate == pytest.approx(sum(values) / 3)
        assert interval.low < interval.estimate < interval.high
    assert rouge_intervals(references, references)["rouge2"].low == 1.0


def test_a_gap_is_after_minus_before_on_the_same_rows():
    references = ["Bo takes tea.", "Ana buys a lamp."]
    gap = rouge_gap(["no", "Ana buys a lamp."], references, references)
    assert (gap.estimate, gap.low, gap.high) == (0.5, 0.0, 1.0)
    assert rouge_gap(references, ["no", None], references).estimate == -1.0
    assert mean_interval([0.25, 0.25]).high == 0.25


def test_names_and_numbers_that_nobody_said_are_found():
    ordinary = ordinary_words([ROW, {"dialogue": "Cy: I will.", "summary": "Instead, Cy will go."}])
    assert "instead" in ordinary
    assert "cy" not in ordinary
    assert invented("Instead, Bo takes tea at 4 with Ms. Chu.", TALK, ordinary) == []
    assert invented("Zoe's tea is at 5. Zoe likes Bo.", TALK, ordinary) == ["Zoe", "5"]
    assert invented("Bo takes tea at 14.", TALK, ordinary) == ["14"]  # the 4 inside another number does not help
    assert invented("Ana takes coffee.", TALK, ordinary) == []  # a wrong fact with right words: the rule cannot see it


def test_references_of_the_course_invent_next_to_nothing():
    parts = summary_rows()
    ordinary = ordinary_words(parts["train"])
    flagged = [row["id"] for row in parts["test"] if invented(row["summary"], row["dialogue"], ordinary)]
    assert len(flagged) <= 0.15 * len(parts["test"]), flagged
    neighbors = zip(parts["test"], parts["test"][1:], strict=False)
    swapped = [invented(row["summary"], other["dialogue"], ordinary) for row, other in neighbors]
    assert sum(map(bool, swapped)) >= 0.9 * len(swapped)


def test_a_readers_counts_get_intervals_and_blanks_are_left_out():
    found = reader_counts({"right person": 7, "right fact": None, "nothing invented": 0}, 10)
    assert list(found) == ["right person", "nothing invented"]
    assert found["right person"].low == pytest.approx(0.397, abs=1e-3)
    assert found["right person"].high == pytest.approx(0.892, abs=1e-3)
    assert found["nothing invented"].low == 0.0


@pytest.mark.parametrize("count", [11, -1])
def test_a_count_outside_the_rows_is_refused(count):
    with pytest.raises(UserError, match=f"right person: found {count} of 10 rows"):
        reader_counts({"right person": count}, 10)
