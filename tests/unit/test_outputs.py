"""Stored outputs: what is kept and what is cleaned away."""

from pathlib import Path

from nbformat import v4

from finetune_utils.outputs import WIDGET, clean_outputs, clean_text, refresh_check, size_problem
from finetune_utils.tables import check_caption, check_rows, table_data


def cleaned(*outputs, root=Path("/srv/clone")):
    notebook = v4.new_notebook(cells=[v4.new_code_cell("1")])
    notebook.cells[0].outputs = list(outputs)
    clean_outputs(notebook, root)
    return notebook.cells[0].outputs


def printed(text, name="stdout"):
    return v4.new_output("stream", name=name, text=text)


def test_printed_pieces_are_joined_and_standard_error_goes():
    outputs = cleaned(printed("one "), printed("warning", "stderr"), printed("two\n"))
    assert [(x.name, x.text) for x in outputs] == [("stdout", "one two\n")]
    assert cleaned(printed("only noise", "stderr")) == []


def test_a_progress_bar_leaves_its_last_state_only():
    assert clean_text("  1%|#\r 50%|##\r100%|###\nend\r\nnext", Path("/x")) == "100%|###\nend\nnext"
    assert clean_text("\x1b[31mred\x1b[0m", Path("/x")) == "red"


def test_machine_paths_become_short(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))
    text = "from /srv/clone/data/a.jsonl and /home/ada/.cache/x, not /srv/clone-2 or /home/adam"
    assert clean_text(text, Path("/srv/clone")) == "from ./data/a.jsonl and ~/.cache/x, not /srv/clone-2 or /home/adam"


def test_widgets_go_and_figures_keep_their_alt_text():
    figure = v4.new_output(
        "display_data",
        {"image/png": "aGk=\n", "text/plain": "<Figure>"},
        metadata={
            "image/png": {"alt": "Loss falls from left to right.", "width": 640},
            "needs_background": "light",
        },
    )
    widget = v4.new_output("display_data", {WIDGET: {"model_id": "7"}, "text/plain": "IntSlider()"})
    (kept,) = cleaned(widget, figure)
    assert kept.metadata == {"image/png": {"alt": "Loss falls from left to right."}}
    assert kept.data["image/png"] == "aGk="


def test_a_large_notebook_is_reported(tmp_path):
    path = tmp_path / "04_big.ipynb"
    path.write_bytes(b"x" * 300_000)
    assert size_problem(path) == []
    path.write_bytes(b"x" * 301_000)
    assert size_problem(path) == ["04_big.ipynb has 301 kB, more than 300: make its figures smaller"]


def test_a_stored_check_names_the_ranges_that_were_made_after_its_run():
    def table(ranges):
        rows = check_rows({"loss": 2.5, "same_text": True}, ranges)
        return table_data(rows, caption=check_caption("lesson04", "cpu"))

    cell = v4.new_code_cell("course.check_run(...)")
    other = {"text/plain": "Check your run: lesson05, profile cpu"}
    cell.outputs = [v4.new_output("display_data", data=data) for data in (table({}), other)]
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell("Check."), cell])
    assert "no reference yet" in cell.outputs[0].data["text/plain"]
    entry = {"values": {"loss": 2.5, "same_text": True}, "ranges": {"loss": [2.25, 2.75], "same_text": [1.0, 1.0]}}
    refresh_check(notebook, "lesson04", "cpu", entry)
    assert "2.25 to 2.75" in cell.outputs[0].data["text/plain"]
    assert "2.25 to 2.75" in cell.outputs[0].data["text/html"]
    assert "no reference yet" not in cell.outputs[0].data["text/plain"]
    assert cell.outputs[1].data == other
