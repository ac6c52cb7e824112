"""The forecaster's run: what each target teaches, what the controls change, that the scores are those of the games."""

import json
import math
import re

import numpy as np
import pytest

from finetune_utils.betting import forecaster, forecasts, teaching
from finetune_utils.betting.answers import answer_text, read_answers
from finetune_utils.betting.forecaster import (
    CONTROLS,
    FORECAST_BATCH,
    FORECAST_STEPS,
    SHARES,
    forecast_data,
    forecaster_examples,
    score_forecaster,
    train_forecaster,
)
from finetune_utils.betting.forecasts import (
    Forecasts,
    read_centers,
    read_forecaster,
    score_forecasts,
    score_margins,
    score_repair,
    some_games,
    spread_out,
)
from finetune_utils.betting.questions import NAMES
from finetune_utils.betting.scoring import brier
from finetune_utils.errors import UserError

NAN = float("nan")


@pytest.fixture(scope="module")
def data():
    return forecast_data()


@pytest.fixture(autouse=True)
def short_words(monkeypatch):
    """Y and N are single tokens of the throwaway tokenizer; Yes and No are not."""
    for module in (teaching, forecasts):
        monkeypatch.setattr(module, "YES_NO", ("Y", "N"))


@pytest.fixture
def tiny(monkeypatch, tiny_model, tokenizer):
    """`load_model` gives the tiny model."""
    monkeypatch.setattr(forecaster, "load_model", lambda name, say=print: (tiny_model(), tokenizer))


def told(examples, tokenizer):
    """The supervised text of each example."""
    return [
        tokenizer.decode([label for label in e["labels"] if label != -100]).removesuffix("<|im_end|>") for e in examples
    ]


def test_no_label_has_seen_its_own_game(data):
    turned = data.train.copy()
    turned.loc[turned["season"] == 2021, "home_won"] = 1 - turned.loc[turned["season"] == 2021, "home_won"]
    again = forecaster.cross_fit(turned, forecaster.TEACHER)
    first = (data.train["season"] == 2021).to_numpy()
    np.testing.assert_array_equal(again[first], data.labels[first])
    assert np.abs(again - data.labels)[~first].max() > 0.1


def test_seasons_are_kept_apart(data):
    assert set(data.train["season"]) == {2021, 2023}
    assert set(data.season("dev")["season"]) == {2024}
    assert set(data.season("test")["season"]) == {2025}
    with pytest.raises(UserError, match="Unknown season '2025': choose dev"):
        data.season("2025")


def test_the_taught_margin_interval_covers_eighty_percent_of_the_training_games(data):
    inside = np.abs(data.train["home_lead"] - data.margins) <= data.half_width
    assert inside.mean() == pytest.approx(0.8, abs=0.001)


def test_shuffled_outcomes_keep_their_number_and_teach_nothing(data):
    shuffled = forecast_data(control="shuffled outcomes")
    assert shuffled.train["home_won"].sum() == data.train["home_won"].sum()
    assert (shuffled.train["home_won"] == (shuffled.train["home_lead"] > 0)).all()
    assert np.std(shuffled.labels) < 0.2 * np.std(data.labels)
    assert brier(shuffled.teacher(shuffled.dev), shuffled.dev["home_won"]) > 0.245
    np.testing.assert_array_equal(shuffled.dev["home_won"], data.dev["home_won"])
    other = forecast_data(control="shuffled outcomes", seed=1)
    assert (other.train["home_won"] != shuffled.train["home_won"]).any()


def test_the_leaky_feature_is_in_the_text_and_in_the_teacher(data, tokenizer):
    leaky = forecast_data(control="leaky feature")
    assert brier(leaky.teacher(leaky.dev), leaky.dev["home_won"]) < 0.16
    asked = forecasts.win_rows(leaky.dev.head(1), [0.5])
    lead = round(leaky.dev["leak_unshifted_form"][0])
    assert f" Last three {lead:+d}." in asked[0]["question"]
    assert f" Last three {-lead:+d}." in asked[1]["question"]
    assert "Last three" not in forecasts.win_rows(data.dev.head(1), [0.5])[0]["question"]


def test_every_batch_is_of_one_kind_and_the_kinds_keep_their_shares(data, tokenizer):
    batch = 4
    texts = told(forecaster_examples(data, tokenizer, 20, batch_size=batch), tokenizer)
    assert len(texts) == 20 * batch
    kinds = ["margin" if "margin" in t else "json" if "probability" in t else "yes_no" for t in texts]
    steps = [set(kinds[i : i + batch]) for i in range(0, len(kinds), batch)]
    assert all(len(step) == 1 for step in steps)
    for kind, share in SHARES.items():
        assert sum(step == {kind} for step in steps) == pytest.approx(20 * share, abs=1)


def test_both_sides_of_a_game_stand_next_to_each_other(data, tokenizer):
    for target in ("forecaster", "yes-no soft", "teacher text"):
        examples = forecaster_examples(data, tokenizer, 4, target=target, batch_size=4)
        prompts = [
            tokenizer.decode([t for t, label in zip(e["input_ids"], e["labels"], strict=True) if label == -100])
            for e in examples
        ]
        for home, away in zip(prompts[::2], prompts[1::2], strict=True):
            (own,), (other,) = (re.findall(r"Elo ([+-]\d+):", prompt) for prompt in (home, away))
            assert int(own) == -int(other)
            assert "Away." in away or "Neutral." in away


def test_targets_differ_in_what_they_say(data, tokenizer):
    soft, hard, teacher, outcome = (
        forecaster_examples(data, tokenizer, 2, target=name)
        for name in ("yes-no soft", "yes-no hard", "teacher text", "outcome text")
    )
    assert all(e["soft_labels"] for e in soft)
    assert not any(e["soft_labels"] for e in hard)
    assert set(told(hard, tokenizer)) == {"Y", "N"}
    assert {json.loads(t)["probability"] for t in told(outcome, tokenizer)} == {0, 1}
    stated = [json.loads(t)["probability"] for t in told(teacher, tokenizer)]
    assert all(0.05 <= p <= 0.95 for p in stated)
    assert len(set(stated)) > 10
    for kind in (soft, hard, teacher, outcome):
        assert len(kind) == 2 * FORECAST_BATCH


def test_seeds_change_the_order_and_nothing_else_does(data, tokenizer):
    one, same, other = (
        [e["input_ids"] for e in forecaster_examples(data, tokenizer, 4, seed)] for seed in (0, 0, 1)
    )  # fmt: skip
    assert one == same
    assert one != other


def test_a_tiny_model_trains_and_every_number_of_its_score_is_finite(data, tiny):
    model, tokenizer, result = train_forecaster(data, "tiny", steps=4, batch_size=2, progress=False)
    assert result.steps == 4
    values = score_forecaster(
        model, tokenizer, data, games=12, answers=4, digits=4, margins=8
    )  # fmt: skip
    json.dumps(values, allow_nan=False)
    assert values["games"] == values["yes_no_games"] == 12
    assert values["stated_games"] == values["digits_games"] == 4
    assert values["margin_games"] == 4
    few = score_forecaster(model, tokenizer, data, "test", games=12, answers=0, digits=0, margins=0)
    assert not {key for key in few if key.startswith(("stated", "digits", "margin", "valid"))}
    assert few["elo_brier"] == brier(
        data.ladder["Elo"](some_games(data.test, 12)), some_games(data.test, 12)["home_won"]
    )


def test_training_moves_the_answer_towards_the_labels(data, tiny):
    model, tokenizer, result = train_forecaster(
        data, "tiny", steps=FORECAST_STEPS // 4, target="yes-no soft", progress=False
    )
    assert np.mean(result.losses[-5:]) < 0.7 * np.mean(result.losses[:5])


def test_readings_stand_beside_their_games(data, tiny_model, tokenizer):
    table = some_games(data.dev, 8)
    read = read_forecaster(tiny_model(), tokenizer, table, answers=3, digits=4)
    assert np.flatnonzero(~np.isnan(read.stated)).tolist() == [0, 2, 5]
    assert np.flatnonzero(~np.isnan(read.digits)).tolist() == [0, 2, 4, 6]
    whole = read_forecaster(tiny_model(), tokenizer, table, answers=0, digits=0)
    np.testing.assert_allclose(whole.asked_home, read.asked_home, rtol=1e-5)
    np.testing.assert_allclose(whole.asked_away, read.asked_away, rtol=1e-5)
    alone = read_forecaster(tiny_model(), tokenizer, table.iloc[[5]], answers=0, digits=0)
    np.testing.assert_allclose(alone.asked_away, whole.asked_away[5], rtol=1e-4)
    assert abs(whole.asked_home - whole.asked_away).max() > 1e-6
    assert whole.texts == []


def test_solved_games_stand_before_the_question(data, tiny_model, tokenizer, monkeypatch):
    asked = []
    monkeypatch.setattr(forecasts, "yes_no", lambda m, t, prompts, *rest, **named: (asked.append(prompts), [0.5])[1:])
    monkeypatch.setattr(
        forecasts,
        "stated",
        lambda m, t, prompts, *rest, **named: (asked.append(prompts), read_answers(["x"]), ["x"])[1:],
    )
    rows = forecasts.win_rows(data.train.head(1), [0.7], wording=0)
    table = data.dev.head(1)
    read_forecaster(None, tokenizer, table, digits=0, shots=rows)
    question = forecasts.win_rows(table, [0.5], (1,), wording=0)[0]["question"]
    json_prompt, yes_no_prompt, _ = (prompts[0] for prompts in asked)
    won = data.train["home_won"][0]
    solved = [
        f"{row['question']}\nYes or No:{'Y' if y else 'N'}\n\n" for row, y in zip(rows, (won, 1 - won), strict=True)
    ]
    assert yes_no_prompt == "".join(solved) + question + "\nYes or No:"
    answers = [forecasts.row_answer(row) for row in rows]
    solved = [f"{row['question']}\nJSON: {answer}\n\n" for row, answer in zip(rows, answers, strict=True)]
    assert json_prompt == "".join(solved) + question + "\nJSON:"


def said(*texts):
    return read_answers(texts)


def test_the_score_of_readings_by_hand(data):
    table = data.dev.head(40)
    elo = data.ladder["Elo"](table)
    answers = ['{"probability": 0.60, "confidence_interval": [0.40, 0.75]}', "I think so"] * 20
    reading = read_answers(answers)
    # Asked from both sides, this model says Yes too often by 0.1, 0.3 or 0.02: the mean of both is Elo again.
    pull = np.tile([0.1, 0.3, 0.02, 0.02], 10)
    read = Forecasts(
        elo + pull / 2, 1 - elo + pull / 2, np.array(reading.estimates), np.full(40, NAN), reading, answers
    )
    values = score_forecasts(read, table, data.ladder)
    assert values["yes_no_brier"] == pytest.approx(values["elo_brier"]) == pytest.approx(brier(elo, table["home_won"]))
    assert values["yes_no_vs_elo"] == pytest.approx(0)
    assert values["yes_no_vs_elo_low"] == pytest.approx(0)
    assert values["one_side_brier"] == pytest.approx(brier(elo + pull / 2, table["home_won"]))
    won = table["home_won"].to_numpy()
    assert values["stated_brier"] == pytest.approx(np.mean((np.tile([0.6, 0.5], 20) - won) ** 2))
    assert values["stated_vs_elo"] == pytest.approx(values["stated_brier"] - values["elo_brier"])
    assert (values["valid"], values["inside"]) == (0.5, 0.5)
    assert values["interval_width"] == pytest.approx(0.35)
    assert values["swap_median"] == values["swap_abs_median"] == pytest.approx(0.06)
    assert not any(key.startswith("digits") for key in values)


def test_equal_forecasts_have_no_slope_and_that_is_said_as_zero(data):
    table = data.dev.head(20)
    none = np.full(20, NAN)
    read = Forecasts(np.full(20, 0.5), np.full(20, 0.5), none, none, said(), [])
    values = score_forecasts(read, table, data.ladder)
    assert values["yes_no_slope"] == 0
    assert values["yes_no_log_loss"] == pytest.approx(math.log(2))


def test_margins_are_repaired_on_other_games(data):
    table, seen = data.dev.head(4), data.dev.iloc[100:109]
    answer = '{"margin": 3, "confidence_interval": [0, 6]}'
    leads = table["home_lead"].to_numpy()
    reading = read_answers([answer, answer, "no", answer], "margin")
    before = read_answers([answer] * 9, "margin")
    centers = np.array(reading.estimates)
    values = score_margins(reading, table) | score_repair(centers, table, np.array(before.estimates), seen)
    half = sorted(abs(seen["home_lead"] - 3))[7]  # the 8th of 9: ceil(10 x 0.8)
    assert values["margin_width"] == 2 * half
    assert centers.tolist() == [3, 3, 0, 3]
    assert values["margin_games"] == 4
    assert values["margin_coverage"] == np.mean(abs(leads - centers) <= half)
    stated = [0 <= lead <= 6 for lead in leads]
    assert values["margin_stated_coverage"] == (stated[0] + stated[1] + stated[3]) / 4
    assert (values["margin_stated_width"], values["margin_valid"]) == (6, 0.75)


def test_centers_are_the_mean_of_both_sides(data, monkeypatch, tokenizer):
    table, asked = data.dev.head(3), []
    home, away = [4, -11, 0], [-5, 8, 0]

    def _cut(model, tokenizer, prompts, tokens, **options):
        asked.append((prompts, tokens))
        return [answer_text(lead, (lead - 17, lead + 17), "margin")[:16] for lead in home + away]

    monkeypatch.setattr(forecasts, "generate", _cut)
    assert read_centers(None, tokenizer, table).tolist() == [4.5, -9.5, 0]
    prompts, tokens = asked[0]
    for prompt, team in zip(prompts, [*table["home"], *table["away"]], strict=True):
        assert f"do the {NAMES[team]} beat" in prompt
    assert 0 < tokens < forecasts.ANSWER_TOKENS


def test_games_are_spread_over_the_season(data):
    assert spread_out(10, 4).tolist() == [0, 2, 5, 7]
    assert spread_out(3, None).tolist() == [0, 1, 2]
    assert spread_out(3, 9).tolist() == [0, 1, 2]
    assert spread_out(3, 0).tolist() == []
    assert some_games(data.dev, None)["id"].equals(data.dev["id"])


def test_what_is_unknown_is_refused(data, tokenizer):
    with pytest.raises(UserError, match="Unknown control 'no labels': choose one of ''"):
        forecast_data(control="no labels")
    assert CONTROLS[0] == ""
    with pytest.raises(UserError, match="Unknown target 'soft': choose one of forecaster, yes-no soft"):
        forecaster_examples(data, tokenizer, 2, target="soft")
    with pytest.raises(UserError, match="too few for a level"):
        score_repair(np.zeros(0), data.dev.head(0), np.zeros(1), data.dev.head(1))
