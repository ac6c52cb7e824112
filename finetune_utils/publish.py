"""Publish a fine-tuned model: a card written from the run's own record, and a guarded push to the Hugging Face hub."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import UserError, writing
from .models import ADAPTER_CONFIG, DEFAULT_MODEL
from .results import write_text
from .run_record import RunRecord, read_record

CARD = "README.md"
HUB_NAMES = {
    DEFAULT_MODEL: ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")
}  # what the course's names are called there
# What others need. Test rows, row hashes, histories and checkpoints stay at home.
UPLOADED = (
    CARD, "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", ADAPTER_CONFIG,
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "*.gguf",
)  # fmt: skip


def model_card(folder: str | Path) -> str:
    """The card of the model in `folder`: every figure in it is read from its `run.json`.

    Raises:
        UserError: no record, or the run is not complete.
    """
    record = _complete(Path(folder))
    base, license_name = HUB_NAMES.get(
        record.model, (Path(record.model).name if _is_path(record.model) else record.model, None)
    )
    head = {
        "base_model": base,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": license_name,
    }
    adapter = (Path(folder) / ADAPTER_CONFIG).is_file()
    head |= {"library_name": "peft"} if adapter else {}
    settings = record.settings
    kind = "all weights" if record.full else "a LoRA adapter" + ("" if adapter else ", merged into the weights")
    epochs = f"{settings['epochs']:g} epoch{'' if settings['epochs'] == 1 else 's'}"
    length = f"{settings['max_steps']} steps" if settings.get("max_steps") else epochs
    steps = record.results.get("steps")
    parts = [
        "---", *(f"{key}: {value}" for key, value in head.items() if value), "---", "",
        f"# {Path(folder).resolve().name}", "",
        f"{base}, fine-tuned on `{record.data}`. This card is written by a program from the record of the run.", "",
        "## Training", "",
        f"* Trained: {kind}, on {len(record.train_rows):,} rows of `{record.data}` (SHA-256 `{record.data_sha256[:16]}...`).",
        f"* Asked for: {length}, batches of {settings['batch_size']}, learning rate {settings['learning_rate']:g}, "
        f"seed {settings['seed']}." + (f" Taken: {steps:,} steps." if steps else ""),
        f"* Prompt template: `{record.template}`. Ask with the same one.", "",
        "## Results", "", *_results(record.results), "",
        "## Limits", "",
        "* Nothing but rows of that one file was trained or tested on. Test it on what you want to use it for.",
        "* It can state false things fluently. Forgetting was not measured by this run.",
        "* The training rows are inside the weights: do not publish it if they are private.", "",
    ]  # fmt: skip
    return "\n".join(parts)


def _results(results: Mapping[str, Any]) -> list[str]:
    if "nll_before" not in results:
        return ["Not measured: the run kept no test rows."]
    before, after = results["nll_before"], results["nll_after"]
    change, low, high = (results[key] for key in ("nll_change", "nll_change_low", "nll_change_high"))
    verdict = (
        "The interval excludes zero." if low > 0 or high < 0 else "The interval includes zero: no difference was shown."
    )
    return [
        f"On {results['test_rows']:,} rows that were not trained on (NLL, nats per token, lower is better):", "",
        "| untuned | tuned | change (95 % interval) |", "|---|---|---|",
        f"| {before:.3f} | {after:.3f} | {change:+.3f} ({low:+.3f} to {high:+.3f}) |",
        "", verdict,
    ]  # fmt: skip


def write_card(folder: str | Path) -> Path:
    """Write the card as `README.md` beside the weights."""
    path, text = Path(folder) / CARD, model_card(folder)
    with writing(path, "free some space, or choose a folder that may be written to"):
        write_text(path, text)
    return path


def plan_push(folder: str | Path) -> list[str]:
    """The names of the files that `push_to_hub` would upload.

    Raises:
        UserError: no weights, no complete record, or a card that does not say what the record says.
    """
    folder = Path(folder)
    card = model_card(folder)
    if not any(folder.glob("*.safetensors")):
        raise UserError.at(folder, found="no weights", expected="*.safetensors", do="finish the run first")
    if not (folder / CARD).is_file() or (folder / CARD).read_text(encoding="utf-8") != card:
        raise UserError.at(
            folder / CARD, found="no card, or one that differs from the run's record", do="call write_card first"
        )
    return sorted({path.name for pattern in UPLOADED for path in folder.glob(pattern)})


def push_to_hub(folder: str | Path, repo_id: str, confirm: str = "", private: bool = True, api: Any = None) -> str:
    """Upload a model with its card; returns its address. Nothing is uploaded unless `confirm` repeats `repo_id`.

    The repository is private unless you say otherwise. Test rows and the run's record are never uploaded, and the path of the
    untuned model on this machine is replaced by its name on the hub.

    Args:
        repo_id: `your-name/model-name`.
        api: what uploads (default: `huggingface_hub.HfApi()` with your token).

    Raises:
        UserError: not confirmed, offline, no token, or a folder that `plan_push` refuses.
    """
    names = plan_push(folder)
    if confirm != repo_id:
        listed = ", ".join(names)
        raise UserError(
            f"Nothing was uploaded. {listed} would go to {repo_id!r}: pass confirm={repo_id!r} if you want that."
        )
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        raise UserError("HF_HUB_OFFLINE is set, so nothing can be uploaded: unset it and try again.")
    if api is None:
        api = _api()
    record = _complete(Path(folder))
    with tempfile.TemporaryDirectory(prefix="finetune-push-") as staging:
        for name in names:
            shutil.copy2(Path(folder) / name, staging)
        _name_base(Path(staging) / ADAPTER_CONFIG, record)
        api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=staging, commit_message="Upload model and card")
    return f"https://huggingface.co/{repo_id}"


def _api() -> Any:
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise UserError("There is no token for the Hugging Face hub: run `hf auth login` and try again.")
    return HfApi()


def _name_base(path: Path, record: RunRecord) -> None:
    """peft writes where the untuned model lies on this machine; others need its public name."""
    if path.is_file():
        config = json.loads(path.read_text(encoding="utf-8"))
        public = HUB_NAMES.get(record.model, (None if _is_path(record.model) else record.model, None))[0]
        path.write_text(json.dumps(config | {"base_model_name_or_path": public}, indent=2) + "\n", encoding="utf-8")


def _is_path(name: str) -> bool:
    return Path(name).is_absolute()


def _complete(folder: Path) -> RunRecord:
    record = read_record(folder)
    if record is None:
        raise UserError.at(
            folder, found="no run.json", expected="a folder that `finetune` made", do="run `finetune` first"
        )
    if record.status != "complete":
        raise UserError.at(folder, found="an unfinished run", do="finish it with --resume")
    return record
