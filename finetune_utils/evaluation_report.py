"""The report of the command `evaluate`: what both models answered, how it scores, what went wrong, as text or JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .comparison import Line, Marks, compare, format_lines, mark_answers
from .data import fold
from .error_categories import CATEGORIES, count_errors
from .evaluation import mean_difference
from .files import Row
from .run_record import answer_of, question_of, reference_of
from .scores import Encode

SHOWN = 3
RULES_NOTE = "Plain rules look for errors; an answer may have several, and none found does not mean that it is right."


def answer_part(
    texts: Mapping[str, Sequence[str | None]],
    asked: Sequence[Row],
    known: Iterable[str] = frozenset(),
    encode: Encode | None = None,
) -> dict[str, Any]:
    """Score the answers of one or two models to the same rows.

    Args:
        texts: `tuned`, and `untuned` when there is such a model -> their answers, one a row (None: no answer came).
        asked: normalized rows with a question.
        known: words spelled right; `encode`: sentence encoder, or None to leave the similarity out.

    Returns:
        `exact_match_*` of each model with the interval of the change; `scores` of each model; `errors`, how many answers of each
        model are in each category; `measures`, the lines of the comparison; `failures`, one answer of the tuned
        model for each kind of error, with the reason; `examples` to read.
    """
    exact = [answer_of(row) for row in asked]
    references = [reference_of(row) for row in asked]
    questions = [question_of(row) for row in asked]
    hits = {
        name: [float(fold(text or "") == wanted) for text, wanted in zip(given, exact, strict=True)]
        for name, given in texts.items()
    }
    part: dict[str, Any] = {"rows": len(asked)}
    part |= {f"exact_match_{name}": sum(values) / len(values) for name, values in hits.items()}
    if len(hits) == 2 and len(set(exact)) > 1:
        change = mean_difference(hits["untuned"], hits["tuned"], exact)
        part |= {"exact_match_change_low": change.low, "exact_match_change_high": change.high}
    marks = {name: mark_answers(questions, given, references, known, encode) for name, given in texts.items()}
    part["scores"] = {name: _means(found) for name, found in marks.items()}
    part["errors"] = {name: count_errors(found.findings) for name, found in marks.items()}
    if len(marks) == 2:
        part["measures"] = [line.as_dict() for line in compare(marks["untuned"], marks["tuned"], references, exact)]
    part["failures"] = _failures(marks["tuned"], questions, references)
    part["examples"] = [
        {"question": questions[i], "reference": references[i]} | {name: given[i] or "" for name, given in texts.items()}
        for i in range(min(SHOWN, len(asked)))
    ]
    return part


def _means(marks: Marks) -> dict[str, float]:
    found = {"rouge_l": marks.rouge_l, "similarity": marks.similarity, "redirects": marks.redirects}
    return {name: float(np.mean(values)) for name, values in found.items() if values is not None}


def _failures(marks: Marks, questions: Sequence[str], references: Sequence[str]) -> list[dict[str, str]]:
    """The first answer of each category, in the order of the categories."""
    first: dict[str, dict[str, str]] = {}
    for i, row in enumerate(marks.findings):
        for finding in row:
            shown = {"question": questions[i], "reference": references[i], "tuned": marks.answers[i] or ""}
            first.setdefault(finding.category, {"category": finding.category, "reason": finding.reason} | shown)
    return [first[name] for name in CATEGORIES if name in first]


def format_evaluation(report: dict[str, Any]) -> str:
    """The report as text for a person."""
    lines = [f"{report['rows']:,} rows of {report['data']}, template {report['template']}."]
    if report["training_known"]:
        lines.append(f"{report['seen_rows']:,} of them were trained on; they are scored apart.")
    else:
        lines.append("This model has no run.json: which rows it was trained on is not known.")
    unseen = "Rows not trained on" if report["training_known"] else "All rows"
    for part, title in (("unseen", unseen), ("seen", "Rows trained on (recall, not skill)")):
        if part in report:
            lines += [f"\n{title}: {report[part]['rows']:,}", *_format_nll(report[part])]
    if "answers" in report:
        lines += _format_answers(report["answers"])
    return "\n".join(lines)


def _format_nll(values: dict[str, Any]) -> list[str]:
    if "nll_untuned" not in values:
        return [f"  NLL per token, nats: {values['nll_tuned']:.3f} (no untuned model to compare with)"]
    lines = [f"  NLL per token, nats: untuned {values['nll_untuned']:.3f}, tuned {values['nll_tuned']:.3f}"]
    if "nll_change" in values:
        low, high = values["nll_change_low"], values["nll_change_high"]
        lines.append(f"  change {values['nll_change']:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}")
    return lines


def _format_answers(values: dict[str, Any]) -> list[str]:
    rows = values["rows"]
    names = [name for name in ("untuned", "tuned") if f"exact_match_{name}" in values]
    scores = ", ".join(f"{name} {values[f'exact_match_{name}']:.0%}" for name in names)
    lines = [f"\nExact match on {rows} unseen questions: {scores}"]
    if values.get("measures"):
        shown = [Line.from_dict(line) for line in values["measures"]]
        shown = [line for line in shown if line.before or line.after or line.name in ("exact match", "ROUGE-L")]
        lines += ["", format_lines(shown)]
        rouge = next(line for line in shown if line.name == "ROUGE-L")
        if np.isfinite(rouge.detectable):
            lines.append(f"Rows like these show a change of {rouge.detectable:.3f} in ROUGE-L four times in five.")
    elif "scores" in values:
        lines.append("  " + ", ".join(f"{name} {value:.3f}" for name, value in values["scores"]["tuned"].items()))
    if "errors" in values:
        lines += ["", *_format_errors(values, rows)]
    return lines + ["\nAnswers to read:"] + [format_example(example) for example in values["examples"]]


def _format_errors(values: dict[str, Any], rows: int) -> list[str]:
    lines = []
    for name, counts in values["errors"].items():
        found = ", ".join(f"{category} {count}" for category, count in counts.items() if count and category != "any")
        lines.append(f"Answers with errors, {name}: {counts['any']} of {rows}" + (f" ({found})" if found else ""))
    lines.append(RULES_NOTE)
    if values["failures"]:
        lines.append("\nThe tuned model's first answer of each kind of error:")
        lines += [f"\n  {f['category']}: {f['reason']}{format_example(f)}" for f in values["failures"]]
    return lines


def format_example(example: dict[str, str]) -> str:
    """One question with its answers, a line each; an answer without a word is said to be so."""
    names = ("question", "reference", "untuned", "tuned", "before", "after")
    return "\n" + "\n".join(
        f"  {name.capitalize():<10}{example[name] or '(nothing)'}" for name in names if name in example
    )
