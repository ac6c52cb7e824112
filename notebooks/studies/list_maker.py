"""Study: the list-making adapter with three seeds and two controls; the ranges of its lesson come from here."""

from collections.abc import Sequence
from typing import Any

from finetune_utils import hardware
from finetune_utils.list_maker import STEPS, score_list_maker, train_list_maker
from finetune_utils.studies import store_study
from finetune_utils.trials import FACT_ROWS

# (seed, control, steps): nothing changes at learning rate 0, however many steps there are.
RUNS = ((0, "", STEPS), (1, "", STEPS), (2, "", STEPS), (0, "plain answers", STEPS), (0, "learning rate 0", 2))
TINY = {
    "model": "tiny",
    "runs": ((0, "", 2), (1, "", 2), (0, "learning rate 0", 1)),
    "count": 4,
    "tokens": 4,
    "windows": 4,
}


def compute(
    model: str = "smollm2-135m",
    runs: Sequence[tuple[int, str, int]] = RUNS,
    count: int = 16,
    tokens: int = 48,
    windows: int = 24,
) -> dict[str, Any]:
    """Train and score every seed and control."""
    rows = []
    for seed, control, steps in runs:
        tuned, tokenizer, before, _ = train_list_maker(model, steps, seed=seed, control=control)
        rows.append(
            {"seed": seed, "control": control} | score_list_maker(tuned, tokenizer, before, count, tokens, windows)
        )
        print(rows[-1], flush=True)
    seeds = [row for row in rows if not row["control"]]
    values = {
        f"{name}_{end}": pick(row[name] for row in seeds)
        for name in ("list_share", "list_change")
        for end, pick in (("low", min), ("high", max))
    }
    settings = {"lesson": "lesson06", "model": model, "runs": [list(run) for run in runs], "count": count}
    return {"settings": settings | {"tokens": tokens, "windows": windows}, "rows": rows, "values": values}


def main() -> None:
    """Run the study and store its rows."""
    hardware.quiet()
    store_study("list_maker", **compute(), data=(FACT_ROWS, "neutral_text.txt"))


if __name__ == "__main__":
    main()
