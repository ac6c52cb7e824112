"""The package is layered: a module imports only from those above it, so there is an order to read it in."""

import ast
import sys
from pathlib import Path

import pytest

import finetune_utils

FOLDER = Path(finetune_utils.__file__).parent
# From the ground up. A new module takes the place that its imports give it.
LAYERS = [
    "errors", "processes", "ngrams", "profiles", "hardware", "packed_weights", "progress",
    "files", "shapes", "hub", "data", "quality",
    "prompts", "tokenization", "seq2seq", "soft_labels", "class_labels", "batching", "prefix", "quick_lora", "nll",
    "weights", "embeddings", "scores", "metrics",
    "lora", "lora_layer", "lora_checks", "memory", "cards", "models", "four_bit",
    "checkpoints", "trainer", "watcher", "training", "generation", "evaluation", "class_metrics", "classification", "threshold",
    "multiple_choice", "harness", "hardness", "pairwise", "spelling", "error_categories", "comparison", "forgetting",
    "canvas", "betting",
    "tables", "results", "sources", "placeholders", "outputs", "exercises", "headless", "readme",
    "cell_needs", "lesson_plan", "timetable", "teaching_guide", "notebooks", "ranges",
    "course", "storing", "studies", "batch_plots", "lora_plots", "scaling_plots", "classification_plots", "plots",
    "evaluation_plots", "doctor",
    "runs", "sentiment", "trials", "arms", "list_maker", "assistant", "summaries", "multitask", "task_runs", "summary_plots",
    "run_record", "evaluation_report", "quickstart", "commands", "measure",
    "distributed", "gguf_file", "publish", "export", "offline_kit",
    "__main__",
]  # fmt: skip
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
MODULES = sorted(MODULES + [path.parent.name for path in FOLDER.glob("*/__init__.py")])  # a folder is one layer


def imported(name: str) -> set[str]:
    """The package's own modules that a module imports, at its top or inside a function; a folder counts as one."""
    if (FOLDER / name).is_dir():
        return {below for path in (FOLDER / name).rglob("*.py") for below in imports_in(path, level=2)} - {name}
    return imports_in(FOLDER / f"{name}.py")


def imports_in(path: Path, level: int = 1) -> set[str]:
    """The package's modules that one file imports; from a folder below the package they have two dots."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == level:
            found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "finetune_utils":
            below = node.module.split(".")[1:2]
            found |= set(below) or {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            parts = [alias.name.split(".") for alias in node.names]
            found |= {part[1] for part in parts if part[0] == "finetune_utils" and len(part) > 1}
    return found


def test_every_module_has_its_place_and_every_place_its_module():
    assert sorted(LAYERS) == MODULES, "put a new module into LAYERS, and take a removed one out"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_stands_above_it(name):
    above = set(LAYERS[: LAYERS.index(name)])
    below = imported(name) - above
    assert not below, f"{name} imports {', '.join(sorted(below))}, which must then stand above it in LAYERS"


def test_the_search_for_imports_finds_every_form(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "FOLDER", tmp_path)
    (tmp_path / "sample.py").write_text(
        "import os\nfrom pathlib import Path\nfrom .alpha import x\nfrom . import beta, gamma as g\n"
        "import finetune_utils.delta\nfrom finetune_utils.epsilon import y\nfrom finetune_utils import zeta\n"
        "def f():\n    from .eta.inner import z\n"
    )
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "__init__.py").write_text("from ..alpha import x\nfrom . import inner\nfrom .inner import y\n")
    (folder / "inner.py").write_text("from finetune_utils import beta\nfrom finetune_utils.bundle import z\n")
    assert imported("bundle") == {"alpha", "beta"}
    assert imported("sample") == {"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta"}
