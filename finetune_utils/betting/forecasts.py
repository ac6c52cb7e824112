"""What a forecaster said about the games of a season: all readings of one model, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import UserError
from ..generation import generate
from .answers import Reading, read_starts, row_answer
from .baselines import Forecaster
from .questions import Row, margin_rows, win_rows
from .readings import YES_NO, digit_distribution, stated, yes_no
from .scoring import accuracy, brier, calibration_line, conformal_half_width, coverage, log_loss, paired_brier
from .teaching import json_prompt, yes_no_prompt

LEVEL = 0.8  # of the margin intervals
ANSWER_TOKENS = 30  # a win answer has 26
CENTER_TOKENS = 8  # `{"margin": -12,` has 7
RIVALS = {"home_rate": "home rate", "elo": "Elo", "regression": "regression"}


@dataclass(frozen=True)
class Forecasts:
    """What a model said about the games of a table, one number a game; nan where it was not asked.

    Attributes:
        asked_home: P(home win) from the Yes/No token when asked about the home team; `asked_away`: P(away win) when asked
            about the away team.
        stated: P(home win) as stated in JSON, 0.5 where the answer is invalid.
        digits: P(home win) as the mean of the distribution over the stated digits.
        reading, texts: the JSON answers, parsed and as written, one for each game that was asked about.
    """

    asked_home: np.ndarray
    asked_away: np.ndarray
    stated: np.ndarray
    digits: np.ndarray
    reading: Reading
    texts: list[str]

    @property
    def yes_no(self) -> np.ndarray:
        """P(home win): the mean of what both questions say. A pull toward Yes or No cancels out."""
        return (self.asked_home + 1 - self.asked_away) / 2


def read_forecaster(
    model: Any, tokenizer: Any, table: pd.DataFrame, answers: int | None = None, digits: int | None = None,
    shots: Sequence[Row] = (), progress: bool | None = False,
) -> Forecasts:  # fmt: skip
    """Take all readings of one model: Yes/No on every game from both sides, the others on so many games (None: all).

    Training wordings vary; here all rows have the first one. `shots` are win rows that stand solved before every question
    (few-shot prompting of an untuned model). `model` may be a `fast_copy`.
    """
    even = np.full(len(table), 0.5)  # asking needs no reference answer
    home, away = (win_rows(table, even, (side,), wording=0) for side in (1, -1))
    written: list[tuple[Reading, list[str]]] = []
    solved = "".join(f"{yes_no_prompt(row, tokenizer)}{YES_NO[1 - row['outcome']]}\n\n" for row in shots)
    solved_json = "".join(f"{json_prompt(row, tokenizer)} {row_answer(row)}\n\n" for row in shots)

    def _yes_no(rows: list[Row]) -> Any:
        prompts = [solved + yes_no_prompt(row, tokenizer) for row in rows]
        return yes_no(model, tokenizer, prompts, YES_NO, progress=progress)[0]

    def _digits(rows: list[Row]) -> Any:
        prompts = [solved_json + json_prompt(row, tokenizer) for row in rows]
        return digit_distribution(model, tokenizer, prompts, progress=progress).expected

    def _stated(rows: list[Row]) -> Any:
        prompts = [solved_json + json_prompt(row, tokenizer) for row in rows]
        written.append(stated(model, tokenizer, prompts, "win", ANSWER_TOKENS, progress=progress))
        return written[0][0].estimates

    said = _ask(_stated, home, answers)
    reading, texts = written[0] if written else (Reading([], [], []), [])
    return Forecasts(
        _ask(_yes_no, home, None), _ask(_yes_no, away, None), said, _ask(_digits, home, digits), reading, texts
    )


def _ask(read: Callable[[list[Row]], Any], rows: list[Row], count: int | None) -> np.ndarray:
    """Take one reading on `count` of the rows; nan for the others."""
    values, chosen = np.full(len(rows), np.nan), spread_out(len(rows), count)
    if len(chosen):
        values[chosen] = np.asarray(read([rows[i] for i in chosen]), float)
    return values


def score_forecasts(
    forecasts: Forecasts, table: pd.DataFrame, ladder: Mapping[str, Forecaster]
) -> dict[str, float]:  # fmt: skip
    """Score readings in a flat dict; every comparison is paired on the games that were asked about.

    Keys for `yes_no`, `stated`, `digits`: `..._games`, `_brier`, `_log_loss`, `_accuracy`, `_slope` (0 where there is no
    calibration line), and against `home_rate`, `elo`, `regression`: `..._vs_elo` with `_low` and `_high` (95 %, by day;
    below 0: the model is better). Also the baselines' `..._brier` on all games, `valid` and `inside` (shares of all
    answers), `interval_width`, `swap_median` and `swap_abs_median` of p(home) + p(away) - 1, and `one_side_brier` of the
    questions about the home team alone. A reading that was not taken has no keys.
    """
    won = table["home_won"].to_numpy()
    rivals = {key: ladder[name](table) for key, name in RIVALS.items()}
    values = {"games": len(table)} | {f"{key}_brier": brier(p, won) for key, p in rivals.items()}
    for name in ("yes_no", "stated", "digits"):
        p = getattr(forecasts, name)
        asked = ~np.isnan(p)
        if asked.any():
            theirs = {key: q[asked] for key, q in rivals.items()}
            scores = _score(p[asked], won[asked], table["date"][asked].tolist(), theirs)
            values |= {f"{name}_{key}": value for key, value in scores.items()}
    if forecasts.texts:
        answers = [answer for answer in forecasts.reading.answers if answer is not None]
        values["valid"] = forecasts.reading.valid_share
        values["inside"] = sum(a.low <= a.estimate <= a.high for a in answers) / len(forecasts.texts)
        values["interval_width"] = _mean_width(forecasts.reading)
    swap = forecasts.asked_home + forecasts.asked_away - 1
    values |= {"swap_median": float(np.median(swap)), "swap_abs_median": float(np.median(np.abs(swap)))}
    return values | {"one_side_brier": brier(forecasts.asked_home, won)}


def _score(p: np.ndarray, won: np.ndarray, days: list[Any], rivals: Mapping[str, np.ndarray]) -> dict[str, float]:
    scores = {"games": len(p), "brier": brier(p, won), "log_loss": log_loss(p, won)[0], "accuracy": accuracy(p, won)}
    try:
        scores["slope"] = calibration_line(p, won)[0]
    except UserError:  # all forecasts are equal, or they separate the outcomes
        scores["slope"] = 0.0
    for key, q in rivals.items():
        gap = paired_brier(p, q, won, days)
        scores |= {f"vs_{key}": gap.estimate, f"vs_{key}_low": gap.low, f"vs_{key}_high": gap.high}
    return scores


def _mean_width(reading: Reading) -> float:
    widths = [answer.high - answer.low for answer in reading.answers if answer is not None]
    return float(np.mean(widths)) if widths else 0.0


def spread_out(games: int, count: int | None) -> np.ndarray:
    """Numbers of so many games at equal distances over a season of `games`, in order (None: all)."""
    count = games if count is None else min(count, games)
    return np.arange(count) * games // max(count, 1)


def some_games(table: pd.DataFrame, count: int | None) -> pd.DataFrame:
    """So many games at equal distances over the season, in their order (None: all)."""
    return table.iloc[spread_out(len(table), count)].reset_index(drop=True)


def read_margins(
    model: Any, tokenizer: Any, table: pd.DataFrame, progress: bool | None = False
) -> tuple[Reading, list[str]]:
    """Let the model answer margin questions about the home teams in JSON; an invalid answer counts as 0 points."""
    return stated(model, tokenizer, _margin_prompts(tokenizer, table), "margin", ANSWER_TOKENS, progress=progress)


def read_centers(model: Any, tokenizer: Any, table: pd.DataFrame, progress: bool | None = False) -> np.ndarray:
    """Expected home margins, (games,) in points: each game is asked from both sides, and the mean is taken.

    A repaired interval needs a center only, and that is the first number of an answer. So the answer is cut off after it,
    which takes half the time. A beginning that is not what was asked for counts as 0 points.
    """
    prompts = [prompt for side in (1, -1) for prompt in _margin_prompts(tokenizer, table, side)]
    texts = generate(model, tokenizer, prompts, CENTER_TOKENS, batch_size=128, progress=progress)
    home, away = np.array(read_starts(texts, "margin")).reshape(2, -1)
    return (home - away) / 2


def _margin_prompts(tokenizer: Any, table: pd.DataFrame, side: int = 1) -> list[str]:
    rows = margin_rows(table, np.zeros(len(table)), 1, (side,), wording=0)
    return [json_prompt(row, tokenizer) for row in rows]


def score_margins(reading: Reading, table: pd.DataFrame) -> dict[str, float]:
    """Coverage and mean width (points) of the stated 80 % margin intervals; an invalid answer covers nothing."""
    hits = [a is not None and a.low <= x <= a.high for a, x in zip(reading.answers, table["home_lead"], strict=True)]
    return {
        "margin_valid": reading.valid_share,
        "margin_stated_coverage": sum(hits) / len(hits) if hits else 0.0, "margin_stated_width": _mean_width(reading),
    }  # fmt: skip


def score_repair(
    centers: np.ndarray, table: pd.DataFrame, seen_centers: np.ndarray, seen_table: pd.DataFrame
) -> dict[str, float]:
    """Coverage of the stated margins with the half width that covers 80 % of `seen_table`, and that width in points.

    Raises:
        UserError: too few seen games for a width.
    """
    half = conformal_half_width(seen_table["home_lead"] - seen_centers, LEVEL)
    inside = coverage(centers - half, centers + half, table["home_lead"].to_numpy())
    return {"margin_games": len(table), "margin_coverage": inside, "margin_width": 2 * half}
