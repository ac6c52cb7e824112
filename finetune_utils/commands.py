"""What the commands `evaluate` and `generate` do with a model and a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import hardware
from .data import describe, fold, load_table, read_rows, write_rows
from .errors import UserError
from .evaluation import mean_difference, nll_difference
from .files import Row
from .generation import fast_copy, generate
from .models import ADAPTER_CONFIG, base_of_adapter, load_model, load_tokenizer
from .nll import NLL, token_nll
from .prompts import default_template, render_prompt
from .run_record import RunRecord, answer_of, question_of, read_record, reference_of, row_hash
from .shapes import question_in
from .tokenization import tokenize_rows

SHOWN = 3


def evaluate_file(
    data: str | Path,
    model: str,
    max_new_tokens: int = 64,
    answers: int = 64,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Compare a tuned model with its untuned one on a file, rows seen in training apart from unseen ones.

    Args:
        answers: how many unseen questions both models answer, for exact match and for the examples.

    Returns:
        A dict that can be written as JSON: counts, and for `unseen` and `seen` rows the NLL of both models with
        the paired difference; exact match; a few answers to read.

    Raises:
        UserError: anything wrong with the file or the model.
    """
    hardware.quiet()
    table = load_table(data)
    record = read_record(Path(model))
    tokenizer = load_tokenizer(model, say)
    template = record.template if record else default_template(tokenizer)
    tokenized = tokenize_rows(table.rows, tokenizer, template, record.max_length if record else 512, str(data))
    say(f"Recognized {describe(table)}.")
    for note in tokenized.notes:
        say(f"Note: {note}")
    seen = set(record.train_rows) if record else set()
    is_seen = [row_hash(row) in seen for row in table.rows]
    untuned = _untuned_name(model, record)
    report: dict[str, Any] = {"data": Path(data).name, "model": model, "untuned": untuned, "template": template}
    report |= {"rows": len(table.rows), "seen_rows": sum(is_seen), "training_known": bool(seen)}
    asked = [row for row, known in zip(table.rows, is_seen, strict=True) if not known and question_of(row)][:answers]
    prompts = [render_prompt(row, tokenizer, template) for row in asked]
    scores: dict[str, NLL] = {}
    texts: dict[str, list[str]] = {}
    for name, source in {"untuned": untuned, "tuned": model}.items():
        if source is not None:
            loaded, _ = load_model(source, say=say)
            scores[name] = token_nll(loaded, tokenized.examples, tokenizer, progress=None)
            texts[name] = generate(fast_copy(loaded), tokenizer, prompts, max_new_tokens, progress=None)
            del loaded
    for part, wanted in (("unseen", False), ("seen", True)):
        chosen = [i for i, known in enumerate(is_seen) if known is wanted]
        if chosen:
            report[part] = _nll_part(scores, chosen, [answer_of(table.rows[i]) for i in chosen])
    if asked:
        report["answers"] = _answer_part(texts, asked)
    return report


def _untuned_name(model: str, record: RunRecord | None) -> str | None:
    if record is not None:
        return record.model
    folder = Path(model)
    return base_of_adapter(folder) if (folder / ADAPTER_CONFIG).is_file() else None


def _nll_part(scores: dict[str, NLL], chosen: list[int], groups: list[str]) -> dict[str, Any]:
    part: dict[str, Any] = {"rows": len(chosen)}
    cut = {name: NLL(score.sums[chosen], score.counts[chosen]) for name, score in scores.items()}
    part |= {f"nll_{name}": score.mean for name, score in cut.items()}
    if "untuned" in cut and len(set(groups)) > 1:
        change = nll_difference(cut["untuned"], cut["tuned"], groups)
        part |= {"nll_change": change.estimate, "nll_change_low": change.low, "nll_change_high": change.high}
    return part


def _answer_part(texts: dict[str, list[str]], asked: Sequence[Row]) -> dict[str, Any]:
    references = [answer_of(row) for row in asked]
    hits = {
        name: [float(fold(text) == reference) for text, reference in zip(given, references, strict=True)]
        for name, given in texts.items()
    }
    part: dict[str, Any] = {"rows": len(asked)}
    part |= {f"exact_match_{name}": sum(values) / len(values) for name, values in hits.items()}
    if len(hits) == 2 and len(set(references)) > 1:
        change = mean_difference(hits["untuned"], hits["tuned"], references)
        part |= {"exact_match_change_low": change.low, "exact_match_change_high": change.high}
    part["examples"] = [
        {"question": question_of(row), "reference": reference_of(row)} | {n: given[i] for n, given in texts.items()}
        for i, row in enumerate(asked[:SHOWN])
    ]
    return part


def format_evaluation(report: dict[str, Any]) -> str:
    """The report as text for a person."""
    lines = [f"{report['rows']:,} rows of {report['data']}, template {report['template']}."]
    if report["training_known"]:
        lines.append(f"{report['seen_rows']:,} of them were trained on; they are scored apart.")
    else:
        lines.append("This model has no run.json: which rows it was trained on is not known.")
    unseen = "Rows not trained on" if report["training_known"] else "All rows"
    for part, title in (("unseen", unseen), ("seen", "Rows trained on (recall, not skill)")):
        if part not in report:
            continue
        values = report[part]
        lines.append(f"\n{title}: {values['rows']:,}")
        if "nll_untuned" in values:
            lines.append(f"  NLL per token, nats: untuned {values['nll_untuned']:.3f}, tuned {values['nll_tuned']:.3f}")
        else:
            lines.append(f"  NLL per token, nats: {values['nll_tuned']:.3f} (no untuned model to compare with)")
        if "nll_change" in values:
            low, high = values["nll_change_low"], values["nll_change_high"]
            lines.append(f"  change {values['nll_change']:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}")
    if "answers" in report:
        values = report["answers"]
        scores = ", ".join(
            f"{n} {values[f'exact_match_{n}']:.0%}" for n in ("untuned", "tuned") if f"exact_match_{n}" in values
        )
        lines.append(f"\nExact match on {values['rows']} unseen questions: {scores}")
        lines += [format_example(example) for example in values["examples"]]
    return "\n".join(lines)


def format_example(example: dict[str, str]) -> str:
    """One question with its answers, a line each; an answer without a word is said to be so."""
    names = ("question", "reference", "untuned", "tuned", "before", "after")
    return "\n" + "\n".join(
        f"  {name.capitalize():<10}{example[name] or '(nothing)'}" for name in names if name in example
    )


def generate_file(
    model: str,
    prompts: Sequence[str] = (),
    source: str | Path | None = None,
    output: str | Path | None = None,
    max_new_tokens: int = 64,
    batch_size: int = 32,
    say: Callable[[str], None] = print,
) -> list[Row]:
    """Answer prompts, or every row of a file, with the template the model was trained with.

    Returns:
        The rows with an added `generated`; written to `output` when given.

    Raises:
        UserError: nothing to ask, a row without a question, an output that exists or cannot be written.
    """
    hardware.quiet()
    rows: list[Row] = [{"question": prompt} for prompt in prompts]
    if source is not None:
        rows = [{**row, "question": question_in(row, source)} for row in read_rows(source)]
    if not rows or any(not row["question"].strip() for row in rows):
        raise UserError("There is nothing to answer: give a PROMPT, or --input with a file of questions.")
    _check_output(output)
    record = read_record(Path(model))
    loaded, tokenizer = load_model(model, say=say)
    template = record.template if record else default_template(tokenizer)
    asked = [render_prompt(row, tokenizer, template) for row in rows]
    texts = generate(fast_copy(loaded), tokenizer, asked, max_new_tokens, batch_size, progress=None)
    done = [{**row, "generated": text} for row, text in zip(rows, texts, strict=True)]
    if output is not None:
        write_rows(output, done)
    return done


def _check_output(output: str | Path | None) -> None:
    """Find out before the work whether its result can be written."""
    if output is None:
        return
    if Path(output).exists():
        raise UserError(f"{output}: exists already; choose another --output, so that nothing is overwritten.")
    write_rows(output, [])
    Path(output).unlink()
