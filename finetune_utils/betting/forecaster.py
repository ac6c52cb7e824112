"""The forecaster's run, shared by lesson, study and command line: its examples, its training, its scores."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data import DATA_DIR
from ..errors import UserError
from ..generation import fast_copy
from ..lora import add_lora
from ..models import DEFAULT_MODEL, load_model
from ..tokenization import Example
from ..training import TrainResult, TrainSettings, train
from .answers import answer_text
from .baselines import Forecaster, Regression, cross_fit, fit_margin, fit_regression, ladder
from .elo import EloSettings, fit_elo
from .features import feature_table, judged
from .forecasts import LEVEL, read_forecaster, read_margins, score_forecasts, score_margins, score_repair, some_games
from .games import DEV, TEST, TRAIN, load_games
from .questions import Row, margin_rows, win_rows
from .scoring import conformal_half_width
from .teaching import draw_games, json_examples, mix, yes_no_examples

# Chosen on season 2023-24. The teacher knows what the text tells.
TEACHER = ("site", "elo_gap", "margin_gap", "tired_gap")
SHARES = {"yes_no": 0.55, "json": 0.34, "margin": 0.11}
# Yes/No questions have the first fifth of the steps for themselves: read first, then write.
HEAD_START = ("yes_no", 0.2)
FORECAST_RATE = 2e-3
FORECAST_BATCH = 8
FORECAST_STEPS = 260
FORECAST_RANK = 16
# How the examples are taught. The first is the forecaster; the others are there to be compared with it.
TARGETS = ("forecaster", "yes-no soft", "yes-no hard", "teacher text", "outcome text")
CONTROLS = ("", "shuffled outcomes", "leaky feature")
LEAK = "unshifted_form"


@dataclass(frozen=True)
class ForecastData:
    """Games, features and teachers of one run.

    Attributes:
        train, dev, test: tables of judged games (both teams have played five), as `feature_table` makes them.
        labels: P(home win) of each training game, from a regression fitted on the other seasons.
        margins: expected home margin of each training game, likewise.
        half_width: of the taught margin interval, conformal on the training games, points.
        ladder: the baselines, fitted on `train`.
        teacher, margin_teacher: the regressions on all of `train`: what the model is meant to reach.
    """

    elo: EloSettings
    train: pd.DataFrame
    dev: pd.DataFrame
    test: pd.DataFrame
    labels: np.ndarray
    margins: np.ndarray
    half_width: float
    ladder: dict[str, Forecaster]
    teacher: Regression
    margin_teacher: Regression

    def season(self, name: str) -> pd.DataFrame:
        """The judged games of `dev` or `test`.

        Raises:
            UserError: another name.
        """
        if name not in ("dev", "test"):
            raise UserError(f"Unknown season {name!r}: choose dev (choices are made there) or test (scored once).")
        return self.dev if name == "dev" else self.test


def forecast_data(
    path: str | Path = DATA_DIR / "nba_games.csv", control: str = "", columns: Sequence[str] = TEACHER, seed: int = 0
) -> ForecastData:
    """Load the games, compute what was known before each, and fit baselines and teachers on the training seasons.

    Args:
        control: `shuffled outcomes` deals the results of the training games to other games; `leaky feature` puts
            the form of the last three games into the text, the game itself included.
        columns: what the teachers know.
        seed: of the shuffle.

    Raises:
        UserError: an unknown control, or a file of games that is not right.
    """
    if control not in CONTROLS:
        raise UserError(f"Unknown control {control!r}: choose one of {', '.join(map(repr, CONTROLS))}.")
    games = load_games(path)
    elo = fit_elo(games, TRAIN)
    leaks = (LEAK,) if control == "leaky feature" else ()
    table = feature_table(games, elo, leaks)
    past, dev, test = (judged(table, seasons) for seasons in (TRAIN, DEV, TEST))
    if control == "shuffled outcomes":
        order = np.random.default_rng(seed).permutation(len(past))
        past[["home_won", "home_lead"]] = past[["home_won", "home_lead"]].to_numpy()[order]
    columns = (*columns, *(f"leak_{name}" for name in leaks))
    margins = cross_fit(past, columns, fit_margin, Regression.score)
    return ForecastData(
        elo, past, dev, test, cross_fit(past, columns), margins,
        conformal_half_width(past["home_lead"] - margins, LEVEL), ladder(past, elo),
        fit_regression(past, columns), fit_margin(past, columns),
    )  # fmt: skip


def forecaster_examples(
    data: ForecastData, tokenizer: Any, steps: int = FORECAST_STEPS, seed: int = 0, target: str = TARGETS[0],
    batch_size: int = FORECAST_BATCH, shares: Mapping[str, float] = SHARES,
) -> list[Example]:  # fmt: skip
    """Training examples in their order, `steps` batches long; every batch is of one kind (see `mix`).

    Each game is asked about from both sides, one after the other: their labels sum to 1, so no batch pulls all answers
    up or down. `target`: `forecaster` mixes Yes/No rows with soft labels, win rows in
    JSON and margin rows in JSON by `shares`; `yes-no soft`, `yes-no hard` (what happened as the label), `teacher text`
    (JSON with the teacher's p) and `outcome text` (JSON that states 0 or 1, the classic mistake) are of one kind only.

    Raises:
        UserError: an unknown target, or shares that do not sum to 1.
    """
    if target not in TARGETS:
        raise UserError(f"Unknown target {target!r}: choose one of {', '.join(TARGETS)}.")
    wins = win_rows(data.train, data.labels)
    rng = random.Random(seed)

    def _some(rows: list[Row], share: float) -> list[Row]:
        return draw_games(rows, math.ceil(steps * share + 1) * batch_size, rng)

    if target == TARGETS[0]:
        margins = margin_rows(data.train, data.margins, data.half_width)
        parts = {
            "yes_no": yes_no_examples(_some(wins, shares["yes_no"]), tokenizer),
            "json": json_examples(_some(wins, shares["json"]), tokenizer),
            "margin": json_examples(_some(margins, shares["margin"]), tokenizer),
        }
        return mix(parts, shares, steps * batch_size, batch_size, *HEAD_START)
    asked = _some(wins, 1)
    if target.startswith("yes-no"):
        examples = yes_no_examples(asked, tokenizer, "outcome" if target == "yes-no hard" else "probability")
    else:
        certain = [answer_text(row["outcome"], (row["outcome"],) * 2) for row in asked]
        examples = json_examples(asked, tokenizer, certain if target == "outcome text" else None)
    return mix({"all": examples}, {"all": 1.0}, steps * batch_size)


def forecaster_settings(
    steps: int = FORECAST_STEPS, seed: int = 0, batch_size: int = FORECAST_BATCH, rate: float = FORECAST_RATE
) -> TrainSettings:
    """The settings of the run: one pass over `forecaster_examples` in the order given."""
    return TrainSettings(max_steps=steps, batch_size=batch_size, learning_rate=rate, seed=seed, shuffle=False)


def train_forecaster(
    data: ForecastData, model_name: str = DEFAULT_MODEL, seed: int = 0, steps: int = FORECAST_STEPS,
    target: str = TARGETS[0], batch_size: int = FORECAST_BATCH, progress: bool | None = None,
) -> tuple[Any, Any, TrainResult]:  # fmt: skip
    """Train a forecaster from the untuned model; returns it with its tokenizer and what the run did.

    Raises as `forecaster_examples` and `training.train` do.
    """
    model, tokenizer = load_model(model_name, say=lambda message: None)
    examples = forecaster_examples(data, tokenizer, steps, seed, target, batch_size)
    tuned = add_lora(model, rank=FORECAST_RANK, seed=seed)
    result = train(tuned, tokenizer, examples, forecaster_settings(steps, seed, batch_size), progress=progress)
    return tuned, tokenizer, result


def untuned(model_name: str = DEFAULT_MODEL) -> tuple[Any, Any]:
    """The untuned model and its tokenizer, with the weights in the format in which the forecaster's are kept."""
    model, tokenizer = load_model(model_name, say=lambda message: None)
    return fast_copy(model), tokenizer


def score_forecaster(
    model: Any, tokenizer: Any, data: ForecastData, season: str = "dev", games: int | None = None,
    answers: int | None = None, digits: int | None = 200, margins: int | None = 300,
    shots: Sequence[Row] = (), progress: bool | None = False,
) -> dict[str, float]:  # fmt: skip
    """Take all readings on the judged games of a season and score them (see `score_forecasts`, `score_margins`, `score_repair`).

    Args:
        season: `dev` for choices; `test` once. Margins of `test` are repaired on `dev`, those of `dev` on every other
            game of it. They are asked about home teams only, in full answers; lesson 07 takes its centers from both
            sides (`read_centers`), so the two figures are not the same measurement.
        games, answers, digits, margins: so many games at most of each kind (None: all, 0: none).
        shots: solved win rows before every win question (see `read_forecaster`).

    Raises:
        UserError: another season, or too few games for an interval.
    """
    table = some_games(data.season(season), games)
    forecasts = read_forecaster(model, tokenizer, table, answers, digits, shots, progress)
    values = score_forecasts(forecasts, table, data.ladder)
    if margins == 0:
        return values
    asked, seen = some_games(table, margins), some_games(data.dev, margins)
    if season == "dev":
        asked, seen = (asked.iloc[start::2].reset_index(drop=True) for start in (0, 1))
    readings = [read_margins(model, tokenizer, part, progress)[0] for part in (asked, seen)]
    centers = [np.array(reading.estimates) for reading in readings]
    return values | score_margins(readings[0], asked) | score_repair(centers[0], asked, centers[1], seen)
