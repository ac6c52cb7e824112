"""Study: the smallest point of the learning curve with three seeds and two controls; lesson 02 runs it live."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from finetune_utils import hardware
from finetune_utils.studies import store_study
from finetune_utils.trials import FACT_ROWS, ONE_PASS, fact_rows, run_trial, swap_answers

RUNS = ((0, ""), (1, ""), (2, ""), (0, "swapped answers"), (0, "learning rate 0"))
TINY = {"model": "tiny", "runs": ((0, ""), (1, ""), (0, "swapped answers")), "facts": 2, "test_rows": 4}


def compute(
    model: str = "smollm2-135m", runs: Sequence[tuple[int, str]] = RUNS, facts: int = 6, test_rows: int = 43
) -> dict[str, Any]:
    """Run every seed and control on the same rows."""
    train, tests = fact_rows(facts, 4, test_rows)
    rows = []
    for seed, control in runs:
        settings = replace(ONE_PASS, seed=seed)
        if control == "learning rate 0":
            settings = replace(settings, learning_rate=0.0)
        given = swap_answers(train) if control == "swapped answers" else train
        trial = run_trial(model, given, tests, settings, say=lambda message: None)
        rows.append({"seed": seed, "control": control} | trial.summary())
        print(rows[-1], flush=True)
    seeds = [row for row in rows if not row["control"]]
    values = {
        f"{name}_{end}": pick(row[name] for row in seeds)
        for name in ("unseen_change", "reworded_change")
        for end, pick in (("min", min), ("max", max))
    }
    settings = {"lesson": "lesson02", "model": model, "runs": [list(run) for run in runs], "facts": facts}
    settings |= {"test_rows": test_rows, "training": asdict(ONE_PASS)}
    return {"settings": settings, "rows": rows, "values": values}


def main() -> None:
    """Run the study and store its rows."""
    hardware.quiet()
    store_study("small_trial", **compute(), data=[FACT_ROWS])


if __name__ == "__main__":
    main()
