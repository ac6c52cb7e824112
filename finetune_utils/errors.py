"""A user's mistake, told in one line: where, what was found, what was expected, what to do."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path


class UserError(Exception):
    """A mistake the user can mend. The command line prints it on one line and exits with 2."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))

    @classmethod
    def at(
        cls, path: str | Path, line: int | None = None, *, found: str, expected: str = "", do: str = ""
    ) -> UserError:
        """Build the standard line `file:line: found ...; expected ...; do`.

        `line` counts from 1; leave it out when the whole file is meant.
        """
        place = f"{path}:{line}" if line is not None else f"{path}"
        parts = [f"found {found}"]
        if expected:
            parts.append(f"expected {expected}")
        if do:
            parts.append(do)
        return cls(f"{place}: " + "; ".join(parts) + ".")


def os_reason(error: OSError) -> str:
    """Say in plain words why the operating system refused (full disk, no permission, ...)."""
    return (error.strerror or str(error) or type(error).__name__).lower()


def system_error(error: BaseException) -> OSError | None:
    """The refusal of the operating system behind an error; None when there is none.

    torch and safetensors report a full disk as errors of their own kinds, without the number of the cause.
    """
    if isinstance(error, OSError):
        return error
    text = str(error)
    if "os error" in text or ("inline_container" in text and "Reader" not in text):
        reason = "permission denied" if "os error 13" in text else "no space left on device"
        return OSError(errno.EACCES if "os error 13" in text else errno.ENOSPC, reason)
    return None


@contextlib.contextmanager
def writing(place: str | Path, do: str) -> Iterator[None]:
    """Inside this context a failure to write ends as one line that names the place and what to do.

    Raises:
        UserError: instead of what the system, torch or safetensors raised.
    """
    try:
        yield
    except Exception as error:
        cause = system_error(error)
        if cause is None:
            raise
        raise UserError.at(place, found=f"that it cannot be written ({os_reason(cause)})", do=do) from error


def out_of_memory(error: BaseException) -> bool:
    """True when memory ran out, in the words of Python, of torch on a CPU, or of torch on a GPU."""
    return isinstance(error, MemoryError) or any(x in str(error) for x in ("allocate memory", "out of memory"))
