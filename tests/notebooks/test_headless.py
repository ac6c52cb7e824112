"""Running and storing lessons with the real papermill, on a made-up course."""

import os
from concurrent.futures import Future

import nbformat
import pytest
from toy_course import FIRST, SECOND, make_course

from finetune_utils import course, hardware, headless, notebooks, storing
from finetune_utils.errors import UserError
from finetune_utils.profiles import PROFILES, shrink_for_slow_cpu
from finetune_utils.results import read_json, results_path, save_ranges
from finetune_utils.sources import Lesson, all_lessons, to_notebook
from finetune_utils.storing import store


@pytest.fixture
def root(tmp_path):
    make_course(tmp_path / "toy {root}")  # papermill formats paths: braces must survive
    return tmp_path / "toy {root}"


@pytest.fixture(autouse=True)
def bfloat16(monkeypatch):
    """The same tests on every machine: `cpu` has its full size here."""
    monkeypatch.setattr(course, "profile_here", PROFILES.__getitem__)
    monkeypatch.delenv("FINETUNE_SEED", raising=False)
    monkeypatch.delenv("FINETUNE_REPEAT", raising=False)
    monkeypatch.delenv("FINETUNE_MODEL", raising=False)


def code_cells(path):
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


def test_store_run_and_store_again(root, capsys):
    """The whole round: nothing stored, stored, unchanged, changed."""
    assert store(root=root)
    first, second = all_lessons(root)
    assert notebooks.build(check=True, root=root) == []
    assert [c.execution_count for c in code_cells(first.notebook)] == [1, 2, 3, 4, 5, 6]
    texts = [out.get("text") for cell in code_cells(first.notebook) for out in cell.outputs]
    assert texts == ["profile cpu\n", None, None, "saved below ./notebooks\n"]
    written = first.notebook.read_text(encoding="utf-8")
    assert "papermill" not in written
    assert "noise" in written
    assert "noise\\n" not in written
    assert "The stored mean is 8.00 over 2 rows" in written
    lessons = read_json(results_path("cpu", root))["lessons"]
    assert lessons["lesson01"]["values"] == {"mean": 8.0}
    assert lessons["lesson01"]["seconds"] > 0
    assert "checks" not in lessons["lesson01"]

    capsys.readouterr()
    assert store(root=root)
    assert capsys.readouterr().out == "0 lessons run, 2 built.\n"

    save_ranges("cpu", "lesson01", {"mean": (7.5, 8.5)}, root)
    second.source.write_text(SECOND.replace('"second"', '"changed"'), encoding="utf-8")
    (root / "data" / "toy.jsonl").write_text('{"n": 4}\n', encoding="utf-8")
    assert store(["2"], root=root)
    assert "changed" in second.notebook.read_text()
    assert notebooks.state(first) == "not run"
    assert store(root=root)
    lesson01 = read_json(results_path("cpu", root))["lessons"]["lesson01"]
    assert lesson01["values"] == {"mean": 4.0}
    assert "ranges" not in lesson01  # they were of another source
    assert "its ranges were of an older source (renew them: make ranges LESSON=01)" in capsys.readouterr().out
    assert notebooks.build(check=True, root=root) == []


def test_another_profile_stores_results_and_no_outputs(root):
    assert store(["1"], profile="cpu", root=root)
    before = (root / "notebooks" / "01_toy.ipynb").read_bytes()
    assert store(["1"], profile="smoke", root=root)
    assert (root / "notebooks" / "01_toy.ipynb").read_bytes() == before
    assert read_json(results_path("smoke", root))["lessons"]["lesson01"]["values"] == {"mean": 8.0}


def test_a_cpu_without_bfloat16_stores_a_reference_of_its_own(root, capsys, monkeypatch):
    def values(profile):
        return read_json(results_path(profile, root))["lessons"]

    assert store(root=root)
    before = (root / "notebooks" / "01_toy.ipynb").read_bytes()
    with monkeypatch.context() as slow:
        slow.setattr(course, "profile_here", lambda name: shrink_for_slow_cpu(PROFILES[name]))
        slow.setenv("FINETUNE_SEED", "1")
        assert not store(["1"], root=root)  # a repeat of nothing
        assert "there is none" in capsys.readouterr().out
        slow.delenv("FINETUNE_SEED")
        assert store(root=root)
        assert "This CPU has no bfloat16" in capsys.readouterr().out
        assert store(root=root)
        assert capsys.readouterr().out == "0 lessons run, 2 built.\n"
        slow.setenv("FINETUNE_SEED", "03")
        assert store(["1"], root=root)
    assert (root / "notebooks" / "01_toy.ipynb").read_bytes() == before
    assert values("cpu-fp32")["lesson01"]["values"] == {"mean": 8.0}
    assert values("cpu-fp32")["lesson01"]["repeats"] == {"3": {"mean": 8.0}}
    assert "repeats" not in values("cpu")["lesson01"]

    (root / "data" / "toy.jsonl").write_text('{"n": 4}\n', encoding="utf-8")
    assert store(root=root)
    assert "is dropped" in capsys.readouterr().out
    assert list(values("cpu-fp32")) == ["lesson02"]
    assert values("cpu")["lesson01"]["values"] == {"mean": 4.0}
    assert {entry["profile"] for entry in values("cpu-fp32").values()} == {"cpu-fp32"}


def test_a_repeat_on_another_machine_widens_the_ranges_and_leaves_the_stored_run(root, monkeypatch):
    assert store(["1"], root=root)
    path, notebook = results_path("cpu", root), root / "notebooks" / "01_toy.ipynb"
    entry, before = read_json(path)["lessons"]["lesson01"], notebook.read_bytes()
    monkeypatch.setenv("FINETUNE_REPEAT", "amd-zen4")
    assert store(["1"], root=root)
    assert read_json(path)["lessons"]["lesson01"] == {**entry, "repeats": {"amd-zen4": {"mean": 8.0}}}
    assert notebook.read_bytes() == before


def test_a_repeat_of_another_source_is_refused(root, capsys, monkeypatch):
    assert store(["1"], root=root)
    (root / "data" / "toy.jsonl").write_text('{"n": 4}\n', encoding="utf-8")
    monkeypatch.setenv("FINETUNE_SEED", "2")
    assert not store(["1"], root=root)
    told = capsys.readouterr().out
    assert "01_toy: a repeat (2) is of the stored cpu run of today's source, and there is none" in told
    assert "0 lessons run" in told
    assert "repeats" not in read_json(results_path("cpu", root))["lessons"]["lesson01"]


def test_a_source_that_changes_while_it_runs_is_not_stored(root, capsys, monkeypatch):
    assert store(root=root)
    before = results_path("cpu", root).read_bytes()

    def editing(lesson):
        notebook = notebooks.fresh_notebook(lesson)
        lesson.source.write_text(lesson.source.read_text(encoding="utf-8") + "\n# %%\n7\n", encoding="utf-8")
        return notebook

    monkeypatch.setattr(storing, "fresh_notebook", editing)
    assert not store(["2"], root=root, force=True)
    assert "02_second: its source or data changed while it ran; store it again" in capsys.readouterr().out
    assert results_path("cpu", root).read_bytes() == before


def test_each_lesson_is_stored_as_soon_as_it_is_through(root, monkeypatch):
    seen, run_one = [], headless.run_one

    def watched(lesson, *task):
        seen.append(sorted(read_json(results_path("cpu", root)).get("lessons", {})))
        return run_one(lesson, *task)

    monkeypatch.setattr(headless, "run_one", watched)
    assert store(root=root)
    assert seen == [[], ["lesson01"]]


def test_another_model_or_device_is_not_stored_as_the_course_s_own(root, monkeypatch):
    with monkeypatch.context() as other:
        other.setenv("FINETUNE_MODEL", "tiny")
        with pytest.raises(UserError, match="FINETUNE_MODEL is 'tiny'"):
            store(["1"], root=root)
    here = hardware.describe()
    monkeypatch.setattr(hardware, "describe", lambda: {**here, "device": "cuda"})
    with pytest.raises(UserError, match="made on a CPU, and this would run on cuda"):
        store(["1"], root=root)
    assert not results_path("cpu", root).exists()


FAILURES = {
    "raises": (
        "mean = sum(",
        "mean = 1 / 0 + sum(",
        "cell [4] `rows = [json.loads(line)",
        "ZeroDivisionError",
    ),
    "exits quietly": (
        'print("noise", file=sys.stderr)',
        "sys.exit(0)",
        "kernel ended before the last cell",
        "",
    ),
    "kernel dies": ('print("noise", file=sys.stderr)', "os._exit(1)", "the kernel died", ""),
    "check fails": (
        'print("saved below"',
        'raise AssertionError("lesson01: mean is 8, expected 9 to 10")\nprint("saved below"',
        "AssertionError: lesson01: mean is 8, expected 9 to 10",
        "",
    ),
    "no parameters": ('# %% tags=["parameters"]', "# %%", "0 cells tagged parameters", ""),
}


def test_two_lessons_at_a_time_give_what_one_after_the_other_gives(root, capfd):
    lessons = all_lessons(root)
    threads = to_notebook(
        SECOND.replace('print("second")', 'import os\nprint("threads", os.environ["OMP_NUM_THREADS"])')
    )
    source_of = {lessons[0]: to_notebook(FIRST), lessons[1]: threads}
    output = root / "build" / "out"
    first, second = headless.run_all(lessons, "smoke", output, source_of.get, jobs=2)
    assert first.ok
    assert (first.passed, first.total) == (1, 1)
    assert second.ok
    told = capfd.readouterr().out
    assert "[1/2] 01_toy ok after " in told
    assert told.splitlines()[-1].startswith("2 of 2 lessons ok in ")
    results = read_json(output / "results" / "smoke.json")["lessons"]
    assert results["lesson01"]["values"] == {"mean": 8.0}
    assert results["lesson02"]["seconds"] > 0
    assert [path.name for path in (output / "results").iterdir()] == ["smoke.json"]
    printed = [out.text for cell in code_cells(second.executed) for out in cell.outputs]
    assert printed == [f"threads {max((os.cpu_count() or 1) // 2, 1)}\n"]


def test_of_two_lessons_at_a_time_the_longest_start_first_and_results_keep_their_order(root, monkeypatch):
    started = []

    class Pool:
        def __init__(self, jobs, mp_context):
            pass

        def submit(self, work, lesson, *rest):
            started.append(lesson.name)
            future = Future()
            future.set_result(headless.Outcome(lesson, root / f"{lesson.name}.ipynb", 1.0, 0, 0))
            return future

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(headless, "ProcessPoolExecutor", Pool)
    lessons = [Lesson(f"{number:02}_toy", root) for number in range(1, 6)]
    for lesson, minutes in zip(lessons, (0.5, 2, 0.5, 3, 1), strict=True):
        lesson.source.write_text(FIRST.replace("smoke: 1", f"smoke: {minutes}"), encoding="utf-8")
    outcomes = headless.run_all(lessons, "smoke", root / "build" / "out", jobs=2)
    assert started == ["04_toy", "02_toy", "05_toy", "01_toy", "03_toy"]
    assert [outcome.lesson for outcome in outcomes] == lessons


def test_a_failure_beside_another_lesson_is_told(root, capfd):
    lessons = all_lessons(root)
    broken = to_notebook(FIRST.replace("mean = sum(", "mean = 1 / 0 + sum("))
    source_of = {lessons[0]: broken, lessons[1]: to_notebook(SECOND)}
    first, second = headless.run_all(lessons, "smoke", root / "build" / "out", source_of.get, jobs=2)
    assert "ZeroDivisionError" in first.error
    assert second.ok
    assert "[1/2] 01_toy FAILED after " in capfd.readouterr().out


@pytest.mark.parametrize("what", FAILURES)
def test_a_failing_lesson_is_told_and_the_next_one_runs(root, capsys, what):
    old, new, *told = FAILURES[what]
    assert old in FIRST
    lessons = all_lessons(root)
    broken = to_notebook(FIRST.replace(old, new))
    source_of = {lessons[0]: broken, lessons[1]: to_notebook(SECOND)}
    first, second = headless.run_all(lessons, "smoke", root / "build" / "out", source_of.get)
    assert not first.ok
    assert second.ok
    output = capsys.readouterr().out
    assert all(part in output for part in told)
    assert "[1/2] 01_toy ...\n[1/2] 01_toy FAILED after " in output
    assert "[2/2] 02_second ok after " in output
    table = output.splitlines()[-4:]
    assert table[0].split() == ["lesson", "seconds", "checks", "ok"]
    assert table[1].split()[-1] == "NO"
    assert table[2].split()[-2:] == ["none", "yes"]
    assert table[3].startswith("1 of 2 lessons ok")


def test_a_cell_that_takes_too_long_is_stopped(root):
    lesson = all_lessons(root)[1]
    slow = to_notebook(SECOND.replace('print("second")', "import time; time.sleep(60)"))
    with pytest.raises(headless.LessonFailed, match="longer than 2 s"):
        headless.execute(lesson, "smoke", root / "build", slow, timeout=2)


def test_a_failed_lesson_is_not_stored(root):
    (root / "notebooks" / "sources" / "01_toy.py").write_text(FIRST.replace("mean = ", "mean = 1 / 0 + "))
    (root / "data" / "toy.jsonl").write_text('{"n": 7}\n', encoding="utf-8")
    source = root / "notebooks" / "sources" / "01_toy.py"
    source.write_text(source.read_text().replace("{{lesson01.mean:.2f}}", "unknown"), encoding="utf-8")
    assert not store(root=root)
    first, second = all_lessons(root)
    assert notebooks.state(first) == "not run"
    assert notebooks.state(second) == ""
    assert "lesson01" not in read_json(results_path("cpu", root))["lessons"]


def test_a_run_uses_what_the_learner_opens_and_leaves_no_trace(root, capsys, monkeypatch):
    monkeypatch.setenv("FINETUNE_RESULTS", "sentinel")
    store(root=root)
    lesson = all_lessons(root)[1]
    edited = lesson.notebook.read_text().replace('print(\\"second\\")', 'print(\\"edited by a learner\\")')
    lesson.notebook.write_text(edited, encoding="utf-8")
    before = {p: p.read_bytes() for p in (root / "notebooks").rglob("*") if p.is_file()}
    assert notebooks.run_lessons(["02"], "smoke", root / "elsewhere", root)
    assert "note: 02_second.ipynb differs from its source" in capsys.readouterr().out
    printed = [out.text for cell in code_cells(root / "elsewhere" / "02_second.ipynb") for out in cell.outputs]
    assert printed == ["edited by a learner\n"]
    assert {p: p.read_bytes() for p in (root / "notebooks").rglob("*") if p.is_file()} == before
    assert os.environ["FINETUNE_RESULTS"] == "sentinel"
    assert "FINETUNE_UNDER_RUN" not in os.environ


def test_old_results_are_not_counted_again(root):
    output = root / "build" / "out"
    lesson = all_lessons(root)[0]
    assert headless.run_one(lesson, "smoke", output, to_notebook(FIRST)).total == 1
    early = FIRST.replace("results = Path", "1 / 0\nresults = Path")
    outcome = headless.run_one(lesson, "smoke", output, to_notebook(early))
    assert (outcome.passed, outcome.total, outcome.ok) == (0, 0, False)
