"""Study: LoRA and its relatives (rsLoRA, DoRA, LoRA+, a soft prompt) on the same rows and steps."""

from collections.abc import Sequence
from typing import Any

from finetune_utils import hardware
from finetune_utils.arms import (
    PROMPT_RATES,
    QUALITY,
    Arm,
    Budget,
    Comparison,
    pick_values,
)
from finetune_utils.studies import store_study
from finetune_utils.trials import FACT_ROWS

# Wide enough that the best is seldom the largest. Layers whose product is scaled up, or whose B learns faster, take smaller ones.
RATES, SMALLER_RATES = (1e-3, 3e-3, 1e-2), (3e-4, 1e-3, 3e-3)
ARMS = (
    Arm("lora", RATES, 16),
    Arm("rslora", SMALLER_RATES, 16, {"use_rslora": True}),
    Arm("dora", RATES, 16, {"use_dora": True}),
    Arm("loraplus", SMALLER_RATES, 16, ratio=16.0),
    Arm("prompt", PROMPT_RATES, prompt_tokens=20),
)
BUDGET = Budget(steps=32, rate_steps=16, rate_rows=48, sets=("dev", "reworded"), windows=0, questions=0)
TINY = {
    "model": "tiny",
    "budget": Budget(
        3, steps=2, rate_steps=1, rate_rows=4, sets=("dev", "reworded"), test_rows=8, windows=0, questions=0
    ),
}


def compute(model: str = "smollm2-135m", budget: Budget = BUDGET, arms: Sequence[Arm] = ARMS) -> dict[str, Any]:
    """Train and score every kind; changes are against the untuned model, resampled by fact."""
    comparison = Comparison(model, budget)
    rows = []
    for arm in arms:
        rows.append(comparison.run(arm))
        print(rows[-1], flush=True)
    for row in rows[1:]:  # paired: what each kind has beside plain LoRA
        row |= comparison.against(row["arm"], "lora")
    values = pick_values(rows, QUALITY) | {"untuned_dev_nll": comparison.untuned_row()["dev_nll"]}
    values |= {"steps": budget.steps, "train_rows": len(comparison.rows)}
    return {"settings": comparison.settings(), "rows": rows, "values": values}


def main(model: str = "smollm2-135m", budget: Budget = BUDGET) -> None:
    """Run the study and store its rows."""
    hardware.quiet()
    store_study("adapter_kinds", **compute(model, budget), data=[FACT_ROWS])


if __name__ == "__main__":
    main()
