"""Study: the learning rate of a sentiment classifier, for LoRA and for full fine-tuning, and a head that starts at random."""

from collections.abc import Mapping, Sequence
from typing import Any

from finetune_utils import hardware
from finetune_utils.class_metrics import macro_f1_interval
from finetune_utils.classification import LABELS
from finetune_utils.sentiment import BATCH, EPOCHS, RANK, WORDS, loss_by_epoch, numbers, posts, predict, train_arm
from finetune_utils.studies import store_study

RATES = {"lora": (5e-5, 2e-4, 5e-4, 2e-3), "random": (5e-4,), "full": (5e-6, 2e-5, 1e-4)}
TINY = {
    "model": "tiny",
    "rates": {"lora": (1e-3, 1e-2), "random": (1e-3,), "full": (1e-3,)},
    "rows": 8,
    "epochs": 2,
    "words": None,
}


def compute(
    model: str = "smollm2-135m",
    rates: Mapping[str, Sequence[float]] = RATES,
    rows: int | None = None,
    epochs: int = EPOCHS,
    words: Sequence[str] | None = WORDS,
) -> dict[str, Any]:
    """Train every arm at every rate. The rate of an arm is chosen by its loss on dev posts; only that run sees the test."""
    parts = posts(rows, rows, rows)
    found, values = [], {}
    for arm, some in rates.items():
        best = None
        for rate in some:
            tuned, tokenizer, result = train_arm(arm, rate, parts, model, epochs, words)
            losses = loss_by_epoch(result)
            said = predict(tuned, tokenizer, parts["dev"])
            f1 = macro_f1_interval(numbers(parts["dev"]), said, len(LABELS))
            row = {"arm": arm, "rate": rate, **losses, "dev_loss": losses["dev"][-1], "dev_f1": f1.estimate}
            row |= {"dev_f1_low": f1.low, "dev_f1_high": f1.high, "seconds": round(result.seconds, 1), "predicted": []}
            found.append(row)
            print({k: v for k, v in row.items() if k != "predicted"}, flush=True)
            if best is None or row["dev_loss"] < best[0]["dev_loss"]:
                best = (row, tuned, tokenizer)
        row, tuned, tokenizer = best
        row["predicted"] = predict(tuned, tokenizer, parts["test"])
        values |= {f"{arm}_rate": row["rate"], f"{arm}_dev_loss": row["dev_loss"], f"{arm}_dev_f1": row["dev_f1"]}
        values[f"{arm}_test_f1"] = macro_f1_interval(numbers(parts["test"]), row["predicted"], len(LABELS)).estimate
    settings = {
        "model": model,
        "rates": {arm: list(some) for arm, some in rates.items()},
        "epochs": epochs,
        "rank": RANK,
    }
    settings |= {"batch": BATCH, "seed": 0, "head from words": words is not None}
    settings |= {name: len(part) for name, part in parts.items()}
    return {"settings": settings, "rows": found, "values": values}


def main(model: str = "smollm2-135m") -> None:
    """Run the study and store its rows."""
    hardware.quiet()
    store_study("sentiment_rates", **compute(model), data=["tweets.jsonl"])


if __name__ == "__main__":
    main()
