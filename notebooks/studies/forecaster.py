"""Study: the forecaster with three seeds, two controls, four other targets, and the untuned model with and without examples."""

import argparse
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

from finetune_utils import hardware
from finetune_utils.betting.forecaster import (
    FORECAST_BATCH,
    FORECAST_RATE,
    FORECAST_STEPS,
    SHARES,
    TEACHER,
    forecast_data,
    score_forecaster,
    train_forecaster,
    untuned,
)
from finetune_utils.betting.forecasts import some_games
from finetune_utils.betting.questions import win_rows
from finetune_utils.studies import store_study


class Run(NamedTuple):
    """One arm: `steps` is a share of the forecaster's steps (0: the model stays untuned)."""

    name: str
    seed: int = 0
    target: str = "forecaster"
    control: str = ""
    steps: float = 1.0
    shots: int = 0


# Arms of one kind have about the tokens of the forecaster's Yes/No or JSON steps, or more: none is short of examples.
RUNS = (
    *(Run("forecaster", seed) for seed in (0, 1, 2)),
    Run("zero-shot", steps=0),
    Run("few-shot", steps=0, shots=4),
    Run("yes-no soft", target="yes-no soft", steps=0.5),
    Run("yes-no hard", target="yes-no hard", steps=0.5),
    Run("teacher text", target="teacher text", steps=0.35),
    Run("outcome text", target="outcome text", steps=0.35),
    Run("shuffled outcomes", target="yes-no soft", control="shuffled outcomes", steps=0.6),
    Run("leaky feature", target="yes-no soft", control="leaky feature", steps=0.6),
)
# Games of the season that each reading is taken on (None: all), as in the lesson; arms beside the forecaster get fewer.
WHOLE = {"games": None, "answers": None, "digits": 200, "margins": 300}
LESS = {"games": 400, "answers": 200, "digits": 0, "margins": 0}
UNTUNED = {"games": 200, "answers": 50, "digits": 50, "margins": 0}
TINY = {
    "model": "tiny",
    "steps": 4,
    "runs": (RUNS[0], RUNS[1], Run("few-shot", steps=0, shots=2), RUNS[-1]),
    "season": "dev",
    "sizes": {"games": 12, "answers": 4, "digits": 4, "margins": 8},
}
# What prose may quote of an arm beside the forecaster.
KEPT = ("yes_no_brier", "yes_no_accuracy", "yes_no_slope", "yes_no_games", "stated_brier", "stated_games", "valid")
KEPT += ("yes_no_vs_elo", "stated_vs_elo", "swap_abs_median", "seconds", "steps")


def one_run(run: Run, model: str, steps: int, season: str, sizes: dict[str, Any] | None) -> dict[str, Any]:
    """Train (or not) and score one arm: a flat row."""
    hardware.quiet()
    data = forecast_data(control=run.control, seed=run.seed)
    few = some_games(data.train.assign(label=data.labels), run.shots)
    shots = win_rows(few, few["label"], sides=(1,)) if run.shots else []
    row: dict[str, Any] = {"name": run.name, "seed": run.seed, "target": run.target}
    row["control"] = run.control or ("" if run.name == "forecaster" else run.name)  # the others set no ranges
    if run.steps:
        wanted = max(round(run.steps * steps), 1)
        tuned, tokenizer, result = train_forecaster(data, model, run.seed, wanted, run.target, progress=False)
        row |= {"steps": result.steps, "seconds": round(result.seconds, 1)}
    else:
        tuned, tokenizer = untuned(model)
        row |= {"steps": 0, "seconds": 0.0}
    own = sizes or (UNTUNED if not run.steps else WHOLE if run.name == "forecaster" else LESS)
    return row | score_forecaster(tuned, tokenizer, data, season, shots=shots, **own)


def compute(
    model: str = "smollm2-135m", steps: int = FORECAST_STEPS, runs: Sequence[Run] = RUNS, season: str = "test",
    sizes: dict[str, Any] | None = None, lanes: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Run every arm, `lanes` at a time. Values: the spread of the forecaster's seeds, and a few scores of every arm."""
    tasks = [(run, model, steps, season, sizes) for run in runs]
    if lanes == 1:
        rows = []
        for task in tasks:
            rows.append(one_run(*task))
            print(rows[-1], flush=True)
    else:
        with ProcessPoolExecutor(lanes, multiprocessing.get_context("spawn")) as pool:
            rows = list(pool.map(one_run, *zip(*tasks, strict=True)))
    seeds = [row for row in rows if row["name"] == "forecaster"]
    numbers = sorted(seeds[0].keys() - {"name", "seed", "target", "control"})
    values = {f"{k}_{end}": f(row[k] for row in seeds) for k in numbers for end, f in (("low", min), ("high", max))}
    for row in rows:
        if row["name"] != "forecaster":
            key = row["name"].replace(" ", "_").replace("-", "_")
            values |= {f"{key}_{k}": row[k] for k in KEPT if k in row}
    settings: dict[str, Any] = {"lesson": "lesson07", "model": model, "season": season, "steps": steps}
    settings |= {"batch_size": FORECAST_BATCH, "rate": FORECAST_RATE}
    settings |= {"shares": SHARES, "teacher": list(TEACHER), "runs": [list(run) for run in runs]}
    return {"settings": settings, "rows": rows, "values": values}


def main(lanes: int = 1, first: int = len(RUNS), season: str = "test") -> None:
    """Run the study and store its rows."""
    hardware.quiet()
    store_study("forecaster", **compute(runs=RUNS[:first], season=season, lanes=lanes), data=["nba_games.csv"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=len(RUNS), help="do only the first N runs")
    parser.add_argument(
        "--lanes", type=int, default=1, help="runs at the same time; set OMP_NUM_THREADS to share the cores"
    )
    options = parser.parse_args()
    main(options.lanes, options.first)
