"""A bar for a person who waits, silence everywhere else."""

import sys
import types

import pytest

from finetune_utils.progress import bar, in_notebook


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    """Not a notebook, and standard error is a terminal."""
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)


def in_a_kernel(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))


def shown(**options):
    with bar(9, "Counting", **options) as progress_bar:
        return not progress_bar.disable


def test_a_terminal_gets_a_bar_and_a_log_does_not(monkeypatch):
    assert shown()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert not shown()


def test_an_open_notebook_gets_a_bar_though_its_output_is_no_terminal(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    in_a_kernel(monkeypatch)
    assert in_notebook()
    assert shown()


def test_a_headless_run_gets_none_whatever_it_writes_to(monkeypatch):
    monkeypatch.setenv("FINETUNE_UNDER_RUN", "1")
    assert not shown()
    in_a_kernel(monkeypatch)
    assert not shown()


def test_whoever_asks_is_obeyed(monkeypatch):
    assert not shown(show=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert shown(show=True)


def test_quick_work_stays_silent_and_slow_work_does_not(capsys):
    with bar(9, "Counting", "step", show=True) as progress_bar:
        progress_bar.update(4)
    assert capsys.readouterr().err.strip() == ""
    with bar(9, "Counting", "step", show=True) as progress_bar:
        for name in ("start_t", "last_print_t"):
            setattr(progress_bar, name, getattr(progress_bar, name) - 3)  # as if begun three seconds ago
        progress_bar.update(4)
    told = capsys.readouterr().err
    assert "Counting" in told
    assert "4/9" in told
