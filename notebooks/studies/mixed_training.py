"""Study: one task alone or three tasks mixed, on equal rows, each run scored on all three tasks and on neutral text."""

from collections.abc import Sequence

from finetune_utils import hardware
from finetune_utils.models import DEFAULT_MODEL
from finetune_utils.studies import store_study
from finetune_utils.task_runs import DATA, PLANS, Plan, Runs, Sizes

KEYS = {
    "untuned": "untuned", "summaries only": "summaries", "questions only": "questions", "sentiment only": "sentiment",
    "mixed, equal": "mixed", "mixed, by size": "by_size", "mixed, 3 x steps": "long", "sentiment, one wording": "one",
}  # fmt: skip
SINGLE = {"summaries only": "rouge_l", "questions only": "question_nll", "sentiment only": "accuracy"}


def main(model: str = DEFAULT_MODEL, sizes: Sizes | None = None, plans: Sequence[Plan] = PLANS) -> None:
    """Train every plan and store the board, and beside it what one wording does to the sentiment task."""
    hardware.quiet()
    runs = Runs(model, sizes)
    rows = [runs.row("untuned", (), runs.untuned) | runs.untuned_moods]
    for plan in plans:
        rows.append(runs.run(plan))
        print(
            {key: rows[-1][key] for key in ("arm", "rouge_l", "question_nll", "accuracy", "neutral_nll", "seconds")},
            flush=True,
        )
    rows.append(runs.wordings_row())
    values: dict[str, float] = {}
    for row in rows:
        numbers = {key: value for key, value in row.items() if isinstance(value, int | float)}
        values |= {f"{KEYS[row['arm']]}_{key}": value for key, value in numbers.items()}
    values |= against_single_runs(runs, [plan.name for plan in plans])
    store_study("mixed_training", runs.settings(), rows, values, data=DATA)


def against_single_runs(runs: Runs, names: Sequence[str]) -> dict[str, float]:
    """Each mixed run minus the run of one task, on that task's test rows, paired: `long_vs_summaries`, ..."""
    values = {}
    for mixed in (name for name in names if name.startswith("mixed")):
        for single, key in SINGLE.items():
            if single in names:
                gap = runs.against(mixed, single)[key]
                name = f"{KEYS[mixed]}_vs_{KEYS[single]}"
                ends = {name: gap.estimate, f"{name}_low": gap.low, f"{name}_high": gap.high}
                values |= {key: round(value, 4) for key, value in ends.items()}
    return values


if __name__ == "__main__":
    main()
