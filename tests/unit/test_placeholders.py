"""Numbers in prose: placeholders are filled, numbers typed by hand are found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_utils.errors import UserError
from finetune_utils.placeholders import fill_markdown, fill_source, find_typed_numbers, markdown_only
from finetune_utils.results import results_path, update_lesson

TYPED = [
    ("the loss fell to 2.31 nats", "2.31"),
    ("about 34 % lower", "34 %"),
    ("about 34% lower", "34%"),
    ("12 percent of rows", "12 percent"),
    ("is 3.2 x faster", "3.2 x"),
    ("is 8× faster", "8×"),
    ("ran 26 times as fast", "26 times"),
    ("takes 5 s", "5 s"),
    ("takes 14 minutes", "14 minutes"),
    ("a 10-minute run", "10-minute"),
    ("needs 540 MB", "540 MB"),
    ("needs 1,200.5 MiB", "1,200.5 MiB"),
    ("moved by -0.07", "-0.07"),
    ("(0.93)", "0.93"),
    ("at 0.93.", "0.93"),
    ("| 0.36 |", "0.36"),
    ("Python 3.11 or newer", "3.11"),
]
FREE = [
    "the loss fell to {{lesson04.nll_after:.2f}} nats, {{lesson04.gain:.0%}} lower",
    "set `learning_rate=0.0001` and `warmup = 10 %`",
    "```\nloss 2.31\n```",
    "~~~python\nx = 0.5\n~~~",
    "where $p = 0.5$ and so $$\nL = 0.69\n$$",
    "see [the paper](https://arxiv.org/abs/2106.09685) or https://arxiv.org/abs/1706.03762.",
    '<img src="x.png" width="50%" alt="a plot">',
    "a 135M-parameter model with 16-bit weights, SmolLM2-1.7B",
    "a paired 95 % interval, a 95% confidence interval",
    "1. first\n2. second",
    "## 2.1 The data",
    "## 2. The data",
    "Kingma and Ba, arXiv 1412.6980, and arXiv:2106.09685",
    "release 5.23.0 of the library",
    "rows 10 to 20, seasons 2020-21 and 2023-24, about 1,150 rows",
    "five seconds, twice as fast, on 2 cores",
]


@pytest.mark.parametrize(("text", "number"), TYPED)
def test_a_typed_measurement_is_found(text, number):
    assert find_typed_numbers(f"First line.\n{text}") == [(2, number)]


@pytest.mark.parametrize("text", FREE)
def test_what_is_no_measurement_is_left_alone(text):
    assert find_typed_numbers(text) == []


@given(st.text(alphabet="ab01.,%x $`{}[]()#-\n", max_size=60))
def test_the_search_survives_anything_and_stays_inside_the_text(text):
    for line, number in find_typed_numbers(text):
        assert number in text.split("\n")[line - 1]


SOURCE = """\
# ---
# jupyter:
#   course: {minutes: {cpu: 2.5}}
# ---

# %% [markdown]
# # Title
#
# It fell by {{lesson04.gain:.0%}}.

# %%
x = "{{lesson04.gain}}"  # 0.5 s

# %% [markdown]
# Again {{ lesson04.gain }}, and 0.77 by hand.
"""


@pytest.fixture
def root(tmp_path):
    update_lesson(results_path("cpu", tmp_path), "cpu", "lesson04", {"values": {"gain": 0.375}})
    return tmp_path


def test_only_markdown_is_read_and_lines_keep_their_numbers():
    prose = markdown_only(SOURCE)
    assert prose.count("\n") == SOURCE.count("\n")
    assert find_typed_numbers(prose) == [(15, "0.77")]


def test_markdown_cells_are_filled_and_code_is_not(root):
    filled = fill_source(SOURCE, "04.py", root)
    assert "# It fell by 38%.\n" in filled
    assert "# Again 0.375, and" in filled
    assert 'x = "{{lesson04.gain}}"' in filled


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("{{lesson04.gian}}", "Nothing is stored under 'lesson04.gian'"),
        ("{{leson04.gain}}", "'leson04.gain' is no stored value"),
        ("{{lesson04.gain:.2q}}", "Unknown format code .q."),
        ("{{study.none.x}}", "make study"),
    ],
)
def test_a_placeholder_that_cannot_be_filled_names_file_line_and_key(root, bad, told):
    source = SOURCE.replace("{{ lesson04.gain }}", bad)
    with pytest.raises(UserError, match=told) as caught:
        fill_source(source, "notebooks/sources/04.py", root)
    assert str(caught.value).startswith(f"notebooks/sources/04.py:15: placeholder {bad}: ")


def test_missing_numbers_can_be_left_in_place(root):
    told = []
    text = "a {{lesson04.none}} b {{lesson04.gain}}"
    assert fill_markdown(text, "x.md", root, told.append) == "a {{lesson04.none}} b 0.375"
    assert len(told) == 1
    assert "x.md:1" in told[0]


def test_double_braces_in_code_are_left_alone(root):
    text = "A template says `{{ message.content }}`.\n\n```\n{{ bos.token }}\n```\n`{{lesson04.gain}}`"
    assert fill_markdown(text, "x.md", root) == text.replace("{{lesson04.gain}}", "0.375")
