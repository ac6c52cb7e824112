"""Pages with tables in them: README.md's lesson map and results, made from stored runs so that they cannot drift."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .errors import UserError
from .results import ROOT, read_json, results_path, write_text
from .sources import all_lessons, badge, read_source, repository, title_of

BLOCK = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def lesson_map(root: Path = ROOT) -> str:
    """One line a lesson: title, what the stored run took, where to open it."""
    badges = "OWNER" not in repository(root)
    runs = [read_json(results_path(name, root)).get("lessons", {}) for name in ("cpu", "cpu-fp32")]
    lines = [
        "| lesson | minutes on 2 cores (stored run) | checks | without bfloat16, on fewer rows | checks |"
        + (" Colab |" if badges else "")
    ]
    lines.append("|---|---|---|---|---|" + ("---|" if badges else ""))
    for lesson in all_lessons(root):
        title = title_of(read_source(lesson.source), lesson.source).removeprefix("Lesson ")
        line = f"| [{title}](notebooks/{lesson.name}.ipynb) |"
        for entries in runs:
            entry = entries.get(lesson.key, {})
            line += f" {_minutes(entry.get('seconds'))} | {len(entry.get('ranges', {}))} |"
        lines.append(line + (f" {badge(f'notebooks/{lesson.name}.ipynb', root)} |" if badges else ""))
    full, reduced = (_together([entries.get(x.key, {}).get("seconds") for x in all_lessons(root)]) for entries in runs)
    lines.append(f"| together | {full} | | {reduced} | |" + (" |" if badges else ""))
    return "\n".join(lines) + "\n"


def _together(seconds: list[float | None]) -> str:
    """The minutes of all lessons; a sum over some of them would mislead."""
    return _minutes(sum(filter(None, seconds))) if all(seconds) else "not all run"


def _minutes(seconds: float | None) -> str:
    return f"{seconds / 60:.1f}" if seconds else "not run yet"


RESULTS = [
    ("NLL on unseen facts (nats per token)", "lesson04", "unseen_untuned", "unseen_tuned", ".2f"),
    ("NLL on new wordings of trained facts (recall)", "lesson04", "reworded_untuned", "reworded_tuned", ".2f"),
    ("off-topic questions turned back", "lesson04", "redirect_untuned", "redirect_tuned", ".0%"),
    (
        "on-topic questions turned back by mistake",
        "lesson04",
        "wrong_redirect_untuned",
        "wrong_redirect_tuned",
        ".0%",
    ),
]


def results_table(root: Path = ROOT) -> str:
    """Before and after, from the stored cpu run.

    Raises:
        UserError: a figure is not stored.
    """
    lines = ["| what | untuned | tuned |", "|---|---|---|"]
    for what, lesson, before, after, style in RESULTS:
        old, new = _figures(lesson, (before, after), style, root)
        lines.append(f"| {what} | {old} | {new} |")
    return "\n".join(lines) + "\n"


def _figures(lesson: str, names: tuple[str, ...], style: str, root: Path) -> list[str]:
    """Stored values of a lesson as they are printed."""
    values: dict[str, Any] = read_json(results_path("cpu", root)).get("lessons", {}).get(lesson, {}).get("values", {})
    if not set(names) <= set(values):
        raise UserError(f"README.md: {lesson} has no stored {' and '.join(names)}; run `make notebooks` first.")
    return [f"{values[name]:{style}}" for name in names]


# What was asked, the key of how many, the key of the share that was turned back.
REDIRECTS = [
    ("off-topic, to be turned back", "off_topic_questions", "redirect_shifted"),
    ("on-topic, to be answered", "on_topic_questions", "wrong_redirect_shifted"),
    ("only sound like the topic, to be turned back", "near_questions", "near_redirect_shifted"),
    ("on-topic in everyday words, to be answered", "everyday_questions", "everyday_redirect_shifted"),
]


def redirects_table(root: Path = ROOT) -> str:
    """How many of all test questions lesson 04's assistant turned back with its second opinion, from the stored cpu run.

    Raises:
        UserError: a figure is not stored.
    """
    lines = ["| test questions | asked | turned back | 95 % interval |", "|---|---|---|---|"]
    for what, count, share in REDIRECTS:
        asked = _figures("lesson04", (count,), "", root)[0]
        turned_back, low, high = _figures("lesson04", (share, f"{share}_low", f"{share}_high"), ".1%", root)
        lines.append(f"| {what} | {asked} | {turned_back} | {low} to {high} |")
    return "\n".join(lines) + "\n"


# Lesson, what is measured, the baseline's name and key, the key of the fine-tuned model.
AGAINST_BASELINES = [
    (
        "07",
        "Brier score of win probabilities, a season held out (lower is better)",
        "Elo",
        "elo_brier",
        "yes_no_brier",
        ".4f",
    ),
    ("07", "the same", "home rate", "home_rate_brier", "yes_no_brier", ".4f"),
    ("08", "macro-F1 of sentiment on held-out posts", "word counts", "tfidf_f1", "lora_f1", ".2f"),
    ("08", "the same", "frozen features", "frozen_f1", "lora_f1", ".2f"),
    ("09", "ROUGE-L of dialogue summaries", "first two turns", "rouge_l_first_turns", "rouge_l_tuned", ".2f"),
    ("09", "the same", "few-shot", "rouge_l_few_shot", "rouge_l_tuned", ".2f"),
]


def baselines_table(root: Path = ROOT) -> str:
    """What the later lessons reach, each beside a baseline that costs less, from the stored cpu run.

    Raises:
        UserError: a figure is not stored.
    """
    lines = ["| lesson | what | baseline | its score | fine-tuned |", "|---|---|---|---|---|"]
    for number, what, name, before, after, style in AGAINST_BASELINES:
        score, reached = _figures(f"lesson{number}", (before, after), style, root)
        lines.append(f"| {number} | {what} | {name} | {score} | {reached} |")
    return "\n".join(lines) + "\n"


Tables = Mapping[str, Callable[[Path], str]]
README_TABLES: Tables = {
    "lessons": lesson_map,
    "results": results_table,
    "redirects": redirects_table,
    "baselines": baselines_table,
}


def fill_readme(text: str, root: Path = ROOT, tables: Tables = README_TABLES, name: str = "README.md") -> str:
    """Replace what stands between `<!-- begin NAME -->` and `<!-- end NAME -->` by the table of that name.

    Raises:
        UserError: there is no such table; `name` is the page that the message names.
    """

    def fill(match: re.Match[str]) -> str:
        """The markers with today's table between them."""
        if match[2] not in tables:
            raise UserError(f"{name}: unknown table {match[2]!r}; known are {', '.join(tables)}.")
        return match[1] + tables[match[2]](root) + match[3]

    return BLOCK.sub(fill, text)


def build_readme(
    check: bool = False, root: Path = ROOT, tables: Tables = README_TABLES, name: str = "README.md"
) -> list[str]:
    """Fill a page, README.md or another; with `check` only say whether it differs. A missing page is left out."""
    path = root / name
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    new = fill_readme(text, root, tables, name)
    if new == text:
        return []
    if check:
        return [f"{name}: its tables differ from the stored runs (run: python -m finetune_utils build)"]
    write_text(path, new)
    return [name]
