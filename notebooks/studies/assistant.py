"""Study: the teaching assistant with three seeds and two controls; seed 0 becomes the committed adapter."""

import argparse

from finetune_utils import hardware
from finetune_utils.assistant import save_small, score_assistant, train_assistant
from finetune_utils.runs import ASSISTANT
from finetune_utils.studies import store_study

RUNS = [(0, ""), (1, ""), (2, ""), (0, "shuffled answers"), (0, "learning rate 0")]


def main(model: str = "smollm2-135m", limit: int | None = None, runs=tuple(RUNS), folder=ASSISTANT) -> None:
    """Run every seed and control, store the rows, save the adapter of seed 0."""
    hardware.quiet()
    rows = []
    for seed, control in runs:
        tuned, tokenizer, course = train_assistant(model, seed, control, limit=limit)
        values = score_assistant(tuned, tokenizer, course, *((4, 4) if limit else ()))
        rows.append({"seed": seed, "control": control, **values})
        print(rows[-1], flush=True)
        if seed == 0 and not control:
            save_small(tuned, folder, model)
    seeds = [row for row in rows if not row["control"]]
    spread = {f"{k}_{end}": f(row[k] for row in seeds) for k in values for end, f in (("low", min), ("high", max))}
    settings = {"lesson": "lesson04", "model": model, "runs": [list(r) for r in runs], "limit": limit}
    store_study("assistant", settings, rows, spread)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=len(RUNS), help="do only the first N runs")
    main(runs=tuple(RUNS[: parser.parse_args().first]))
