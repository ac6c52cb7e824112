"""Start `finetune` in several processes with `accelerate launch`, and compare the losses of two runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import UserError
from .files import read_rows
from .run_record import HISTORY_FILE

CONFIGS = Path(__file__).parent / "configs"


def launch_command(words: Sequence[str], config: str = "two_processes", processes: int = 2) -> list[str]:
    """The command line that runs `python -m finetune_utils WORDS` in several processes on this machine.

    `config` names a file of `finetune_utils/configs`: `two_processes` (a CPU) or `fsdp` (GPUs).

    Raises:
        UserError: there is no such configuration.
    """
    path = CONFIGS / f"{config}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.yaml")))
        raise UserError(f"There is no configuration {config!r}: choose one of {known}.")
    # A port of its own for each launch: with the default one, two runs on one machine would meet.
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path)]
    launcher += ["--num_processes", str(processes), "--main_process_port", str(_free_port())]
    return [*launcher, "-m", "finetune_utils", *map(str, words)]


def launch(
    words: Sequence[str],
    config: str | None = "two_processes",
    processes: int = 2,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run `python -m finetune_utils WORDS` in several processes (one: without a launcher) and return what it printed.

    `environment` is added to the variables of this process. With `two_processes` the run sees no GPU; with
    None a single process takes the device that it finds.

    Raises:
        UserError: the run failed; its own message is shown.
    """
    command = [sys.executable, "-m", "finetune_utils", *map(str, words)]
    if processes > 1:
        command = launch_command(words, config or "two_processes", processes)
    paths = [str(CONFIGS.parents[1]), os.environ.get("PYTHONPATH", "")]
    variables = {**os.environ, **(environment or {}), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if config == "two_processes":
        variables["CUDA_VISIBLE_DEVICES"] = ""  # also with one process, so that both runs are on the CPU
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise UserError(next((line for line in lines if "Error: " in line), lines[-1]))
    return done.stdout


def read_losses(folder: str | Path) -> list[float]:
    """The training loss of every step of a run that `finetune` saved to `folder`."""
    return [row["loss"] for row in read_rows(Path(folder) / HISTORY_FILE) if "loss" in row]


@dataclass(frozen=True)
class LossGap:
    """How far two runs are apart: the first step (nats per token), and the largest gap relative to the loss."""

    first: float
    largest: float
    steps: int


def loss_gap(one: Sequence[float], other: Sequence[float]) -> LossGap:
    """Compare two runs step by step.

    Raises:
        UserError: they did not take the same number of steps.
    """
    if len(one) != len(other) or not one:
        raise UserError(f"The runs took {len(one)} and {len(other)} steps: only equally long ones can be compared.")
    gaps = [abs(a - b) / abs(a) for a, b in zip(one, other, strict=True)]
    return LossGap(abs(one[0] - other[0]), max(gaps), len(one))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
