"""Study: what does a model forget? Untuned, LoRA and full fine-tuning on the same rows and steps, on neutral text."""

from collections.abc import Sequence
from typing import Any

from finetune_utils import hardware
from finetune_utils.arms import FORGETTING, FULL_RATES, LORA_RATES, Arm, Budget, Comparison, pick_values
from finetune_utils.studies import store_study

ARMS = (Arm("lora", LORA_RATES, rank=16), Arm("full", FULL_RATES))
TINY = {
    "model": "tiny",
    "budget": Budget(facts=3, steps=2, rate_steps=1, rate_rows=4, test_rows=8, windows=6, questions=4),
}


def compute(model: str = "smollm2-135m", budget: Budget | None = None, arms: Sequence[Arm] = ARMS) -> dict[str, Any]:
    """Train and score every arm; changes are against the untuned model, resampled by piece of text or by fact."""
    comparison = Comparison(model, budget)
    rows = [comparison.untuned_row()]
    for arm in arms:
        rows.append(comparison.run(arm))
        print(rows[-1], flush=True)
    for row in rows[1:-1]:  # paired: what each arm has beside the last one
        row |= comparison.against(row["arm"], arms[-1].name)
    return {"settings": comparison.settings(), "rows": rows, "values": pick_values(rows, FORGETTING)}


def main(model: str = "smollm2-135m", budget: Budget | None = None) -> None:
    """Run the study and store its rows. `rank_sweep` trains these arms too and stores the same rows."""
    hardware.quiet()
    store_study("forgetting", **compute(model, budget), data=Comparison.DATA)


if __name__ == "__main__":
    main()
