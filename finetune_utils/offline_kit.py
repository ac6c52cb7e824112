"""Everything a room without network needs, in one folder: packages, models, the course itself, and how to start."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import UserError, writing
from .results import ROOT, write_text
from .weights import SOURCES, ensure_model, sha256_of

MANIFEST = "manifest.json"
BUILD_TOOLS = ("pip", "setuptools>=68", "wheel")
SKIPPED = {
    ".git",
    ".venv",
    ".venv-floors",
    "build",
    "__pycache__",
    ".ipynb_checkpoints",
    ".pytest_cache",
    ".ruff_cache",
}
START = """\
# The course without a network

Made for Python {version} on {platform}. Other systems need a kit of their own: run `make offline-kit` on one of them.

1. Copy this whole folder from the stick to the disk. The stick is too slow to work from.
2. In the copy: `cd course`, then

       PIP_NO_INDEX=1 PIP_FIND_LINKS="$PWD/../wheels" FINETUNE_HOME="$PWD/../cache" make course PROFILE=smoke

   It creates the environment from `wheels`, finds the models in `cache` and runs every lesson on a few rows.
3. To read and run the lessons: the same three variables, then `make lab`.

Without `make` (Windows: `.venv\\Scripts\\python`): create the environment with `python3 -m venv .venv`, then

    .venv/bin/python -m pip install --no-index --find-links ../wheels -c constraints.txt -e ".[course,dev]"

and set `FINETUNE_HOME` to the folder `cache`. To check the copy: `python -m finetune_utils check-kit FOLDER`.
"""


def make_offline_kit(
    output: str | Path,
    root: Path = ROOT,
    run: Callable[[Sequence[str]], None] | None = None,
    index: str = "",
    say: Callable[[str], None] = print,
) -> Path:
    """Fill the new folder `output`: `wheels/`, `cache/`, `course/`, `START_HERE.md`, and the manifest last.

    Args:
        root: the repository.
        run: runs one command (default: a process that must succeed); tests pass their own.
        index: another index for PyTorch, such as that of its CPU builds.

    Raises:
        UserError: a folder that exists, a package or model that cannot be fetched, a full disk.
    """
    output = Path(output)
    if output.exists():
        raise UserError(f"{output}: exists already; choose another --output or delete the folder.")
    with writing(output, "free some space (a kit takes about 2 GB) or choose another --output"):
        (output / "wheels").mkdir(parents=True)
        for command in download_commands(root, output / "wheels", index):
            say(f"Downloading: {' '.join(command[command.index('-d') + 2 :][:6])} ...")
            (run or _run)(command)
        for name in SOURCES:
            shutil.copytree(ensure_model(name, say), output / "cache" / "models" / name)
        shutil.copytree(root, output / "course", ignore=_leave_out(output))
        version = ".".join(map(str, sys.version_info[:2]))
        write_text(output / "START_HERE.md", START.format(version=version, platform=sys.platform))
        files = {name: sha256_of(output / name) for name in _files(output)}
        write_text(output / MANIFEST, json.dumps(files, indent=0) + "\n")
    say(f"The kit is in {output}: {len(files):,} files. Start with START_HERE.md.")
    return output


def requirements(root: Path = ROOT) -> list[str]:
    """What the course, its tests and its installation ask for, without the course itself."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + extras["course"] + extras["dev"] + extras["eval"]
    return [line for line in lines if not line.startswith(project["name"])] + list(BUILD_TOOLS)


def download_commands(root: Path, folder: Path, index: str = "") -> list[list[str]]:
    """The calls of pip: PyTorch first, from its own index if one is named, then everything else beside it."""
    constraints = root / "constraints.txt"
    torch = next(line for line in constraints.read_text(encoding="utf-8").splitlines() if line.startswith("torch=="))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "-d", str(folder)]
    first = [*pip, torch, *(["--index-url", index] if index else [])]
    rest = [*pip, *requirements(root), "--find-links", str(folder), "-c", str(constraints)]
    return [first, rest]


def check_kit(folder: str | Path) -> list[str]:
    """Say what is wrong with a copied kit, file by file; an empty list when nothing is.

    Raises:
        UserError: there is no manifest, so the kit was never finished.
    """
    folder = Path(folder)
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError.at(
            folder, found="no readable manifest", expected="a finished kit", do="copy it again"
        ) from error
    missing = [f"{name} is missing" for name in files if not (folder / name).is_file()]
    changed = [
        f"{n} differs" for n, digest in files.items() if (folder / n).is_file() and sha256_of(folder / n) != digest
    ]
    return missing + changed


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"pip could not fetch the packages ({last}): check the network and run `make offline-kit` again."
        )


def _leave_out(output: Path) -> Callable[[str, list[str]], set[str]]:
    def skip(folder: str, names: list[str]) -> set[str]:
        """The names in one folder that are not copied: what can be made again, and the kit itself."""
        own = {name for name in names if (Path(folder) / name).resolve() == output.resolve()}
        return own | {name for name in names if name in SKIPPED or name.endswith(".egg-info")}

    return skip


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
