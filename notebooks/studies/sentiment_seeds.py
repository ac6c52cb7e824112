"""Study: the sentiment classifier of lesson 08 with three seeds and two controls that must fail."""

import random
from collections.abc import Sequence
from typing import Any

from finetune_utils import hardware
from finetune_utils.class_metrics import macro_f1
from finetune_utils.classification import LABELS
from finetune_utils.sentiment import EPOCHS, RANK, RATE, WORDS, loss_by_epoch, numbers, posts, predict, train_arm
from finetune_utils.studies import store_study

RUNS = ((0, ""), (1, ""), (2, ""), (0, "shuffled labels"), (0, "learning rate 0"))
TINY = {"model": "tiny", "runs": ((0, ""), (1, ""), (0, "shuffled labels")), "rows": 8, "epochs": 1, "words": None}


def compute(
    model: str = "smollm2-135m",
    runs: Sequence[tuple[int, str]] = RUNS,
    rows: int | None = None,
    epochs: int = EPOCHS,
    words: Sequence[str] | None = WORDS,
) -> dict[str, Any]:
    """Train with every seed and control on the same posts, and score dev and test posts; nothing is chosen here."""
    parts = posts(rows, rows, rows)
    found = []
    for seed, control in runs:
        given = dict(parts)
        if control == "shuffled labels":
            labels = random.Random(seed).sample([row["label"] for row in parts["train"]], len(parts["train"]))
            given["train"] = [{**row, "label": label} for row, label in zip(parts["train"], labels, strict=True)]
        rate = 0.0 if control == "learning rate 0" else RATE
        tuned, tokenizer, result = train_arm("lora", rate, given, model, epochs, words, seed)
        losses = loss_by_epoch(result)
        f1 = {
            name: macro_f1(numbers(parts[name]), predict(tuned, tokenizer, parts[name]), len(LABELS))
            for name in ("dev", "test")
        }
        row = {"lora_f1": f1["test"], "lora_dev_f1": f1["dev"], "lora_dev_loss": losses["dev"][-1]}
        found.append({"seed": seed, "control": control, **row, "lora_train_loss": losses["train"][-1]})
        print(found[-1], flush=True)
    seeds = [row["lora_f1"] for row in found if not row["control"]]
    values = {"runs": len(seeds), "lora_f1_min": min(seeds), "lora_f1_max": max(seeds)}
    settings = {
        "lesson": "lesson08",
        "model": model,
        "runs": [list(run) for run in runs],
        "epochs": epochs,
        "rate": RATE,
    }
    settings |= {"rank": RANK, "head from words": words is not None}
    return {"settings": settings, "rows": found, "values": values}


def main(model: str = "smollm2-135m") -> None:
    """Run the study and store its rows."""
    hardware.quiet()
    store_study("sentiment_seeds", **compute(model), data=["tweets.jsonl"])


if __name__ == "__main__":
    main()
