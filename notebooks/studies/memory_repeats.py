"""Study: measured memory of the same short LoRA run, several times; the spread sets the range of lessons 04 and 06."""

import os
from collections.abc import Sequence
from typing import Any

from finetune_utils import hardware
from finetune_utils.measure import measure_memory
from finetune_utils.models import DEFAULT_MODEL
from finetune_utils.studies import store_study

# Both lessons measure these sizes. Threads keep buffers of their own, so their number is varied, too.
SIZES = {"batch_size": 8, "length": 104, "rank": 16}
THREADS = (1, 2, 4)


def compute(model: str = DEFAULT_MODEL, threads: Sequence[int] = THREADS, repeats: int = 3) -> dict[str, Any]:
    """Measure in a fresh process each time, `repeats` times with every number of threads."""
    rows = []
    for count in threads:
        os.environ["OMP_NUM_THREADS"] = str(count)  # read by the process that is measured
        for repeat in range(repeats):
            measured = measure_memory(model, "lora", **SIZES)
            rows.append({"threads": count, "repeat": repeat, "peak": measured.peak, "memory_error": measured.error})
            print(rows[-1], flush=True)
    errors = [row["memory_error"] for row in rows]
    values = {"memory_error_low": min(errors), "memory_error_high": max(errors)}
    settings = {"repeats_of": ["lesson04", "lesson06"], "model": model, **SIZES}
    return {"settings": settings | {"threads": list(threads), "repeats": repeats}, "rows": rows, "values": values}


def main() -> None:
    """Run the study and store its rows."""
    hardware.quiet()
    store_study("memory_repeats", **compute(), data=())


if __name__ == "__main__":
    main()
