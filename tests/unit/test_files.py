"""Row files: each fault is one line with file and line number, and leaves nothing behind."""

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_utils.errors import UserError
from finetune_utils.files import read_rows, write_rows

GOOD = '{"question": "q", "answer": "a"}\n'


def message_of(path) -> str:
    with pytest.raises(UserError) as caught:
        read_rows(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


# name of the file, its bytes, the line named (None: the whole file), words of the message
FAULTS = {
    "empty": ("a.jsonl", b"", None, "an empty file"),
    "blank": ("a.jsonl", b"\n  \n\t\n", None, "only blank lines"),
    "ending": ("a.txt", GOOD.encode(), None, "the ending .txt; expected .jsonl or .json or .csv"),
    "no ending": ("rows", GOOD.encode(), None, "no ending"),
    "latin-1": ("a.jsonl", (GOOD + '{"q": "caf\xe9"}').encode("latin-1"), 2, "byte 0xe9 at position 11"),
    "latin-1 after a mark": ("a.jsonl", b'\xef\xbb\xbf{"q": "\xe9"}', 1, "byte 0xe9 at position 8"),
    "utf-16": ("a.jsonl", GOOD.encode("utf-16"), None, "UTF-16 text"),
    "utf-16 without mark": ("a.jsonl", GOOD.encode("utf-16-le"), None, "UTF-16 text"),
    "gzip": ("a.jsonl", b"\x1f\x8b\x08\x00abc", None, "a gzip archive"),
    "spreadsheet": ("a.csv", b"PK\x03\x04abc", None, "a zip archive or spreadsheet"),
    "parquet": ("a.jsonl", b"PAR1abc", None, "a Parquet table"),
    "git-lfs": ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n", None, "a Git LFS pointer"),
    "web page": ("a.jsonl", b"<!DOCTYPE html>\n<html></html>", 1, "a web page"),
    "not JSON": ("a.jsonl", (GOOD + GOOD + "hello\n" + GOOD).encode(), 3, "expecting value at column 1"),
    "blank lines count": ("a.jsonl", (GOOD + "\n\n" + "hello\n").encode(), 4, "expecting value"),
    "old line ends": ("a.jsonl", (GOOD.strip() + "\r\n" + "hello\r\n").encode(), 2, "expecting value"),
    "single quotes": ("a.jsonl", b"{'question': 'q'}\n" + GOOD.encode(), 1, "JSON wants double quotes"),
    "array line": (
        "a.jsonl",
        (GOOD + '["q", "a"]\n').encode(),
        2,
        "a list; expected one JSON object per line",
    ),
    "array file": ("a.jsonl", b'[{"question": "q", "answer": "a"}]', 1, "name the file .json"),
    "text line": ("a.jsonl", (GOOD + '"q"\n').encode(), 2, "found text"),
    "number line": ("a.jsonl", (GOOD + "7\n").encode(), 2, "found a number"),
    "null line": ("a.jsonl", (GOOD + "null\n").encode(), 2, "found null"),
    "true line": ("a.jsonl", (GOOD + "true\n").encode(), 2, "found true or false"),
    "NaN": ("a.jsonl", (GOOD + '{"question": NaN}\n').encode(), 2, "NaN, which is not JSON"),
    "infinity": ("a.jsonl", (GOOD + '{"question": -Infinity}\n').encode(), 2, "-Infinity, which is not JSON"),
    "repeated field": ("a.jsonl", b'{"answer": "a", "answer": "b"}\n', 1, '"answer" twice'),
    "half a character": ("a.jsonl", (GOOD + '{"question": "\\ud83d"}').encode(), 2, "half of a character"),
    "deep": ("a.jsonl", b"[" * 100_000 + b"]" * 100_000, 1, "nested too deeply"),
    "huge number": ("a.jsonl", b'{"a": ' + b"9" * 5000 + b"}", 1, "4300 digits"),
    "pretty-printed": ("a.jsonl", b'{\n "question": "q"\n}', 1, "JSON spread over several lines"),
    "two on a line": (
        "a.jsonl",
        (GOOD.strip() * 2).encode(),
        1,
        "from column 33; expected JSON; write one object",
    ),
    "trailing comma": ("a.jsonl", (GOOD.strip() + ",\n" + GOOD).encode(), 1, "and nothing after it"),
    "cut in a text": ("a.jsonl", (GOOD + GOOD[:12]).encode(), 2, "a line that is cut short"),
    "cut after a text": ("a.jsonl", (GOOD + GOOD[:16]).encode(), 2, "a line that is cut short"),
    "json: object": ("a.json", b'{"question": "q"}', None, "put square brackets around"),
    "json: wrapped": (
        "a.json",
        b'{"data": [{"question": "q"}]}',
        None,
        'save the list under "data" on its own',
    ),
    "json: empty": ("a.json", b"[]", None, "an empty array"),
    "json: text": ("a.json", b'"q"', None, "found text; expected an array of objects"),
    "json: lines": ("a.json", (GOOD * 2).encode(), 2, "in a file named .jsonl"),
    "json: syntax": ("a.json", b'[\n{"question": "q",}\n]', 2, "at column 18"),
    "json: item": ("a.json", b'[{"question": "q"}, 7]', 2, "a number as item 2"),
    "csv: columns": ("a.csv", b"question,answer\nq,a\nq,a,b\n", 3, "3 columns; expected 2 as in the header"),
    "csv: after a long row": ("a.csv", b'question,answer\n"q\nq\nq",a\nq\n', 5, "1 columns"),
    "csv: open quote": ("a.csv", b'question,answer\nq,a\nq,"a\n', 3, "broken CSV"),
    "csv: no name": ("a.csv", b"question,\nq,a\n", 1, "a column without a name"),
    "csv: same name": ("a.csv", b"question,question\nq,a\n", 1, 'the column "question" twice'),
    "csv: header only": ("a.csv", b"question,answer\n", None, "a header and no rows"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_names_file_line_and_what_was_found(tmp_path, fault):
    name, content, line, words = FAULTS[fault]
    path = tmp_path / name
    path.write_bytes(content)
    message = message_of(path)
    assert words in message
    assert message.startswith(f"{path}:{line}: found " if line else f"{path}: found ")


def test_missing_file_suggests_a_similar_name(tmp_path):
    (tmp_path / "answers.jsonl").write_text(GOOD)
    assert "no such file" in message_of(tmp_path / "anwsers.jsonl")
    assert "there is answers.jsonl" in message_of(tmp_path / "anwsers.jsonl")
    assert "no such file" in message_of(tmp_path / "nowhere" / "rows.jsonl")
    assert "no such file" in message_of(tmp_path / "missing.xlsx")


def test_folder(tmp_path):
    assert "a folder" in message_of(tmp_path)


def test_no_permission_to_read(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_text(GOOD)

    def refuse(self):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "cannot be read (permission denied)" in message_of(path)


def test_rows_know_their_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n" + GOOD + "\n\n" + GOOD)
    assert [row["line"] for row in read_rows(path)] == [2, 5]
    path = tmp_path / "a.json"
    path.write_text(f"[\n\n{GOOD},{GOOD}]")
    assert [row["line"] for row in read_rows(path)] == [1, 2]
    path = tmp_path / "a.csv"
    path.write_text('question,answer\n"two\nlines",a\n\nq,b\n')
    rows = read_rows(path)
    assert [row["line"] for row in rows] == [2, 5]
    assert rows[0]["question"] == "two\nlines"


def test_byte_order_mark_windows_line_ends_and_letter_case_of_the_ending(tmp_path):
    path = tmp_path / "A.JSONL"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode().replace(b"\n", b"\r\n"))
    assert read_rows(path) == [{"question": "q", "answer": "a", "line": 1}]


def test_unusual_line_separators_stay_inside_their_text(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "one\u2028two\x85three", "answer": "a"}\n' + GOOD, encoding="utf-8")
    assert [row["line"] for row in read_rows(path)] == [1, 2]


@pytest.mark.parametrize("comma", [",", ";", "\t"])
def test_csv_separators(tmp_path, comma):
    path = tmp_path / "a.csv"
    path.write_text(f'question{comma}answer\nq{comma}"a, b; c\td"\n')
    assert read_rows(path) == [{"question": "q", "answer": "a, b; c\td", "line": 2}]


KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda key: key != "line")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50)
@given(rows=st.lists(st.dictionaries(KEYS, VALUES, max_size=4), min_size=1, max_size=5))
def test_what_is_written_is_read_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("round_trip")
    write_rows(folder / "a.jsonl", rows)
    assert read_rows(folder / "a.jsonl") == [{**row, "line": n} for n, row in enumerate(rows, start=1)]
    (folder / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    assert read_rows(folder / "a.json") == read_rows(folder / "a.jsonl")


@given(content=st.binary(max_size=60), ending=st.sampled_from([".jsonl", ".json", ".csv"]))
def test_any_bytes_give_rows_or_one_clear_line(tmp_path_factory, content, ending):
    path = tmp_path_factory.mktemp("bytes") / f"a{ending}"
    path.write_bytes(content)
    try:
        assert read_rows(path)
    except UserError:  # and nothing else
        assert message_of(path)


def test_written_text_is_plain_utf8_without_line_numbers(tmp_path):
    write_rows(tmp_path / "a.jsonl", [{"question": "naïve 🙂", "line": 9}])
    assert (tmp_path / "a.jsonl").read_bytes() == '{"question": "naïve 🙂"}\n'.encode()


@pytest.mark.parametrize(
    ("value", "words"),
    [(float("nan"), "not JSON compliant"), ({1, 2}, "not JSON serializable"), ("\ud83d", "surrogates")],
)
def test_a_value_that_json_cannot_hold_leaves_the_old_file(tmp_path, value, words):
    path = tmp_path / "a.jsonl"
    path.write_text(GOOD)
    with pytest.raises(UserError, match=f"a.jsonl:2: found a value that JSON cannot hold .*{words}"):
        write_rows(path, [{"question": "q"}, {"question": value}])
    assert path.read_text() == GOOD
    assert os.listdir(tmp_path) == ["a.jsonl"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    path = tmp_path / "a.jsonl"
    path.write_text(GOOD)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(UserError, match="no space left on device.*nothing was left behind"):
        write_rows(path, [{"question": "new"}])
    assert path.read_text() == GOOD
    assert os.listdir(tmp_path) == ["a.jsonl"]


def test_an_interruption_leaves_nothing(tmp_path):
    def rows():
        yield {"question": "q"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(tmp_path / "a.jsonl", rows())
    assert os.listdir(tmp_path) == []


def test_no_folder_to_write_to(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        write_rows(tmp_path / "missing" / "a.jsonl", [{"question": "q"}])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_rows(tmp_path / "file" / "a.jsonl", [{"question": "q"}])
    with pytest.raises(UserError, match="cannot be written"):
        write_rows(tmp_path, [{"question": "q"}])
    assert os.listdir(tmp_path) == ["file"]
