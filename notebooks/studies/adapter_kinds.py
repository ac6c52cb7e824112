"""Study: LoRA and its relatives (rsLoRA, DoRA, LoRA+, a soft prompt) on the same rows and steps."""

from collections.abc import Sequence
from typing import Any

from finetune_utils import hardware
from finetune_utils.arms import (
    LORA_RATES,
    PROMPT_RATES,
    QUALITY,
    SMALLER_LORA_RATES,
    Arm,
    Budget,
    Comparison,
    pick_values,
)
from finetune_utils.studies import store_study
from finetune_utils.trials import FACT_ROWS

ARMS = (
    Arm("lora", LORA_RATES, 16),
    Arm("rslora", SMALLER_LORA_RATES, 16, {"use_rslora": True}),
    Arm("dora", LORA_RATES, 16, {"use_dora": True}),
    Arm("loraplus", SMALLER_LORA_RATES, 16, ratio=16.0),
    Arm("prompt", PROMPT_RATES, prompt_tokens=20),
)
BUDGET = Budget(steps=32, sets=("dev", "reworded"), windows=0, questions=0)
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
