"""The package is layered: a module imports only from those above it, so there is an order to read it in."""

import ast
import sys
from pathlib import Path

import pytest

import finetune_utils

FOLDER = Path(finetune_utils.__file__).parent
# From the ground up. A new module takes the place that its imports give it.
LAYERS = [
    "errors", "profiles", "hardware", "progress",
    "files", "shapes", "hub", "data", "quality",
    "prompts", "tokenization", "soft_labels", "batching", "nll",
    "weights", "lora", "quick_lora", "memory", "models",
    "checkpoints", "trainer", "watcher", "training", "generation", "evaluation",
    "betting.games", "betting.elo", "betting.features", "betting.baselines", "betting.scoring", "betting.stakes",
    "betting.questions", "betting.answers", "betting.readings", "betting.teaching",
    "results", "sources", "placeholders", "outputs", "exercises", "headless", "readme", "notebooks", "ranges",
    "course", "studies", "canvas", "batch_plots", "plots", "doctor",
    "runs", "trials", "assistant",
    "run_record", "quickstart", "commands", "measure",
    "__main__",
]  # fmt: skip
MODULES = sorted(
    path.relative_to(FOLDER).with_suffix("").as_posix().replace("/", ".")
    for path in [*FOLDER.glob("*.py"), *FOLDER.glob("betting/*.py")]
    if path.stem != "__init__"
)


def imported(name: str) -> set[str]:
    """The package's own modules that a module imports, at its top or inside a function."""
    found = set()
    package, _, _ = name.rpartition(".")
    for node in ast.walk(ast.parse((FOLDER / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and package:
            names = {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
            found |= {f"{package}.{other}" for other in names}
        elif isinstance(node, ast.ImportFrom) and node.level == 1 + bool(package):
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
    assert imported("sample") == {"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta"}
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "part.py").write_text("from .other import x\nfrom ..alpha import y\nfrom . import third\n")
    assert imported("inner.part") == {"inner.other", "alpha", "inner.third"}
