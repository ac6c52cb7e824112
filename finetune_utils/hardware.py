"""What the machine can do: device, precision and why, seeds, memory."""

from __future__ import annotations

import logging
import os
import platform
import random
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch

from .errors import UserError


@dataclass(frozen=True)
class Precision:
    """The number format of the heavy arithmetic, and why it was chosen."""

    dtype: torch.dtype
    name: str
    reason: str

    @property
    def low(self) -> bool:
        """True when the format has 16 bits, so that training runs under autocast."""
        return self.dtype in (torch.bfloat16, torch.float16)


FP32 = Precision(torch.float32, "fp32", "asked for")


def choose_device(allow_mps: bool = False) -> torch.device:
    """Return the GPU when there is one, else the CPU. Apple's `mps` only on request: its results differ."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if allow_mps and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def cpu_has_bf16() -> bool:
    """True when the CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX).

    Emulated bfloat16 works everywhere but is slower than float32, so emulation counts as "no".
    """
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)


def choose_precision(device: torch.device | None = None) -> Precision:
    """Choose the number format for `device` (default: the one `choose_device` finds).

    A GPU needs compute capability 8 for real bfloat16: PyTorch's own test also says yes where the
    format is only emulated (a T4, for example), so the capability is read instead. `FINETUNE_PRECISION=fp32` in the
    environment asks for float32 everywhere: slower, and a resumed run ends in bit-identical weights.
    """
    if os.environ.get("FINETUNE_PRECISION") == "fp32":
        return FP32
    device = device or choose_device()
    if device.type == "cuda":
        major = torch.cuda.get_device_capability(device)[0]
        if major >= 8:
            return Precision(torch.bfloat16, "bf16", f"GPU of compute capability {major}.x has bfloat16")
        return Precision(torch.float16, "fp16", f"GPU of compute capability {major}.x has no bfloat16")
    if device.type == "cpu" and cpu_has_bf16():
        return Precision(torch.bfloat16, "bf16", "this CPU multiplies bfloat16 in hardware")
    where = "Apple's GPU" if device.type == "mps" else "this CPU"
    return Precision(torch.float32, "fp32", f"{where} has no fast 16-bit arithmetic that is safe for training")


def use_fast_fp32() -> None:
    """Route float32 matrix products on a CPU without bfloat16 through oneDNN.

    PyTorch's default route (MKL) is slower on AMD machines, by a tenth or by half. Loading a model and training both
    call this. The setting is named after bfloat16, but without AMX it stays full float32; with AMX it would round, so
    it is left alone there.
    """
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    if matmul is not None and hasattr(matmul, "fp32_precision") and not cpu_has_bf16():
        matmul.fp32_precision = "bf16"


def extra_seed() -> int:
    """What `FINETUNE_SEED` in the environment adds to every seed that is set; 0 when it is missing.

    With it a whole lesson can be repeated from other new weights: their spread makes the ranges of "Check your run".

    Raises:
        UserError: it is no whole number from 0 up.
    """
    text = os.environ.get("FINETUNE_SEED") or "0"
    if not text.isdecimal():
        raise UserError(f"FINETUNE_SEED is {text!r}: it must be a whole number from 0 up.")
    return int(text)


def repeat_name() -> str:
    """Under which name this run repeats a stored one: its seed, or the name of another machine; empty when it is no repeat.

    `FINETUNE_REPEAT` in the environment names a machine whose processor rounds otherwise than that of the stored run.

    Raises:
        UserError: a name of other characters than letters, digits and hyphens, or one that ends like a seed.
    """
    name, seed = os.environ.get("FINETUNE_REPEAT") or "", extra_seed()
    if name and (name.rpartition("-")[2].isdecimal() or not name.replace("-", "").isalnum()):
        raise UserError(
            f"FINETUNE_REPEAT is {name!r}: name the machine in letters, digits and hyphens, with a letter in its last part, "
            "such as amd-zen4."
        )
    return "-".join(part for part in (name, str(seed) if seed else "") if part)


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and PyTorch (all devices) with `seed` plus `extra_seed()`."""
    seed += extra_seed()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def peak_memory_bytes() -> int:
    """Peak memory of this process: of the GPU when there is one, else of main memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    status = Path("/proc/self/status")
    if status.exists():
        # Not `ru_maxrss`: a new process inherits that figure from the one that started it.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource  # not on Windows

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on macOS


def memory_in_use_bytes() -> int:
    """Memory of this process now, on the device that `peak_memory_bytes` measures."""
    if torch.cuda.is_available():
        return int(torch.cuda.memory_allocated())
    return int(psutil.Process().memory_info().rss)


def free_memory_bytes() -> int:
    """Main memory that a new process could use."""
    return int(psutil.virtual_memory().available)


def free_disk_bytes(path: Path) -> int:
    """Free disk space below `path`, which need not exist yet."""
    while not path.exists():
        path = path.parent
    return int(psutil.disk_usage(str(path)).free)


def cast_weights(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """Store the weights of `model` in `dtype`, in place, and leave its constants as they are; returns it.

    `model.to(dtype)` rounds the constants as well, among them the frequencies of the position code, and a model with
    rounded frequencies is another model: it gives other logits than the same weights loaded with `dtype=`.
    """
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    return model


def quiet() -> None:
    """Turn off telemetry, library progress bars and the warnings that tell a learner nothing.

    The warnings named here were read and found harmless; every other warning still shows.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
    warnings.filterwarnings("ignore", message=".*IProgress not found.*")


def under_run() -> bool:
    """True when papermill runs the notebook headless (`python -m finetune_utils run`)."""
    return os.environ.get("FINETUNE_UNDER_RUN") == "1"


def describe() -> dict[str, str]:
    """Name the device and the precision in a few words, for reports and stored results."""
    device = choose_device()
    precision = choose_precision(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": device.type,
        "device_name": name,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "precision": precision.name,
        "precision_reason": precision.reason,
    }
