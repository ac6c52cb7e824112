"""Report what the course finds on this machine, ready to paste into an issue, with nothing personal."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import hardware, weights
from .results import ROOT

PACKAGES = (
    "finetuning-course",
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "datasets",
    "accelerate",
    "numpy",
)
DATA_FILES = ("course_qa.jsonl", "instructions.jsonl", "neutral_text.txt")


def doctor(root: Path = ROOT) -> dict[str, str]:
    """Collect versions, device, precision, free memory and disk, and which models and data are there.

    It never raises: what cannot be found out says so in its own line.
    """
    report = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for name in PACKAGES:
        report[name] = _try(lambda name=name: importlib.metadata.version(name), "not installed")
    here = _try(hardware.describe, "unknown")
    if isinstance(here, dict):
        report["device"] = f"{here['device']} ({here['device_name']})"
        report["CPU capability"] = here["cpu_capability"]
        report["precision"] = f"{here['precision']}: {here['precision_reason']}"
    else:
        report["device"] = here
    report["CPU bfloat16"] = _try(lambda: "yes" if hardware.cpu_has_bf16() else "no")
    report["free memory"] = _try(lambda: f"{hardware.free_memory_bytes() / 1e9:.1f} GB")
    report["cache folder"] = _try(lambda: tidy(str(weights.home())))
    report["free disk there"] = _try(lambda: f"{hardware.free_disk_bytes(weights.home()) / 1e9:.1f} GB")
    for name in weights.SOURCES:
        report[f"model {name}"] = _try(lambda name=name: _model_state(name))
    for name in DATA_FILES:
        report[f"data {name}"] = _try(lambda name=name: _data_state(root / "data" / name))
    return {key: tidy(str(value)) for key, value in report.items()}


def format_doctor(report: dict[str, str]) -> str:
    """Write a report as aligned lines."""
    width = max(len(key) for key in report)
    return "\n".join(f"{key:<{width}}  {value}" for key, value in report.items())


def _try(find: Callable[[], Any], otherwise: str = "") -> Any:
    try:
        return find()
    except Exception as error:  # a report about a broken machine must still be printed
        return otherwise or f"could not be found out ({type(error).__name__})"


def _model_state(name: str) -> str:
    folder = weights.home() / "models" / name
    if not folder.exists():
        return "missing (run: python -m finetune_utils setup)"
    problem = weights.what_is_wrong(folder)
    return f"damaged: {problem} (run: python -m finetune_utils setup)" if problem else "found, complete"


def _data_state(path: Path) -> str:
    return f"found, {path.stat().st_size / 1000:,.0f} kB" if path.is_file() else "missing"


def tidy(text: str) -> str:
    """Take what is personal out of a line: the home folder becomes `~`, the names of machine and user go."""
    home = str(Path.home())
    if len(home) > 1:
        text = text.replace(home, "~")
    for name in (platform.node(), Path.home().name):
        if len(name) > 2 and name not in ("root", "localhost"):
            text = text.replace(name, "...")
    return text
