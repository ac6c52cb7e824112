"""Study: what does a row-wise split promise, and what does a fact-wise split? Both judged on facts nobody saw."""

import random
from dataclasses import asdict
from typing import Any

from finetune_utils import hardware
from finetune_utils.data import load_rows, split_by_group
from finetune_utils.runs import course_rows
from finetune_utils.studies import store_study
from finetune_utils.trials import FACT_ROWS, ONE_PASS, fact_rows, run_trial

TINY = {"model": "tiny", "facts": 10, "test_rows": 4}


def compute(model: str = "smollm2-135m", facts: int = 30, share: float = 0.8, test_rows: int = 43) -> dict[str, Any]:
    """Split the same rows both ways, train on equally many, score what each held out and rows of unseen facts."""
    names = {row["fact"] for row in course_rows(train_facts=facts).reworded}
    pool = [row for row in load_rows("course_qa") if row["fact"] in names]
    mixed = random.Random(0).sample(pool, len(pool))
    cut = round(share * len(pool))
    by_fact = split_by_group(pool, "fact", {"train": share, "test": 1 - share})
    splits = {"row-wise": (mixed[:cut], mixed[cut:]), "fact-wise": (by_fact["train"], by_fact["test"])}
    unseen = fact_rows(facts, 4, test_rows)[1]["unseen"]
    rows = []
    for name, (train, held_out) in splits.items():
        known = {row["answer"] for row in train}
        leaked = sum(row["answer"] in known for row in held_out) / len(held_out)
        trial = run_trial(model, train, {"held_out": held_out, "unseen": unseen}, say=lambda message: None)
        sizes = {"train_rows": len(train), "held_out_rows": len(held_out), "unseen_rows": len(unseen)}
        rows.append({"split": name, **sizes, "leaked": leaked} | trial.summary())
        print(rows[-1], flush=True)
    values = {}
    for key, row in zip(("row", "fact"), rows, strict=True):
        values |= {f"{key}_promised": row["held_out_change"], f"{key}_found": row["unseen_change"]}
        values[f"{key}_gap"] = row["unseen_change"] - row["held_out_change"]
    values["bought"] = values["fact_promised"] - values["row_promised"]
    values = {name: round(value, 4) for name, value in values.items()} | {"train_rows": rows[0]["train_rows"]}
    settings = {"model": model, "facts": facts, "share": share, "training": asdict(ONE_PASS)}
    return {"settings": settings, "rows": rows, "values": values}


def main() -> None:
    """Run the study and store its rows."""
    hardware.quiet()
    store_study("split_leak", **compute(), data=[FACT_ROWS])


if __name__ == "__main__":
    main()
