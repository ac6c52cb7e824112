"""Study: how much rank does it take? LoRA of rank 1, 4, 16, 64 and full fine-tuning on the same rows and steps."""

from collections.abc import Callable, Sequence
from typing import Any

from finetune_utils import hardware
from finetune_utils.arms import (
    FORGETTING,
    FULL_RATES,
    LORA_RATES,
    QUALITY,
    Arm,
    Budget,
    Comparison,
    pick_values,
    short_point,
)
from finetune_utils.measure import Measured, measure_memory
from finetune_utils.studies import store_study

RANKS = (1, 4, 16, 64)
SHARED = 16  # the rank that the study of forgetting compares with full fine-tuning
SHORT = {"steps": 8, "dev_rows": 32}  # the point that a lesson can run again
TINY = {
    "model": "tiny",
    "budget": Budget(facts=3, steps=2, rate_steps=1, rate_rows=4, test_rows=8, windows=6, questions=4),
    "ranks": (2, 16),
    "short": {"steps": 1, "dev_rows": 4},
    "measure": lambda model, method, rank: Measured(200, 210, 1.0),
}


def compute(
    model: str = "smollm2-135m",
    budget: Budget | None = None,
    ranks: Sequence[int] = RANKS,
    short: dict[str, int] = SHORT,
    measure: Callable[..., Measured] = measure_memory,
) -> dict[str, Any]:
    """Train and score every rank and full fine-tuning; measure the peak memory of each in a fresh process."""
    comparison = Comparison(model, budget)
    rows = []
    for arm in [*(Arm(f"r{rank}", LORA_RATES, rank) for rank in ranks), Arm("full", FULL_RATES)]:
        memory = measure(model, "lora" if arm.rank else "full", rank=arm.rank or 1)
        sizes = {"memory": memory.peak, "memory_estimate": memory.estimate, "memory_error": round(memory.error, 4)}
        rows.append({"rank": arm.rank or "full"} | comparison.run(arm) | sizes)
        print(rows[-1], flush=True)
    for row in rows[:-1]:  # paired: what each rank has beside full fine-tuning
        row |= comparison.against(row["arm"], "full")
    shared = next(row for row in rows if row["rank"] == SHARED)
    point = {"rank": SHARED, "rate": shared["rate"], **short}
    point |= short_point(model, SHARED, shared["rate"], **short)
    values = pick_values(rows, QUALITY) | {f"short_{key}": value for key, value in point.items()}
    untuned = comparison.untuned_row()
    values |= {f"untuned_{key}": untuned[key] for key in ("dev_nll", "unseen_nll", "reworded_nll")}
    values["memory_error"] = max((row["memory_error"] for row in rows), key=abs)
    values |= {"steps": comparison.budget.steps, "train_rows": len(comparison.rows)}
    settings = comparison.settings() | {"memory_batch": "8 rows of 104 tokens"}
    return {"settings": settings, "rows": rows, "values": values, "untuned": untuned}


def main(model: str = "smollm2-135m", budget: Budget | None = None, **more: Any) -> None:
    """Run the study and store its rows, and those of the study `forgetting`, whose arms are among them."""
    hardware.quiet()
    found = compute(model, budget, **more)
    untuned = found.pop("untuned")
    arms = [{**row, "arm": "lora"} for row in found["rows"] if row["rank"] == SHARED]
    rows = [untuned, *arms, *(row for row in found["rows"] if row["rank"] == "full")]
    store_study("rank_sweep", **found, data=Comparison.DATA)
    settings = {key: value for key, value in found["settings"].items() if key != "memory_batch"}
    store_study("forgetting", settings, rows, pick_values(rows, FORGETTING), data=Comparison.DATA)


if __name__ == "__main__":
    main()
