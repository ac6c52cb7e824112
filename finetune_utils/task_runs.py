"""The runs of the mixed-training comparison: one task, several tasks, one wording; equal rows, one way of scoring."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .evaluation import Interval, rate
from .forgetting import neutral_windows
from .generation import fast_copy
from .lora import add_lora
from .models import load_model
from .multitask import (
    MOOD_WORDINGS,
    NEW_MOOD_WORDING,
    QUESTIONS,
    SENTIMENT,
    SUMMARIES,
    TASKS,
    TaskScores,
    board_row,
    encode_task,
    mix_batches,
    mood_question,
    pick_labels,
    pick_tests,
    sampling_shares,
    score_tasks,
    task_changes,
    three_tasks,
)
from .summaries import MAX_TOKENS, summarize, train_long_rows
from .training import TrainResult, TrainSettings

DATA = ("dialogues.jsonl", "course_qa.jsonl", "tweets.jsonl", "neutral_text.txt")
RATE, STEPS, BATCH, RANK = 1e-3, 40, 4, 16  # chosen on dev rows of the summaries
TESTS = {SUMMARIES: 40, QUESTIONS: 43, SENTIMENT: 100}  # test rows of each task
WINDOWS = 20  # of neutral text


@dataclass(frozen=True)
class Plan:
    """One run: which tasks, in which shares, and for how many times the usual steps.

    Attributes:
        temperature: see `multitask.sampling_shares`; infinite gives every task the same share.
        times: multiplies the number of steps.
        mood_wordings: in how many wordings the sentiment task is asked in training.
    """

    name: str
    tasks: tuple[str, ...]
    temperature: float = math.inf
    times: int = 1
    mood_wordings: int = len(MOOD_WORDINGS)


PLANS = (
    Plan("summaries only", (SUMMARIES,)),
    Plan("questions only", (QUESTIONS,)),
    Plan("sentiment only", (SENTIMENT,)),
    Plan("mixed, equal", TASKS),
    Plan("mixed, by size", TASKS, temperature=1),
    Plan("mixed, 3 x steps", TASKS, times=3),
)
ONE_WORDING = Plan("sentiment, one wording", (SENTIMENT,), mood_wordings=1)


@dataclass(frozen=True)
class Sizes:
    """How much is trained and scored; smaller for tests and for `smoke`."""

    steps: int = STEPS
    batch_size: int = BATCH
    rank: int = RANK
    rate: float = RATE
    seed: int = 0
    tests: Mapping[str, int] = field(default_factory=lambda: dict(TESTS))
    windows: int = WINDOWS
    max_new_tokens: int = MAX_TOKENS


def summary_settings(sizes: Sizes) -> TrainSettings:
    """The settings of a run of one task: `sizes.steps` batches, whatever the task."""
    return TrainSettings(
        max_steps=sizes.steps, batch_size=sizes.batch_size, learning_rate=sizes.rate, seed=sizes.seed
    )  # fmt: skip


class Runs:
    """Rows, tests and the untuned model's scores, shared by all runs of the comparison."""

    def __init__(self, model_name: str, sizes: Sizes | None = None) -> None:
        self.model_name, self.sizes = model_name, sizes or Sizes()
        self.tasks = three_tasks()
        self.tests = pick_tests(self.tasks, self.sizes.tests)
        model, self.tokenizer = load_model(model_name, say=lambda message: None)
        self.windows = neutral_windows(self.tokenizer, limit=self.sizes.windows)
        copy = fast_copy(model)
        texts = summarize(
            copy, self.tokenizer, self.tests[SUMMARIES], max_new_tokens=self.sizes.max_new_tokens, system=None
        )
        self.untuned = self.score(copy, texts)
        self.untuned_moods = self.moods(copy)
        self.scored: dict[str, TaskScores] = {}

    def score(self, model: Any, texts: Sequence[str] | None = None) -> TaskScores:
        """Score a model (made for answering) on all tests; `texts` are its summaries where they are there already."""
        return score_tasks(model, self.tokenizer, self.tests, self.windows, self.sizes.max_new_tokens, texts)

    def moods(self, model: Any) -> dict[str, float]:
        """Accuracy on test posts asked in the first trained wording and in a new one, each with its 95 % interval."""
        found: dict[str, float] = {}
        for name, wording in (("known_wording", MOOD_WORDINGS[0]), ("new_wording", NEW_MOOD_WORDING)):
            rows = self.tests[SENTIMENT]
            labels = pick_labels(model, self.tokenizer, [mood_question(row["post"], wording) for row in rows])
            share = rate([label == row["label"] for label, row in zip(labels, rows, strict=True)])
            ends = {name: share.estimate, f"{name}_low": share.low, f"{name}_high": share.high}
            found |= {key: round(value, 4) for key, value in ends.items()}
        return found

    def train(self, plan: Plan) -> tuple[Any, TrainResult, dict[str, float]]:
        """Train a fresh adapter: the model, what happened, and the share of the batches that each task got."""
        tasks = three_tasks(MOOD_WORDINGS[: plan.mood_wordings])
        examples = {name: encode_task(tasks[name].train, self.tokenizer) for name in plan.tasks}
        shares = sampling_shares({name: len(rows) for name, rows in examples.items()}, plan.temperature)
        sizes, steps = self.sizes, plan.times * self.sizes.steps
        order = mix_batches(examples, shares, steps, sizes.batch_size, sizes.seed)
        model, _ = load_model(self.model_name, say=lambda message: None)
        model = add_lora(model, sizes.rank, seed=sizes.seed)
        settings = TrainSettings(
            batch_size=sizes.batch_size, learning_rate=sizes.rate, seed=sizes.seed, shuffle=False
        )  # fmt: skip
        return model, train_long_rows(model, self.tokenizer, order, settings), shares

    def run(self, plan: Plan) -> dict[str, Any]:
        """Train and score one plan: one flat row of the board."""
        model, result, shares = self.train(plan)
        copy = fast_copy(model)
        self.scored[plan.name] = self.score(copy)
        row = self.row(plan.name, plan.tasks, self.scored[plan.name])
        row |= {
            "steps": result.steps,
            "rows": result.steps * self.sizes.batch_size,
            "seconds": round(result.seconds, 1),
        }
        row |= {"tokens": round(result.tokens_per_second * result.seconds)}
        row |= {f"share_{name}": round(share, 4) for name, share in shares.items()}
        return row | (self.moods(copy) if plan.tasks == (SENTIMENT,) else {})

    def row(self, name: str, trained: Sequence[str], scores: TaskScores) -> dict[str, Any]:
        """One row of the board from scores that are there already."""
        return {"trained": list(trained)} | board_row(name, scores, self.untuned, self.windows)

    def against(self, name: str, reference: str) -> dict[str, Interval]:
        """One run minus another on every test, paired: see `multitask.task_changes`."""
        return task_changes(self.scored[reference], self.scored[name], self.windows)

    def wordings_row(self) -> dict[str, Any]:
        """The sentiment task trained in one wording only: its accuracy in that wording and in a new one."""
        model, result, _ = self.train(ONE_WORDING)
        row = {"arm": ONE_WORDING.name, "steps": result.steps, "seconds": round(result.seconds, 1)}
        return row | self.moods(fast_copy(model))

    def settings(self) -> dict[str, Any]:
        """What a study stores about the comparison."""
        return {"model": self.model_name, **asdict(self.sizes)}
