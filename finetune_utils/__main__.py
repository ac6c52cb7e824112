"""The command line: `python -m finetune_utils COMMAND`. Every command is a thin layer over a function."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from .errors import UserError, os_reason, out_of_memory, system_error

PROFILE_NAMES = click.Choice(["smoke", "cpu", "gpu"])
AT_LEAST_1 = click.IntRange(min=1)


class _Named(click.Path):
    """A path with a name: an empty text, such as that of a variable that was never set, would mean this folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path that `value` names; an empty one ends with a usage error."""
        if value == "":
            self.fail("found an empty name; name a file or folder.", param, ctx)
        return super().convert(value, param, ctx)


PATH = _Named(path_type=Path)


def _to_stderr(message: str) -> None:
    click.echo(message, err=True)


def _print_json(value: Any) -> None:
    """Print strict JSON: a number that is not finite, such as the loss of a run that diverged, becomes null."""
    strict = json.loads(json.dumps(value), parse_constant=lambda name: None)
    click.echo(json.dumps(strict, indent=1, ensure_ascii=False))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Tools of the fine-tuning course: check the machine, run the lessons, fine-tune your own data."""


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Say what this machine has. Paste the output into an issue."""
    from .doctor import doctor as examine
    from .doctor import format_doctor

    report = examine()
    _print_json(report) if as_json else click.echo(format_doctor(report))


@cli.command()
def setup() -> None:
    """Fetch and convert the models once, so that everything after works offline."""
    from . import hardware
    from .weights import SOURCES, ensure_model

    hardware.quiet()
    for name in SOURCES:
        ensure_model(name, click.echo, thorough=True)
    click.echo("Models are ready; no network is needed from here on.")


@cli.command()
@click.argument("lessons", nargs=-1)
@click.option("--profile", default="cpu", show_default=True, type=PROFILE_NAMES)
@click.option("--output", type=PATH, help="Folder for executed copies [build/PROFILE].")
@click.option("--jobs", type=click.IntRange(0), default=0, help="Lessons at the same time [2 on smoke, otherwise 1].")
def run(lessons: tuple[str, ...], profile: str, output: Path | None, jobs: int) -> None:
    """Run lessons headless, in order (all by default), and print a table."""
    from .notebooks import run_lessons

    if not run_lessons(lessons, profile, output, jobs=jobs):
        sys.exit(1)


@cli.command()
@click.argument("lessons", nargs=-1)
@click.option("--check", is_flag=True, help="Write nothing; fail when notebooks differ from their sources.")
@click.option("--store", is_flag=True, help="Run changed lessons and store outputs and results (make notebooks).")
@click.option("--force", is_flag=True, help="With --store: also lessons that did not change.")
@click.option("--profile", default="cpu", show_default=True, type=PROFILE_NAMES, help="With --store.")
def build(lessons: tuple[str, ...], check: bool, store: bool, force: bool, profile: str) -> None:
    """Build notebooks, exercises and solutions from their sources."""
    from . import notebooks, storing

    if store:
        sys.exit(0 if storing.store(lessons, profile, force=force) else 1)
    found = notebooks.build(check=check)
    for line in found:
        click.echo(line)
    if check:
        click.echo(f"{len(found)} problems." if found else "All notebooks match their sources.")
        sys.exit(1 if found else 0)
    click.echo(f"{len(found)} files written.")


@cli.command()
@click.argument("data", type=PATH)
@click.option("--model", default="smollm2-135m", show_default=True, help="Name, folder or hub id.")
@click.option("--output", required=True, type=PATH, help="Folder for the result.")
@click.option("--full", is_flag=True, help="Train all weights instead of a LoRA adapter.")
@click.option("--epochs", default=1.0, show_default=True)
@click.option(
    "--max-steps", default=0, type=click.IntRange(min=0), help="Stop after so many steps, whatever --epochs says."
)
@click.option("--learning-rate", type=float, help="[1e-3 for LoRA, 5e-5 with --full]")
@click.option("--batch-size", default=8, type=AT_LEAST_1, show_default=True)
@click.option("--max-length", default=512, type=AT_LEAST_1, show_default=True, help="Tokens a row at most.")
@click.option("--seed", default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Continue the interrupted run in --output.")
@click.option("--test-size", default=0.1, show_default=True, help="Share of the rows kept for testing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def finetune(data: Path, output: Path, as_json: bool, **options: Any) -> None:
    """Fine-tune a model on the rows of DATA and measure it on rows it never saw.

    Two environment variables: FINETUNE_PRECISION=fp32 asks for float32, in which a resumed run ends in bit-identical
    weights; FINETUNE_CHECKPOINT_SECONDS sets the time between checkpoints (default 110).

    `accelerate launch --config_file CONFIG -m finetune_utils finetune ...` runs it in several processes.
    """
    from . import processes
    from .commands import format_example
    from .quickstart import finetune as tune

    tuned = tune(data, output=output, say=_to_stderr if as_json else click.echo, **options)
    first, results = processes.is_first(), tuned.evaluate()
    processes.wait()
    processes.leave()
    if not first:
        return
    if as_json:
        _print_json({"output": str(output), "results": results, "examples": tuned.examples})
        return
    if "nll_before" in results:
        click.echo(
            f"Test NLL per token: {results['nll_before']:.3f} -> {results['nll_after']:.3f} on {results['test_rows']} "
            f"unseen rows (change {results['nll_change']:+.3f}, 95 % interval {results['nll_change_low']:+.3f} to "
            f"{results['nll_change_high']:+.3f})."
        )
    for example in tuned.examples:
        click.echo(format_example(example))
    click.echo(f'\nSaved to {output}. Ask it: python -m finetune_utils generate --model {output} "Your question"')


@cli.command()
@click.argument("data", type=PATH)
@click.option("--model", required=True, help="Folder of a fine-tuned model.")
@click.option(
    "--answers",
    default=64,
    type=click.IntRange(min=0),
    show_default=True,
    help="Unseen questions that both models answer.",
)
@click.option("--max-new-tokens", default=64, type=AT_LEAST_1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(data: Path, model: str, answers: int, max_new_tokens: int, as_json: bool) -> None:
    """Compare a fine-tuned model with the untuned one on the rows of DATA."""
    from .commands import evaluate_file, format_evaluation

    report = evaluate_file(data, model, max_new_tokens, answers, _to_stderr if as_json else click.echo)
    _print_json(report) if as_json else click.echo(format_evaluation(report))


@cli.command()
@click.argument("prompt", nargs=-1)
@click.option("--model", default="smollm2-135m", show_default=True, help="Name, folder or hub id.")
@click.option("--input", "source", type=PATH, help="File of questions.")
@click.option("--output", type=PATH, help="File for the answers (JSONL).")
@click.option("--max-new-tokens", default=64, type=AT_LEAST_1, show_default=True)
@click.option("--batch-size", default=32, type=AT_LEAST_1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def generate(
    prompt: tuple[str, ...], model: str, source: Path | None, output: Path | None, max_new_tokens: int,
    batch_size: int, as_json: bool,
) -> None:  # fmt: skip
    """Answer PROMPT, or every row of --input, with a model."""
    from .commands import generate_file

    if prompt and source:
        raise UserError("Give either a PROMPT or --input, not both.")
    rows = generate_file(
        model, [" ".join(prompt)] if prompt else [], source, output, max_new_tokens, batch_size, _to_stderr
    )
    if as_json:
        _print_json(rows)
    elif output is None:
        for row in rows:
            click.echo(row["generated"] if prompt else f"{row['question']}\n  {row['generated']}")
    else:
        click.echo(f"Wrote {len(rows)} answers to {output}.")


@cli.command()
@click.option("--model", required=True, help="Folder of a fine-tuned model.")
@click.option("--output", required=True, type=PATH, help="New folder for the weights.")
@click.option("--dtype", default="fp32", type=click.Choice(["fp32", "bf16", "fp16"]), show_default=True)
@click.option("--gguf", type=click.Choice(["f32", "f16", "q8_0"]), help="Also write one GGUF file of this kind.")
def export(model: str, output: Path, dtype: str, gguf: str | None) -> None:
    """Merge an adapter into plain weights, with a model card written from the run's record."""
    from .export import export_merged

    export_merged(model, output, dtype, gguf, click.echo)


@cli.command("offline-kit")
@click.option("--output", default="build/offline-kit", show_default=True, type=PATH)
@click.option("--torch-index", default="", help="Another index for PyTorch, such as that of its CPU builds.")
def offline_kit(output: Path, torch_index: str) -> None:
    """Put packages, models and the course into one folder, for a room without network."""
    from .offline_kit import make_offline_kit

    make_offline_kit(output, index=torch_index, say=click.echo)


@cli.command("check-kit")
@click.argument("folder", type=PATH)
def check_kit(folder: Path) -> None:
    """Compare a copied offline kit with its manifest."""
    from .offline_kit import check_kit as check

    wrong = check(folder)
    click.echo("\n".join(wrong) or "The kit is complete.")
    sys.exit(1 if wrong else 0)


@cli.command()
@click.argument("lessons", nargs=-1)
@click.option(
    "--profile", default="cpu", show_default=True, type=click.Choice(["smoke", "cpu", "cpu-fp32", "gpu"]),
    help="cpu-fp32: the runs of a CPU without bfloat16.",
)  # fmt: skip
def ranges(lessons: tuple[str, ...], profile: str) -> None:
    """Compute the ranges that "Check your run" compares with, and build (maintainers: make ranges)."""
    from .notebooks import build as build_notebooks
    from .ranges import compute_ranges

    compute_ranges(lessons, profile)
    build_notebooks()


def main() -> None:
    """Run the command line; a user's mistake ends with one line and exit code 2."""
    try:
        cli.main(prog_name="finetune_utils", standalone_mode=False)
    except UserError as error:
        _stop(str(error), 2)
    except getattr(click.exceptions, "NoArgsIsHelpError", click.exceptions.Exit) as error:  # since click 8.2
        click.echo(error.format_message() if hasattr(error, "format_message") else "")
    except click.ClickException as error:
        _stop(error.format_message() + " (see --help)", 2)
    except (click.exceptions.Abort, KeyboardInterrupt):
        _stop("Stopped. An interrupted `finetune` goes on with --resume.", 130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if out_of_memory(error):
            _stop("Out of memory: try a smaller --batch-size or --max-length.", 2)
        cause = system_error(error)
        if cause is None:
            raise
        where = cause.filename or "the system"
        _stop(f"{where}: {os_reason(cause)}; check permissions and free space, then try again.", 2)


def _stop(message: str, code: int) -> None:
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
