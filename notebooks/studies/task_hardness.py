"""Study: how large must a model be for a form, a rule, and many facts? Toy models of five widths, three seeds each."""

from collections.abc import Sequence

from finetune_utils import hardware
from finetune_utils.hardness import FACTS, NUMBERS, WIDTHS, toy_points
from finetune_utils.studies import store_study

SHORT = {"task": "form", "width": 4, "steps": 60}  # the point that the lesson runs again


def main(widths: Sequence[int] = WIDTHS, seeds: Sequence[int] = (0, 1, 2), steps: int = 400) -> None:
    """Train every toy model and store the rows."""
    hardware.quiet()
    rows = toy_points(widths, seeds=seeds, steps=steps)
    values = {f"{row['task']}_{row['width']}": round(row["accuracy"], 4) for row in rows}
    settings = {"widths": list(widths), "seeds": list(seeds), "steps": steps, "facts": FACTS, "numbers": NUMBERS}
    store_study("task_hardness", settings, rows, values, data=())


if __name__ == "__main__":
    main()
