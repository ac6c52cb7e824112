"""Study: the teaching assistant with three seeds and two controls; seed 0 becomes the committed adapter."""

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from finetune_utils import hardware
from finetune_utils.assistant import save_small, score_assistant, train_assistant
from finetune_utils.runs import ASSISTANT
from finetune_utils.studies import store_study

# (seed, control, training rows at most): the controls need fewer rows to show that they learn nothing useful.
RUNS = [(0, "", None), (1, "", None), (2, "", None), (0, "shuffled answers", 400), (0, "learning rate 0", 40)]


def one_run(seed: int, control: str, rows: int | None, model: str, limit: int | None, folder=ASSISTANT) -> dict:
    """Train and score one assistant; the one of seed 0 is saved to `folder`."""
    hardware.quiet()
    tuned, tokenizer, course = train_assistant(model, seed, control, limit=limit or rows)
    row = {"seed": seed, "control": control, **score_assistant(tuned, tokenizer, course, limit or 400)}
    if seed == 0 and not control:
        save_small(tuned, folder, model)
    print(row, flush=True)
    return row


def main(model="smollm2-135m", limit: int | None = None, runs=tuple(RUNS), folder=ASSISTANT, lanes: int = 1) -> None:
    """Run every seed and control, `lanes` at a time, and store the rows."""
    tasks = [(*run, model, limit, folder) for run in runs]
    if lanes == 1:
        rows = [one_run(*task) for task in tasks]
    else:
        with ProcessPoolExecutor(lanes, multiprocessing.get_context("spawn")) as pool:
            rows = list(pool.map(one_run, *zip(*tasks, strict=True)))
    seeds = [row for row in rows if not row["control"]]
    names = rows[0].keys() - {"seed", "control"}
    spread = {
        f"{k}_{end}": f(row[k] for row in seeds) for k in sorted(names) for end, f in (("low", min), ("high", max))
    }
    settings = {"lesson": "lesson04", "model": model, "runs": [list(r) for r in runs], "limit": limit}
    store_study("assistant", settings, rows, spread)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=len(RUNS), help="do only the first N runs")
    parser.add_argument(
        "--lanes", type=int, default=1, help="runs at the same time; set OMP_NUM_THREADS to share the cores"
    )
    options = parser.parse_args()
    main(runs=tuple(RUNS[: options.first]), lanes=options.lanes)
