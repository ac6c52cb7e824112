"""A user's mistake, told in one line: where, what was found, what was expected, what to do."""

from __future__ import annotations

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
