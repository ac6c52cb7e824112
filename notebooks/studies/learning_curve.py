"""Study: how many rows? One pass over 24 to 400 of them; at 100 rows also more facts, empty and wrong answers."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from finetune_utils import hardware
from finetune_utils.evaluation import nll_difference
from finetune_utils.studies import store_study
from finetune_utils.trials import FACT_ROWS, ONE_PASS, Trial, fact_rows, run_trial, stamp_answers, swap_answers

FACTS = (6, 12, 25, 50, 100)  # four wordings each: 24 to 400 rows
SAME_SIZE = 25  # the point whose row count the other three arms share
TINY = {"model": "tiny", "facts": (2, 4), "same_size": 2, "test_rows": 4}


OTHERS = {"one wording": "one_wording", "stamped answers": "stamped", "swapped answers": "swapped"}
CHANGED = {"stamped answers": stamp_answers, "swapped answers": swap_answers}


def compute(
    model: str = "smollm2-135m", facts: Sequence[int] = FACTS, same_size: int = SAME_SIZE, test_rows: int = 43
) -> dict[str, Any]:
    """Run every point: more rows, the same number of rows with more facts, and the same rows with bad answers."""
    plan = [("four wordings", count, 4) for count in facts] + [("one wording", 4 * same_size, 1)]
    plan += [(arm, same_size, 4) for arm in CHANGED]
    rows, same = [], None
    for arm, count, wordings in plan:
        train, tests = fact_rows(count, wordings, test_rows)
        trial = run_trial(model, CHANGED.get(arm, list)(train), tests, say=lambda message: None)
        rows.append({"arm": arm, "facts": count, "rows": len(train)} | trial.summary())
        if arm == "four wordings" and count == same_size:
            same = trial
        elif arm in OTHERS and same:
            rows[-1] |= against(same, trial)
        print(rows[-1], flush=True)
    point = next(row for row in rows if row["facts"] == same_size)
    named = {"smallest": rows[0], "largest": rows[len(facts) - 1], "same": point}
    named |= {name: next(row for row in rows if row["arm"] == arm) for arm, name in OTHERS.items()}
    numbers = ("rows", "facts", "unseen_change", "reworded_change", "unseen_after", "reworded_after")
    values = {f"{name}_{key}": row[key] for name, row in named.items() for key in numbers}
    values |= {f"{name}_{key}": named[name][key] for name in OTHERS.values() for key in named[name] if "_vs" in key}
    values["train_seconds"] = round(sum(row["train_seconds"] for row in rows), 1)
    settings = {"model": model, "facts": list(facts), "test_rows": test_rows, "training": asdict(ONE_PASS)}
    return {"settings": settings, "rows": rows, "values": values}


def against(same: Trial, other: Trial) -> dict[str, float]:
    """Compare two runs of equal size row by row, on every test set that they share: NLL of the other minus the same."""
    found: dict[str, float] = {}
    for name, rows in same.tests.items():
        if rows == other.tests[name]:
            gap = nll_difference(same.after[name], other.after[name], [row["fact"] for row in rows])
            for end, value in (("vs", gap.estimate), ("vs_low", gap.low), ("vs_high", gap.high)):
                found[f"{name}_{end}"] = round(value, 4)
    return found


def main() -> None:
    """Run the study and store its rows."""
    hardware.quiet()
    store_study("learning_curve", **compute(), data=[FACT_ROWS])


if __name__ == "__main__":
    main()
