"""`run.json`, fingerprints of rows, and the output folder of a run: begun, failed, resumed."""

import dataclasses
import errno
import json

import pytest

from finetune_utils import run_record
from finetune_utils.errors import UserError
from finetune_utils.run_record import (
    RunRecord,
    answer_of,
    question_of,
    read_record,
    reference_of,
    row_hash,
    run_folder,
)

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "First?"},
    {"role": "assistant", "content": "One."},
    {"role": "user", "content": "Second?"},
    {"role": "assistant", "content": "Two words."},
]


def record(**changes) -> RunRecord:
    settings = {"seed": 3, "learning_rate": 0.125} | changes.pop("settings", {})
    plain = RunRecord("m", "d.jsonl", "abc", "qa", "chat", False, 77, 0.25, settings, ["h1", "h2"])
    return dataclasses.replace(plain, **changes)


def checkpoint(folder, step=7):
    place = folder / f"checkpoint-{step}"
    place.mkdir(parents=True)
    for name in ("optimizer.pt", "scheduler.pt"):
        (place / name).write_bytes(b"state")
    (place / "trainer_state.json").write_text("{}")
    return place


def test_a_record_comes_back_as_it_was_written(tmp_path):
    assert read_record(tmp_path) is None
    written = record(results={"nll_after": 1.5}, data="Größe.jsonl")
    written.save(tmp_path)
    assert read_record(tmp_path) == written
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"model": "m"', '{"unknown": 1}', b"\xff\xfe"])
def test_a_damaged_record_says_what_to_do(tmp_path, content):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "run.json").write_bytes(data)
    with pytest.raises(
        UserError,
        match=r"run.json: found no record of a run, or a damaged one; expected what `finetune` writes; move it away",
    ):
        read_record(tmp_path)


def test_a_full_disk_leaves_the_old_record(tmp_path, monkeypatch):
    record(status="running").save(tmp_path)

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UserError, match=r"run.json: found that it cannot be written \(no space left on device\)"):
        record(status="complete").save(tmp_path)
    assert read_record(tmp_path).status == "running"
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data_sha256": "xyz"}, "data_sha256 'abc', this one has 'xyz'"),
        ({"max_length": 78}, "max_length 77, this one has 78"),
        ({"full": True}, "full False, this one has True"),
        ({"model": "other"}, "model 'm', this one has 'other'"),
        ({"settings": {"learning_rate": 0.5}}, "learning_rate 0.125, this one has 0.5"),
        ({"settings": {"shuffle": True}}, "shuffle None, this one has True"),
    ],
)
def test_a_run_goes_on_only_with_the_same_data_and_settings(tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        record().check_same(record(**change), tmp_path)


def test_a_setting_that_an_older_run_had_is_named_too(tmp_path):
    with pytest.raises(UserError, match="old 1, this one has None"):
        record(settings={"old": 1}).check_same(record(), tmp_path)
    record().check_same(record(data="renamed.jsonl", train_rows=[]), tmp_path)


def test_a_fingerprint_ignores_case_spaces_and_other_columns():
    row = {"question": "What is LoRA?", "answer": "An adapter.", "topic": "x", "line": 3}
    assert row_hash(row) == row_hash({"answer": " an  ADAPTER.\n", "question": "what is lora? "})
    assert row_hash(row) != row_hash(row | {"question": "What was LoRA?"})
    assert row_hash(row) != row_hash(row | {"answer": "An adaptor."})
    assert row_hash({"text": "a"}) != row_hash({"question": "a"})
    assert len(row_hash(row)) == 16


def test_a_fingerprint_of_a_conversation_sees_words_roles_and_order():
    assert row_hash({"messages": TALK}) == row_hash({"messages": [m | {"content": f" {m['content']}"} for m in TALK]})
    for changed in (TALK[:-2], TALK[1:], [*TALK[:-1], TALK[-1] | {"content": "Two word."}]):
        assert row_hash({"messages": changed}) != row_hash({"messages": TALK})
    swapped = [TALK[0], TALK[3], TALK[4], TALK[1], TALK[2]]
    assert row_hash({"messages": swapped}) != row_hash({"messages": TALK})


def test_question_and_reference_of_every_kind_of_row_belong_together():
    row = {"question": "Why?", "answer": "So  IT is."}
    assert (question_of(row), reference_of(row), answer_of(row)) == ("Why?", "So  IT is.", "so it is.")
    row = {"messages": TALK}
    assert (question_of(row), reference_of(row), answer_of(row)) == ("Second?", "Two words.", "two words.")
    row = {"text": "Once."}
    assert (question_of(row), reference_of(row), answer_of(row)) == (None, "Once.", "once.")


def begin(folder, resume=False, say=lambda message: None, **changes):
    return run_folder(folder, record(**changes), resume, say)


def test_a_run_is_marked_as_begun_before_anything_else(tmp_path):
    with begin(tmp_path / "a" / "b") as resume:
        assert resume is False
        assert read_record(tmp_path / "a" / "b").status == "running"
    with begin(None) as resume:
        assert resume is False


def fail(folder, error, work=lambda folder: None, **options):
    """A run that does some work and then fails."""
    with begin(folder, **options):
        work(folder)
        raise error


@pytest.mark.parametrize("error", [UserError("no"), RuntimeError("bug"), MemoryError()])
def test_a_failure_leaves_nothing_of_folders_that_were_new(tmp_path, error):
    with pytest.raises(type(error)):
        fail(tmp_path / "a" / "b" / "c", error, lambda folder: (folder / "half").write_bytes(b"half"))
    assert list(tmp_path.iterdir()) == []


def test_a_failure_empties_a_folder_that_was_there(tmp_path):
    def work(folder):
        (folder / "half").write_bytes(b"half")
        (folder / "checkpoint-3").mkdir()  # cut short: nothing to resume from

    with pytest.raises(UserError):
        fail(tmp_path, UserError("no"), work)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_after_a_checkpoint_keeps_what_can_be_resumed(tmp_path):
    with pytest.raises(UserError):
        fail(tmp_path / "out", UserError("the disk is full"), checkpoint)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["checkpoint-7", "run.json"]
    with begin(tmp_path / "out", resume=True) as resume:
        assert resume is True


def test_an_interruption_can_be_resumed_from_the_beginning(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fail(tmp_path / "out", KeyboardInterrupt())
    told = []
    with begin(tmp_path / "out", resume=True, say=told.append) as resume:
        assert resume is False
    assert told == ["The interrupted run had not written a checkpoint yet: starting from the beginning."]


def test_a_failed_resumption_removes_nothing(tmp_path):
    record().save(tmp_path)
    with pytest.raises(UserError):
        fail(tmp_path, UserError("no"), resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def file_there(folder):
    folder.write_text("mine")


def note_there(folder):
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")


def run_there(status):
    def make(folder):
        folder.mkdir()
        record(status=status).save(folder)

    return make


@pytest.mark.parametrize(
    ("prepare", "resume", "words"),
    [
        (file_there, False, "found a file; expected a folder or nothing; choose another --output"),
        (file_there, True, "found a file; expected a folder or nothing"),
        (note_there, False, "is not empty; choose another --output, so that nothing is overwritten"),
        (note_there, True, r"found no run to resume \(no run.json\); start without --resume"),
        (lambda folder: None, True, r"found no run to resume \(no run.json\)"),
        (run_there("complete"), False, "already holds a finished run; choose another --output or delete"),
        (run_there("complete"), True, "this run is complete; there is nothing to resume"),
        (run_there("running"), False, r"already holds an interrupted run \(--resume continues it\)"),
    ],
)
def test_an_output_that_does_not_fit_is_left_as_it_is(tmp_path, prepare, resume, words):
    folder = tmp_path / "out"
    prepare(folder)
    before = {p: p.read_bytes() if p.is_file() else None for p in tmp_path.rglob("*")}
    with pytest.raises(UserError, match=words):
        fail(folder, AssertionError("must not begin"), resume=resume)
    assert {p: p.read_bytes() if p.is_file() else None for p in tmp_path.rglob("*")} == before


def test_resuming_needs_a_folder_and_the_same_settings(tmp_path):
    with pytest.raises(UserError, match="--resume needs the --output folder"), begin(None, resume=True):
        pass
    record().save(tmp_path)
    with pytest.raises(UserError, match="max_length 77, this one has 99"), begin(tmp_path, resume=True, max_length=99):
        pass


def test_a_folder_that_cannot_be_made_is_told_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"cannot be written \(not a directory\); choose another --output"):
        fail(tmp_path / "file" / "out", AssertionError("must not begin"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_file_is_plain_json_for_other_programs(tmp_path):
    record().save(tmp_path)
    content = json.loads((tmp_path / run_record.RUN_FILE).read_text(encoding="utf-8"))
    assert content["template"] == "chat"
    assert content["settings"]["learning_rate"] == 0.125
