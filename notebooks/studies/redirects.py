"""Study: the committed assistant, asked every test question there is: how often does it turn back, and where is that wrong?"""

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
    """Ask and count: one row a test, with every mistake in full."""
    loaded, tokenizer = load_model(model, say=lambda message: None)
    fast = fast_copy(attach_adapter(loaded, adapter) if adapter else loaded)
    rows = count_redirects(fast, tokenizer, course_rows(), limit, max_new_tokens)
    values = {}
    for row in rows:
        print({key: value for key, value in row.items() if key != "mistakes"}, flush=True)
        name = row["test"].replace("-", "_").replace(" ", "_")
        values |= {f"{name}_{key}": row[key] for key in ("questions", "turned_back", "share", "low", "high")}
    settings = {"model": model, "adapter": ADAPTER, "template": ASSISTANT_TEMPLATE, "max_new_tokens": max_new_tokens}
    return {"settings": settings, "rows": rows, "values": values}


def main() -> None:
    """Ask the committed adapter and store the counts."""
    hardware.quiet()
    store_study("redirects", **compute(), data=("course_qa.jsonl", ADAPTER))


if __name__ == "__main__":
    main()
