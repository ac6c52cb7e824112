"""Study: untuned model and committed assistant, asked every test question there is: who turns back, and where is that wrong?"""

import copy
from pathlib import Path
from typing import Any

from finetune_utils import hardware
from finetune_utils.assistant import count_redirects
from finetune_utils.generation import fast_copy
from finetune_utils.lora import attach_adapter
from finetune_utils.models import load_model
from finetune_utils.runs import ASSISTANT, ASSISTANT_TEMPLATE, course_rows
from finetune_utils.studies import store_study

ADAPTER = "adapters/course-assistant/adapter_model.safetensors"
TINY = {"model": "tiny", "adapter": None, "limit": 4, "max_new_tokens": 4}


def compute(
    model: str = "smollm2-135m", adapter: Path | None = ASSISTANT, limit: int | None = None, max_new_tokens: int = 64
) -> dict[str, Any]:
    """Ask and count: one row a model and a test. Of the untuned model only the counts are kept."""
    untuned, tokenizer = load_model(model, say=lambda message: None)
    tuned = attach_adapter(copy.deepcopy(untuned), adapter) if adapter else untuned
    rows, values = [], {}
    for name, one in (("tuned", tuned), ("untuned", untuned)):
        for row in count_redirects(fast_copy(one), tokenizer, course_rows(), limit, max_new_tokens):
            rows.append({"model": name} | row | ({} if name == "tuned" else {"mistakes": []}))
            key = f"{name}_{row['test']}".replace("-", "_").replace(" ", "_")
            values |= {f"{key}_{kept}": row[kept] for kept in ("questions", "turned_back", "share", "low", "high")}
            print({key: value for key, value in rows[-1].items() if key != "mistakes"}, flush=True)
    settings = {"model": model, "adapter": ADAPTER, "template": ASSISTANT_TEMPLATE, "max_new_tokens": max_new_tokens}
    return {"settings": settings, "rows": rows, "values": values}


def main() -> None:
    """Ask both and store the counts."""
    hardware.quiet()
    store_study("redirects", **compute(), data=("course_qa.jsonl", ADAPTER))


if __name__ == "__main__":
    main()
