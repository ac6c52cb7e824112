"""What the commands `evaluate` and `generate` do with a model and a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import hardware
from .data import describe, load_table, read_rows, write_rows
from .embeddings import default_encoder
from .errors import UserError
from .evaluation import nll_difference
from .evaluation_report import answer_part, format_evaluation, format_example
from .files import Row
from .generation import fast_copy, generate
from .models import ADAPTER_CONFIG, base_of_adapter, load_model, load_tokenizer
from .nll import NLL, token_nll
from .prompts import default_template, render_prompt
from .run_record import RunRecord, answer_of, question_of, read_record, reference_of, row_hash
from .scores import Encode
from .shapes import question_in
from .spelling import known_words
from .tokenization import tokenize_rows
from .weights import home, what_is_wrong

__all__ = ["evaluate_file", "format_evaluation", "format_example", "generate_file"]


def evaluate_file(
    data: str | Path,
    model: str,
    max_new_tokens: int = 64,
    answers: int = 64,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Compare a tuned model with its untuned one on a file, rows seen in training apart from unseen ones.

    Args:
        answers: how many unseen questions both models answer, to be scored, searched for errors and read.

    Returns:
        A dict that can be written as JSON: counts, and for `unseen` and `seen` rows the NLL of both models with
        the paired difference; under `answers` what `evaluation_report.answer_part` finds.

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
        report["answers"] = answer_part(texts, asked, _known(table.rows, tokenizer), _encoder(say))
    return report


def _known(rows: Sequence[Row], tokenizer: Any) -> frozenset[str]:
    return known_words([reference_of(row) for row in rows if question_of(row)], tokenizer)


def _encoder(say: Callable[[str], None]) -> Encode | None:
    """MiniLM when it is in the cache; a report is no reason to fetch 90 MB."""
    if what_is_wrong(home() / "models" / "minilm") is not None:
        say(
            "Note: similarity is left out, since MiniLM is not in the cache; `python -m finetune_utils setup` puts it there."
        )
        return None
    return default_encoder()


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
