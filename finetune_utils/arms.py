"""Arms of a comparison: fresh models fine-tuned in different ways on the same rows and steps, scored alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .data import load_rows
from .evaluation import Interval, bootstrap, mean_difference, minimum_detectable_difference, nll_difference, rate
from .files import Row
from .forgetting import Windows, neutral_nll, neutral_windows
from .generation import fast_copy
from .lora import add_lora, add_soft_prompt, lora_plus
from .models import count_parameters, load_model
from .multiple_choice import ChoiceScores, multiple_choice
from .nll import NLL, token_nll
from .runs import ASSISTANT_TEMPLATE, course_rows, is_off_topic, spread
from .tokenization import tokenize_rows
from .training import TrainResult, TrainSettings, train
from .trials import FACT_ROWS, fact_rows

# Three rates for each kind, half a decade apart. Layers whose product is scaled up, or whose B learns faster, take smaller ones.
LORA_RATES = (3e-4, 1e-3, 3e-3)
SMALLER_LORA_RATES = (1e-4, 3e-4, 1e-3)
FULL_RATES = (3e-5, 1e-4, 3e-4)
PROMPT_RATES = (3e-3, 3e-2, 3e-1)  # wider, since less is known about them
# What prose may quote of a row.
QUALITY = ("rate", "seconds", "trainable", "share", "dev_nll", "dev_change", "dev_change_low", "dev_change_high",
           "unseen_change", "reworded_change", "memory", "memory_estimate", "dev_vs", "dev_vs_low", "dev_vs_high",
           "reworded_vs", "reworded_vs_low", "reworded_vs_high")  # fmt: skip
FORGETTING = (*QUALITY[:4], "unseen_nll", "unseen_change", "reworded_change", "neutral_nll", "change", "change_low",
              "change_high", "mcq_accuracy", "mcq_low", "mcq_high", "mcq_change", "mcq_mdd", "neutral_vs", "neutral_vs_low",
              "neutral_vs_high")  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One way of fine-tuning: LoRA of a rank, a soft prompt, or (neither given) all weights.

    Attributes:
        rates: learning rates to try; the best on dev rows is taken, and a single one is taken as it is.
        options: more settings of the LoRA adapter, such as `use_dora`.
        ratio: how much faster B learns than A (LoRA+); 1 is plain AdamW.
        prompt_tokens: length of a soft prompt.
    """

    name: str
    rates: tuple[float, ...]
    rank: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    ratio: float = 1.0
    prompt_tokens: int = 0


@dataclass(frozen=True)
class Budget:
    """What every arm gets: rows, steps, and what it is scored on (None: all there are, 0: left out)."""

    facts: int = 60
    steps: int = 60
    rate_steps: int = 8
    rate_rows: int = 24
    batch_size: int = 4
    seed: int = 0
    sets: tuple[str, ...] = ("dev", "unseen", "reworded")
    test_rows: int | None = 100
    windows: int | None = 32
    questions: int | None = 108

    def settings(self, learning_rate: float, steps: int) -> TrainSettings:
        """The settings of one run: the same for all arms but for the rate."""
        return TrainSettings(max_steps=steps, batch_size=self.batch_size, learning_rate=learning_rate, seed=self.seed)


@dataclass(frozen=True)
class Scores:
    """What one model got on every test of a comparison."""

    sets: dict[str, NLL]
    neutral: NLL | None
    choices: ChoiceScores | None


class Comparison:
    """Rows, tests and the untuned model's scores, shared by all arms.

    Training rows are four wordings of each of `budget.facts` facts. The tests: `dev` and `unseen` (facts that no training
    row mentions), `reworded` (new wordings of trained facts), neutral text, multiple choice. The untuned model and a
    fully tuned one are scored in the 16-bit format of the machine, in which the frozen weights of LoRA are kept.
    """

    DATA = (FACT_ROWS, "neutral_text.txt", "science_mcq.jsonl")

    def __init__(self, model_name: str, budget: Budget | None = None) -> None:
        self.model_name, self.budget = model_name, budget or Budget()
        self.rows, _ = fact_rows(self.budget.facts)
        dealt = course_rows(train_facts=self.budget.facts)
        dev = [row for row in dealt.dev if not is_off_topic(row)]
        held_out = {"dev": dev, "unseen": dealt.unseen, "reworded": dealt.reworded}
        self.tests = {name: _some(held_out[name], self.budget.test_rows) for name in self.budget.sets}
        model, self.tokenizer = load_model(model_name, say=lambda message: None)
        self.examples = self._encode(self.rows)
        limit = self.budget.windows
        self.windows = Windows([], []) if limit == 0 else neutral_windows(self.tokenizer, limit=limit)
        self.questions = _some(load_rows("science_mcq"), self.budget.questions)
        self.untuned = self.score(fast_copy(model))
        self.scored: dict[str, Scores] = {}

    def _encode(self, rows: Sequence[Row]) -> list[Any]:
        return tokenize_rows(rows, self.tokenizer, ASSISTANT_TEMPLATE).examples

    def score(self, model: Any) -> Scores:
        """Score a model on every test."""
        sets = {name: token_nll(model, self._encode(rows), self.tokenizer) for name, rows in self.tests.items()}
        neutral = neutral_nll(model, self.tokenizer, self.windows) if self.windows.examples else None
        choices = multiple_choice(model, self.tokenizer, self.questions) if self.questions else None
        return Scores(sets, neutral, choices)

    def train(self, arm: Arm, learning_rate: float, steps: int) -> tuple[Any, TrainResult]:
        """Train a fresh model; it comes back ready to be scored."""
        model, tokenizer = load_model(self.model_name, say=lambda message: None)
        model = prepare(model, arm, self.budget.seed)
        hook = lora_plus(arm.ratio) if arm.ratio != 1 else None
        settings = self.budget.settings(learning_rate, steps)
        return model, train(model, tokenizer, self.examples, settings, optimizer=hook)

    def try_rates(self, arm: Arm) -> list[dict[str, float]]:
        """A short run with each rate of the arm, scored on dev rows: `rate` and `dev_nll`."""
        dev, found = self._encode(spread(self.tests["dev"], self.budget.rate_rows)), []
        for learning_rate in arm.rates:
            model, _ = self.train(arm, learning_rate, self.budget.rate_steps)
            found.append({"rate": learning_rate, "dev_nll": round(token_nll(model, dev, self.tokenizer).mean, 4)})
        return found

    def run(self, arm: Arm) -> dict[str, Any]:
        """Choose the rate, train, score: one flat row. Changes are against the untuned model, paired."""
        tried = self.try_rates(arm) if len(arm.rates) > 1 else []
        best = min(tried, key=lambda trial: trial["dev_nll"])["rate"] if tried else arm.rates[0]
        model, result = self.train(arm, best, self.budget.steps)
        row = {"arm": arm.name, "rate": best, "tried": tried, "trainable": count_parameters(model).trainable}
        row |= {"share": row["trainable"] / count_parameters(model).total, "steps": result.steps}
        row |= {"seconds": round(result.seconds, 1), "last_loss": round(float(np.mean(result.losses[-5:])), 4)}
        # A copy of a LoRA model would merge and round; it is scored as it was trained.
        self.scored[arm.name] = self.score(model if hasattr(model, "peft_config") else fast_copy(model))
        return row | self.summary(self.scored[arm.name])

    def against(self, name: str, reference: str) -> dict[str, float]:
        """NLL of one arm minus that of another, paired: `dev_vs`, `dev_vs_low`, `dev_vs_high`, ..., `neutral_vs`."""
        ours, theirs, found = self.scored[name], self.scored[reference], {}
        for test, score in ours.sets.items():
            gap = nll_difference(theirs.sets[test], score, [row["fact"] for row in self.tests[test]])
            found |= _ends(f"{test}_vs", f"{test}_vs_", gap)
        if ours.neutral is not None and theirs.neutral is not None:
            gap = nll_difference(theirs.neutral, ours.neutral, self.windows.pieces)
            found |= _ends("neutral_vs", "neutral_vs_", gap)
        return found

    def settings(self) -> dict[str, Any]:
        """What a study stores about the comparison."""
        return {"model": self.model_name, "budget": asdict(self.budget), "train_rows": len(self.rows)}

    def untuned_row(self) -> dict[str, Any]:
        """The untuned model in the keys of the other rows; its changes are 0."""
        return {"arm": "untuned", "trainable": 0, "share": 0.0, "seconds": 0.0} | self.summary(self.untuned)

    def summary(self, scores: Scores) -> dict[str, float]:
        """Every score with its 95 % interval, and its change against the untuned model, as flat keys."""
        found: dict[str, float] = {}
        for name, score in scores.sets.items():
            facts = [row["fact"] for row in self.tests[name]]
            found |= _ends(f"{name}_nll", f"{name}_", nll_level(score, facts))
            change = nll_difference(self.untuned.sets[name], score, facts)
            found |= _ends(f"{name}_change", f"{name}_change_", change)
        if scores.neutral is not None and self.untuned.neutral is not None:
            pieces = self.windows.pieces
            found |= _ends("neutral_nll", "neutral_", nll_level(scores.neutral, pieces))
            found |= _ends("change", "change_", nll_difference(self.untuned.neutral, scores.neutral, pieces))
        if scores.choices is not None and self.untuned.choices is not None:
            found |= _choice_summary(self.untuned.choices, scores.choices)
        return found


def prepare(model: Any, arm: Arm, seed: int = 0) -> Any:
    """Make a freshly loaded model trainable in the way of the arm."""
    if arm.prompt_tokens:
        return add_soft_prompt(model, arm.prompt_tokens, seed=seed)
    return add_lora(model, arm.rank, seed=seed, **arm.options) if arm.rank else model


def short_point(
    model_name: str, rank: int, learning_rate: float, steps: int = 8, dev_rows: int = 32
) -> dict[str, float]:
    """A short LoRA run on the comparison's rows: what can be run again live. Returns `dev_before` and `dev_after`."""
    budget = Budget(sets=("dev",), test_rows=dev_rows, windows=0, questions=0)
    comparison = Comparison(model_name, budget)
    model, _ = comparison.train(Arm("short", (learning_rate,), rank), learning_rate, steps)
    after = comparison.score(model).sets["dev"].mean
    return {"dev_before": round(comparison.untuned.sets["dev"].mean, 4), "dev_after": round(after, 4)}


def pick_values(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, float]:
    """The numbers of some rows under names that prose can quote: `lora_change`, `full_mcq_accuracy`, ..."""
    return {f"{row['arm']}_{key}": row[key] for row in rows for key in keys if row.get(key) is not None}


def nll_level(score: NLL, groups: Sequence[str]) -> Interval:
    """Token-weighted NLL with its 95 % interval, in nats a token, resampled by group."""
    return bootstrap(lambda w: (w @ score.sums) / (w @ score.counts), groups)


def _some(rows: Sequence[Row], count: int | None) -> list[Row]:
    return list(rows) if count is None else spread(rows, count)


def _ends(name: str, prefix: str, interval: Interval) -> dict[str, float]:
    ends = {name: interval.estimate, f"{prefix}low": interval.low, f"{prefix}high": interval.high}
    return {key: round(value, 4) for key, value in ends.items()}


def _choice_summary(before: ChoiceScores, after: ChoiceScores) -> dict[str, float]:
    """Accuracy with its interval, its paired change, and the smallest change that these questions would show.

    For the untuned model itself that is the smallest distance from a fixed value, such as chance. No change in
    accuracy can be larger than 1.
    """
    accuracy = rate(after.right)
    change = mean_difference(before.right, after.right, range(len(after.right)))
    spread_of = accuracy if after is before else change
    found = _ends("mcq_accuracy", "mcq_", accuracy) | _ends("mcq_change", "mcq_change_", change)
    return found | {"mcq_mdd": round(min(minimum_detectable_difference(spread_of), 1.0), 4)}
