"""Fixtures for unit tests: a tiny model in a folder, rows in files, the command line in this process, figures that are kept."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import pytest

from finetune_utils.__main__ import main

FACTS = {
    "learning rate": "It is how far one step moves the weights.",
    "adapter": "It holds few weights beside a frozen model.",
    "label mask": "It hides the prompt from the loss.",
    "epoch": "It is one pass over all the rows.",
    "batch": "It is a handful of rows in one step.",
    "token": "It is a piece of text with a number.",
}


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def model_dir(tmp_path_factory, tiny_model, tokenizer):
    """A tiny random model with its tokenizer, as `save_pretrained` leaves them. Outside `tmp_path`."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def rows():
    """Twelve questions with six answers: two wordings each."""
    wordings = ("What is {}?", "Explain {} to me.")
    return [{"question": w.format(term), "answer": text} for term, text in FACTS.items() for w in wordings]


@pytest.fixture
def save(tmp_path):
    """Write rows to a JSONL file below `tmp_path`, as plainly as a learner would."""

    def write(rows, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def run(capfd, monkeypatch):
    """Run `python -m finetune_utils ...` in this process. What libraries write to the streams is seen too."""

    def call(*words) -> Done:
        monkeypatch.setattr(sys, "argv", ["finetune_utils", *map(str, words)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        return Done(code, *capfd.readouterr())

    return call


@pytest.fixture
def tuned_dir(tmp_path, model_dir, rows, save, run):
    """What `finetune` leaves after two steps on `rows`."""
    folder = tmp_path / "tuned"
    done = run("finetune", save(rows), "--model", model_dir, "--output", folder, "--max-steps", 2, "--batch-size", 2)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def shown(request, monkeypatch):
    """What the figures of a test module's `plots` were shown with, instead of being shown: (figure, alt, sentence)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    calls = []
    monkeypatch.setattr(request.module.plots, "show", lambda *parts: calls.append(parts))
    yield calls
    plt.close("all")
