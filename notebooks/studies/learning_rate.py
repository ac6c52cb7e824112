"""Study: the learning rate of the teaching assistant. Six 16-step runs, scored on dev rows."""

from finetune_utils import hardware
from finetune_utils.runs import learning_rate_point
from finetune_utils.studies import store_study

RATES = [1e-5, 1e-4, 5e-4, 2e-3, 5e-3, 2e-2]


def main(model: str = "smollm2-135m", steps: int = 16, dev_rows: int = 32) -> None:
    """Run every rate and store the rows."""
    hardware.quiet()
    rows = []
    for rate in RATES:
        rows.append(learning_rate_point(model, rate, steps, dev_rows))
        print(rows[-1], flush=True)
    best, worst = min(rows, key=lambda r: r["dev_nll"]), max(rows, key=lambda r: r["dev_nll"])
    values = {
        "best_rate": best["learning_rate"], "best_nll": best["dev_nll"],
        "worst_rate": worst["learning_rate"], "worst_nll": worst["dev_nll"],
    }  # fmt: skip
    settings = {"model": model, "steps": steps, "dev_rows": dev_rows, "schedule": "constant", "seed": 0}
    store_study("learning_rate", settings, rows, values)


if __name__ == "__main__":
    main()
