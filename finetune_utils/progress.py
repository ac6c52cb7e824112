"""A progress bar for a person at a screen, and nothing in a log or a headless run."""

from __future__ import annotations

import sys
from typing import Any

from tqdm.std import tqdm

from . import processes
from .hardware import under_run


def in_notebook() -> bool:
    """True inside a Jupyter kernel."""
    return "ipykernel" in sys.modules and hasattr(sys.modules.get("IPython"), "get_ipython")


def bar(total: int, label: str, unit: str = "row", show: bool | None = None) -> Any:
    """Return a tqdm bar of `total` units. `show=None`: only on a terminal or in an open notebook.

    The bar appears after two seconds, so that quick work stays silent. Of several processes only the first one has one.
    """
    if show is None:
        show = not under_run() and (in_notebook() or sys.stderr.isatty())
    return tqdm(
        total=total,
        desc=label,
        unit=unit,
        disable=not (show and processes.is_first()),
        delay=2,
        leave=False,
        dynamic_ncols=True,
    )
