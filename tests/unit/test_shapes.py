"""Which shapes are recognized, what normalized rows look like, and every fault with its line."""

import json

import pytest

from finetune_utils.data import load_table
from finetune_utils.errors import UserError
from finetune_utils.shapes import describe, normalize, recognize


def chat(*turns: str) -> list[dict[str, str]]:
    """Messages from `u:...`, `a:...`, `s:...`."""
    roles = {"u": "user", "a": "assistant", "s": "system"}
    return [{"role": roles[turn[0]], "content": turn[2:]} for turn in turns]


SHAPES = {
    "question/answer": {"question": "q", "answer": "a"},
    "instruction/output": {"instruction": "q", "output": "a"},
    "instruction/response": {"instruction": "q", "response": "a"},
    "input/output": {"input": "q", "output": "a"},
    "prompt/completion": {"prompt": "q", "completion": "a"},
}


@pytest.mark.parametrize("name", SHAPES)
def test_pairs_become_question_and_answer(name):
    table = normalize([SHAPES[name]])
    assert (table.kind, table.shape.name) == ("qa", name)
    assert table.rows[0].items() >= {"question": "q", "answer": "a", "line": 1}.items()


def test_messages_and_text_keep_their_own_form():
    table = normalize([{"messages": chat("s:be kind", "u:q", "a: a \n", "u:more", "a:b")}])
    assert table.kind == "messages"
    assert table.rows == [{"messages": chat("s:be kind", "u:q", "a:a", "u:more", "a:b"), "line": 1}]
    table = normalize([{"text": " once upon a time\n"}])
    assert (table.kind, table.rows) == ("text", [{"text": " once upon a time\n", "line": 1}])


def test_column_names_may_vary_in_case_and_spaces():
    table = normalize([{" Question": "q", "ANSWER ": "a"}, {"question": "r", "answer": "b"}])
    assert [(row["question"], row["answer"]) for row in table.rows] == [("q", "a"), ("r", "b")]
    assert describe(table) == "2 rows of question/answer (from columns Question, ANSWER)"


def test_instruction_and_input_are_joined_and_kept():
    rows = [
        {"instruction": "Add.", "input": "2 and 3", "output": " 5 "},
        {"instruction": "Say hello.", "output": "Hello."},
        {"instruction": "Say bye.", "input": None, "output": "Bye."},
        {"instruction": "Wave.", "input": " \n", "output": "o/"},
    ]
    table = normalize(rows)
    assert table.rows[0] == {
        "question": "Add.\n\n2 and 3",
        "instruction": "Add.",
        "input": "2 and 3",
        "answer": "5",
        "line": 1,
    }
    assert [row["input"] for row in table.rows[1:]] == ["", "", ""]
    assert [row["question"] for row in table.rows[1:]] == ["Say hello.", "Say bye.", "Wave."]
    assert describe(table) == "4 rows of question/answer (from columns instruction, input, output)"


def test_other_columns_are_kept_unless_their_name_means_something():
    row = {"question": "q", "answer": "a", "id": 7, "Fact": "f", "text": "q a", "input": "x", "line": 12}
    assert normalize([row]).rows == [{"question": "q", "answer": "a", "id": 7, "Fact": "f", "line": 12}]


def test_the_first_shape_that_fits_is_taken():
    row = {"instruction": "i", "input": "", "output": "o", "text": "all of it"}
    assert recognize([row]).name == "instruction/output"
    assert recognize([{"prompt": "p", "messages": chat("u:q", "a:a")}]).name == "messages"


def test_describe_counts_in_plain_words():
    assert describe(normalize([{"text": "t"}])) == "1 row of text (from column text)"
    assert describe(normalize([{"Prompt": "p", "Completion": "c"}] * 1400)) == (
        "1,400 rows of question/answer (from columns Prompt, Completion)"
    )


GOOD = {"question": "q", "answer": "a"}
TALK = {"messages": chat("u:q", "a:a")}
# the rows, the line named, words of the message
FAULTS = {
    "no columns": ([{}], 1, "the columns no columns; expected one of question/answer, instruction/output"),
    "unknown columns": ([{"frage": "q", "antwort": "a"}], 1, "the columns frage, antwort; expected one of"),
    "half a pair": ([{"question": "q"}], 1, "the columns question; expected one of"),
    "two columns alike": ([GOOD, {"Answer": "b", "answer": "a", "question": "q"}], 2, 'that read "answer"'),
    "missing field": (
        [GOOD, GOOD, {"question": "q"}],
        3,
        'no "answer"; expected question/answer as in line 1',
    ),
    "mixed": ([GOOD, {"prompt": "q", "completion": "a"}], 2, "prompt/completion; expected question/answer"),
    "mixed with text": ([GOOD, {"text": "q"}], 2, "found text; expected question/answer as in line 1"),
    "empty": ([GOOD, {"question": "q", "answer": ""}], 2, 'an empty "answer"'),
    "blank": ([GOOD, {"question": " \n\t", "answer": "a"}], 2, 'only blanks in "question"'),
    "number": (
        [GOOD, {"question": "q", "answer": 42}],
        2,
        'a number in "answer"; expected text; write it as text',
    ),
    "null": ([GOOD, {"question": None, "answer": "a"}], 2, 'null in "question"'),
    "list": ([GOOD, {"question": ["q"], "answer": "a"}], 2, 'a list in "question"'),
    "object": ([GOOD, {"question": "q", "answer": {}}], 2, 'an object in "answer"'),
    "true": ([GOOD, {"question": "q", "answer": True}], 2, 'true or false in "answer"'),
    "input of another kind": ([{"instruction": "i", "input": 3, "output": "o"}], 1, 'a number in "input"'),
    "empty text": ([{"text": "t"}, {"text": ""}], 2, 'an empty "text"'),
    "messages: text": ([TALK, {"messages": "hello"}], 2, 'text in "messages"; expected a list of'),
    "messages: empty": ([TALK, {"messages": []}], 2, 'an empty list in "messages"'),
    "messages: no object": ([{"messages": ["hi"]}], 1, "message 1 that is text"),
    "messages: other keys": ([{"messages": [{"from": "human", "value": "q"}]}], 1, "message 1 without role"),
    "messages: no content": ([{"messages": [{"role": "user"}]}], 1, "message 1 without content"),
    "messages: role": (
        [{"messages": [{"role": "human", "content": "q"}]}],
        1,
        "message 1 with role 'human'; expected system or user",
    ),
    "messages: twice": (
        [{"messages": chat("u:q", "u:r", "a:a")}],
        1,
        "message 2 with role 'user'; expected assistant",
    ),
    "messages: starts wrong": (
        [{"messages": chat("a:hello", "u:q", "a:a")}],
        1,
        "message 1 with role 'assistant'",
    ),
    "messages: late system": ([{"messages": chat("u:q", "s:x", "a:a")}], 1, "message 2 with role 'system'"),
    "messages: no question": (
        [{"messages": chat("s:x", "a:a")}],
        1,
        "message 2 with role 'assistant'; expected user",
    ),
    "messages: no answer": ([{"messages": chat("u:q")}], 1, "message 1, the last one, from the user"),
    "messages: empty content": (
        [{"messages": chat("u:q", "a: ")}],
        1,
        'only blanks in "content of message 2"',
    ),
    "messages: parts": ([{"messages": [{"role": "user", "content": [{"text": "q"}]}]}], 1, "a list in"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_names_file_and_line(tmp_path, fault):
    rows, line, words = FAULTS[fault]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError) as caught:
        load_table(path)
    assert str(caught.value).startswith(f"{path}:{line}: found ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_from_memory_are_counted():
    with pytest.raises(UserError, match="^rows:2: found null"):
        normalize([GOOD, {"question": "q", "answer": None}])
    with pytest.raises(UserError, match="^rows: found no rows"):
        normalize([])


def test_a_csv_brings_the_same_rows(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text('Instruction,Input,Output\nAdd.,"2, 3",5\nWave.,,o/\n')
    table = load_table(path)
    assert [row["question"] for row in table.rows] == ["Add.\n\n2, 3", "Wave."]
    assert [row["line"] for row in table.rows] == [2, 3]
