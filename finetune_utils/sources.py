"""Lesson sources: find them, read them, and turn one into a notebook with stable cell ids.

A lesson is `notebooks/sources/NN_name.py` in jupytext's percent format. Its header carries the metadata:

    # ---
    # jupyter:
    #   course:
    #     minutes: {smoke: 1, cpu: 2, gpu: 2}
    #     needs: the model (fetched once)
    #     data: [course_qa.jsonl]
    #   kernelspec: {display_name: Python 3, language: python, name: python3}
    # ---

`data` names the files (or folders) below `data/` that the lesson reads. The first cell is Markdown and
starts with `# Title`. One code cell is tagged `parameters` (`# %% tags=["parameters"]`) and sets PROFILE.
`build` adds minutes, needs, badge and the bootstrap cell after the title, and links at the end.
"""

from __future__ import annotations

import ast
import hashlib
import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError
from .results import ROOT

if TYPE_CHECKING:
    from nbformat import NotebookNode

KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}

# Runs before torch, numpy or pandas are imported and never touches them.
BOOTSTRAP = """\
# Only on Google Colab: fetch the course and the few small packages that Colab lacks.
import importlib.util, os, subprocess, sys
if "COLAB_RELEASE_TAG" in os.environ:
    folder = "/content/{name}"
    if not os.path.isdir(folder):
        subprocess.run(["git", "clone", "--quiet", "--depth=1", "{url}", folder], check=True)
    names = ["gguf", "evaluate", "sacrebleu", "portalocker", "rouge_score"]
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    subprocess.run([*pip, *missing, folder], check=True)
    os.chdir(folder + "/notebooks")
    sys.path.insert(0, folder)"""


@dataclass(frozen=True)
class Lesson:
    """One lesson: its name (`04_training`) and the repository it belongs to."""

    name: str
    root: Path = ROOT

    @property
    def number(self) -> str:
        """The two digits at the start of the name."""
        return self.name[:2]

    @property
    def key(self) -> str:
        """The name under which results are stored: `lesson04`."""
        return f"lesson{self.number}"

    @property
    def source(self) -> Path:
        """What an author edits."""
        return self.root / "notebooks" / "sources" / f"{self.name}.py"

    @property
    def notebook(self) -> Path:
        """What a learner opens."""
        return self.root / "notebooks" / f"{self.name}.ipynb"

    @property
    def exercises(self) -> Path:
        """The source of the exercises, which a lesson may not have yet."""
        return self.root / "notebooks" / "sources" / "exercises" / f"{self.name}.py"

    def text(self) -> str:
        """The source, with Unix line ends."""
        return read_source(self.source)

    def title(self) -> str:
        """The first heading of the source."""
        return title_of(self.text(), self.source)

    def metadata(self) -> dict[str, Any]:
        """The `course` part of the source's header: minutes, needs, data."""
        return course_metadata(self.text(), self.source)

    def hash(self, shrunk: bool = False) -> str:
        """SHA-256 over the code cells and the data they name: stored outputs are valid for this hash only.

        Text between the cells can be improved without running the lesson again. What only a shrunk profile runs
        (see `at_full_size`) counts where `shrunk` is set: it cannot have changed a run at full size.
        """
        cells = (cell.source for cell in _parse(self.text()).cells if cell.cell_type == "code")
        if not shrunk:  # a cell with nothing else in it goes whole
            cells = (at_full_size(cell) for cell in cells if at_full_size(cell).strip() or not cell.strip())
        digest = hashlib.sha256("\0".join(cells).encode())
        for name in self.metadata().get("data") or []:
            path = self.root / "data" / name
            files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            for file in files:
                if not file.is_file():
                    raise UserError.at(self.source, found=f"data: {name}", expected="a file or folder in data/")
                digest.update(b"\0" + file.name.encode() + b"\0")
                digest.update(file.read_bytes().replace(b"\r\n", b"\n"))
        return digest.hexdigest()


def at_full_size(code: str) -> str:
    """A code cell as a run at full size sees it: without its `if profile.shrunk:` blocks.

    Only such blocks are taken out that stand alone, at the cell's own level and with no `else`, and not at the end after
    an expression, whose value Jupyter would no longer show: without them nothing changes where `profile.shrunk` is false.
    """
    if "profile.shrunk" not in code:
        return code
    try:
        body = ast.parse(code).body
    except SyntaxError:  # the run will say so
        return code
    lines = code.split("\n")
    if len(body) > 1 and isinstance(body[-2], ast.Expr):
        body.pop()
    for node in reversed(body):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "profile.shrunk" and not node.orelse:
            del lines[node.lineno - 1 : node.end_lineno]
    return "\n".join(lines)


def all_lessons(root: Path = ROOT) -> list[Lesson]:
    """Every lesson that has a source, in order."""
    sources = sorted((root / "notebooks" / "sources").glob("[0-9][0-9]_*.py"))
    return [Lesson(path.stem, root) for path in sources]


def find_lessons(names: tuple[str, ...] | list[str] = (), root: Path = ROOT) -> list[Lesson]:
    """Return the lessons called `names` (`4`, `04` or `04_training`), in course order; all when empty.

    Raises:
        UserError: there is no such lesson.
    """
    lessons = all_lessons(root)
    wanted = []
    for name in names:
        short = name.strip().removesuffix(".ipynb").removesuffix(".py")
        hits = [x for x in lessons if short in (x.name, x.number, x.number.lstrip("0"))]
        if not hits:
            known = ", ".join(x.name for x in lessons) or "none yet"
            raise UserError(f"There is no lesson {name!r}: choose from {known}.")
        wanted += hits
    return [x for x in lessons if x in wanted] if wanted else lessons


def read_source(path: Path) -> str:
    """Read a source with Unix line ends.

    Raises:
        UserError: there is no such file, or it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError.at(path, found="no such file", expected="a lesson's source") from None
    except UnicodeDecodeError as error:
        raise UserError.at(path, found="bytes that are not UTF-8", do="save it as UTF-8") from error


def title_of(text: str, path: Path) -> str:
    """Return the heading that the first cell of a source must start with."""
    match = re.search(r"^# %%.*$", text, re.MULTILINE)
    start = text[match.start() :] if match else ""
    found = re.match(r"# %% \[markdown\].*\n# # (.+)", start)
    if not found:
        line = text.count("\n", 0, match.start()) + 1 if match else 1
        raise UserError.at(path, line, found="no title", expected="a first cell of Markdown that starts `# Title`")
    return found.group(1).strip()


def course_metadata(text: str, path: Path) -> dict[str, Any]:
    """Return the `course` part of a source's header; its `minutes` must be there."""
    course = dict(_parse(text).metadata.get("course", {}))
    minutes = course.get("minutes")
    if not isinstance(minutes, dict) or not all(isinstance(x, int | float) for x in minutes.values()):
        raise UserError.at(
            path,
            1,
            found="no minutes by profile in the header",
            expected="jupyter: course: minutes: {cpu: 2}",
        )
    return course


def repository(root: Path = ROOT) -> str:
    """The repository's address, from pyproject.toml."""
    content = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return str(content["project"]["urls"]["Repository"]).removesuffix("/").removesuffix(".git")


def bootstrap(root: Path = ROOT) -> str:
    """The code of the bootstrap cell, the same in every notebook."""
    url = repository(root)
    return BOOTSTRAP.format(name=url.rsplit("/", 1)[-1], url=url)


def badge(path: str, root: Path = ROOT) -> str:
    """The Colab badge for the notebook at `path`, or nothing while the repository has no owner."""
    url = repository(root)
    if "OWNER" in url or "github.com/" not in url:
        return ""
    colab = url.replace("github.com/", "colab.research.google.com/github/")
    picture = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open this notebook in Colab]({picture})]({colab}/blob/main/{path})"


def new_cell(kind: str, source: str, cell_id: str, tags: tuple[str, ...] = ()) -> NotebookNode:
    """Make a cell with a given id."""
    from nbformat import v4

    make = v4.new_code_cell if kind == "code" else v4.new_markdown_cell
    cell = make(source, metadata={"tags": list(tags)} if tags else {})
    cell["id"] = cell_id
    return cell


def to_notebook(raw: str, shown: str | None = None) -> NotebookNode:
    """Turn percent-format text into a notebook without outputs.

    Ids come from a hash of each cell of `raw`, so that a changed cell does not renumber the others and
    numbers filled into `shown` (default: `raw`) change no id, nor does what only a shrunk profile runs.
    """
    from nbformat import v4

    counts: dict[str, int] = {}
    cells = []
    for before, after in zip(_parse(raw).cells, _parse(shown or raw).cells, strict=True):
        text = f"{before.cell_type}\n{at_full_size(before.source).strip()}"
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        counts[digest] = counts.get(digest, 0) + 1
        cell_id = digest if counts[digest] == 1 else f"{digest}-{counts[digest]}"
        tags = tuple(after.metadata.get("tags", ()))
        cells.append(new_cell(after.cell_type, after.source.strip("\n"), cell_id, tags))
    return v4.new_notebook(cells=cells, metadata={"kernelspec": dict(KERNELSPEC), "language_info": {"name": "python"}})


def tagged(notebook: NotebookNode, tag: str) -> list[int]:
    """Return the positions of the cells that carry `tag`."""
    return [i for i, cell in enumerate(notebook.cells) if tag in cell.metadata.get("tags", ())]


@lru_cache(maxsize=64)  # only read from, never changed
def _parse(text: str) -> NotebookNode:
    import jupytext
    from yaml import YAMLError

    try:
        return jupytext.reads(text, fmt="py:percent")
    except YAMLError as error:
        title = re.search(r"^# # (.+)", text, re.MULTILINE)
        problem = " ".join(str(error).split())
        raise UserError(f"The header of {title[1] if title else 'a source'!r} is no valid YAML: {problem}") from error
