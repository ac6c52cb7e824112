"""Study: how many rows? One pass over 24 to 200 of them, and at 100 rows also more facts and wrong answers."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from finetune_utils import hardware
from finetune_utils.studies import store_study
from finetune_utils.trials import ONE_PASS, fact_rows, run_trial, swap_answers

FACTS = (6, 12, 25, 50)  # four wordings each: 24 to 200 rows
SAME_SIZE = 25  # the point whose row count the other two arms share
TINY = {"model": "tiny", "facts": (2, 4), "same_size": 2, "test_rows": 4}


def compute(
    model: str = "smollm2-135m", facts: Sequence[int] = FACTS, same_size: int = SAME_SIZE, test_rows: int = 43
) -> dict[str, Any]:
    """Run every point: more rows, the same number of rows with more facts, and the same rows with wrong answers."""
    plan = [("four wordings", count, 4) for count in facts]
    plan += [("one wording", 4 * same_size, 1), ("swapped answers", same_size, 4)]
    rows = []
    for arm, count, wordings in plan:
        train, tests = fact_rows(count, wordings, test_rows)
        if arm == "swapped answers":
            train = swap_answers(train)
        trial = run_trial(model, train, tests, say=lambda message: None)
        rows.append({"arm": arm, "facts": count, "rows": len(train)} | trial.summary())
        print(rows[-1], flush=True)
    curve, (spread, swapped) = rows[:-2], rows[-2:]
    same = next(row for row in curve if row["facts"] == same_size)
    named = {"smallest": curve[0], "largest": curve[-1], "same": same, "one_wording": spread, "swapped": swapped}
    numbers = ("rows", "facts", "unseen_change", "reworded_change", "unseen_after", "reworded_after")
    values = {f"{name}_{key}": row[key] for name, row in named.items() for key in numbers}
    values["train_seconds"] = round(sum(row["train_seconds"] for row in rows), 1)
    settings = {"model": model, "facts": list(facts), "test_rows": test_rows, "training": asdict(ONE_PASS)}
    return {"settings": settings, "rows": rows, "values": values}


def main() -> None:
    """Run the study and store its rows."""
    hardware.quiet()
    store_study("learning_curve", **compute())


if __name__ == "__main__":
    main()
