"""Several processes that train one model together: join them, say which one this is, let the first one decide."""

from __future__ import annotations

import os
from typing import TypeVar

import torch

from .errors import UserError

T = TypeVar("T")


def join() -> None:
    """Meet the other processes that a launcher such as `accelerate launch` has started; alone, nothing happens.

    On CPUs they talk through gloo, on NVIDIA GPUs through NCCL, and each process gets a GPU of its own.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) > 1 and not torch.distributed.is_initialized():
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available())


def count() -> int:
    """How many processes train together; 1 when there is no other."""
    return torch.distributed.get_world_size() if _together() else 1


def is_first() -> bool:
    """True for the process that prints, writes files and decides; there is exactly one."""
    return not _together() or torch.distributed.get_rank() == 0


def agree(value: T) -> T:
    """What the first process passes, in all of them. All have to call it, or those that do wait for the others.

    Clocks and rounding differ between processes; one that saves or stops alone would leave the others waiting.
    """
    if not _together():
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def wait() -> None:
    """Go on when all processes have come here."""
    if _together():
        torch.distributed.barrier()


def leave() -> None:
    """Part from the other processes at the end of the program."""
    if _together():
        torch.distributed.destroy_process_group()


def share_of(batch_size: int) -> int:
    """Rows of a batch that one process takes.

    Raises:
        UserError: the batch cannot be dealt out evenly.
    """
    if batch_size % count():
        raise UserError(
            f"A batch of {batch_size} rows cannot be dealt out to {count()} processes: choose a --batch-size that is a "
            f"multiple of {count()}."
        )
    return batch_size // count()


def _together() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
