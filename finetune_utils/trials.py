"""One trial: train a fresh adapter on some course rows, and score held-out rows before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .evaluation import Interval, nll_difference
from .files import Row
from .lora import add_lora
from .models import load_model
from .nll import NLL, token_nll
from .runs import ASSISTANT_TEMPLATE, NEAR_TOPIC, OFF_TOPIC, SITUATION, course_rows, is_fact, spread
from .tokenization import Example, tokenize_rows
from .training import TrainResult, TrainSettings, train

FACT_ROWS = f"course_qa.jsonl without topic {OFF_TOPIC}, {NEAR_TOPIC}, {SITUATION}"  # what a trial on `fact_rows` reads
# Small batches, so that a handful of rows still makes several steps.
ONE_PASS = TrainSettings(epochs=1, batch_size=4, learning_rate=1e-3)


@dataclass(frozen=True)
class Trial:
    """What one trial gave: the NLL of every test set under the untuned and the tuned model."""

    tests: dict[str, Sequence[Row]]
    before: dict[str, NLL]
    after: dict[str, NLL]
    training: TrainResult

    def change(self, name: str, key: str = "fact") -> Interval:
        """Tuned minus untuned NLL of one test set, in nats a token; rows with an equal `key` rise and fall together.

        Raises:
            UserError: the set holds fewer than two different keys.
        """
        return nll_difference(self.before[name], self.after[name], [row[key] for row in self.tests[name]])

    def summary(self) -> dict[str, Any]:
        """The trial as one flat row: `NAME_before`, `_after`, `_change`, `_low`, `_high` for each test set."""
        found: dict[str, Any] = {"steps": self.training.steps, "train_seconds": round(self.training.seconds, 1)}
        for name in self.tests:
            change = self.change(name)
            numbers = (self.before[name].mean, self.after[name].mean, change.estimate, change.low, change.high)
            keys = [f"{name}_{key}" for key in ("before", "after", "change", "low", "high")]
            found |= dict(zip(keys, (round(number, 4) for number in numbers), strict=True))
        return found


def run_trial(
    model_name: str,
    rows: Sequence[Row],
    tests: Mapping[str, Sequence[Row]],
    settings: TrainSettings = ONE_PASS,
    say: Callable[[str], None] = print,
) -> Trial:
    """Load a model, add a LoRA adapter, train it on `rows`, and score each set of `tests` before and after.

    The adapter starts at zero and so changes nothing: what is scored before training is the untuned model, in
    the same number format as afterwards. Prompts are those of the course's assistant.

    Raises:
        UserError: unknown model, or rows that cannot be trained on.
    """
    base, tokenizer = load_model(model_name, say=say)
    model = add_lora(base, seed=settings.seed)

    def encode(part: Sequence[Row]) -> list[Example]:
        """Tokens and labels with the assistant's prompt."""
        return tokenize_rows(part, tokenizer, ASSISTANT_TEMPLATE).examples

    sets = {name: encode(part) for name, part in tests.items()}
    before = {name: token_nll(model, examples, tokenizer) for name, examples in sets.items()}
    training = train(model, tokenizer, encode(rows), settings)
    after = {name: token_nll(model, examples, tokenizer) for name, examples in sets.items()}
    return Trial(dict(tests), before, after, training)


def fact_rows(facts: int, wordings: int = 4, test_rows: int = 43) -> tuple[list[Row], dict[str, list[Row]]]:
    """Training rows of so many facts, in so many wordings each, and the two test sets that judge them.

    Off-topic and situation rows are left out. `unseen` has one wording of each test fact, `reworded` the held-out wording of the
    training facts; both hold `test_rows` rows at most.
    """
    dealt = course_rows(train_facts=facts)
    rows = [row for row in dealt.train if is_fact(row)]
    tests = {"unseen": per_fact(dealt.unseen, 1), "reworded": dealt.reworded}
    return per_fact(rows, wordings), {name: spread(part, test_rows) for name, part in tests.items()}


def per_fact(rows: Iterable[Row], wordings: int) -> list[Row]:
    """Keep `wordings` rows of each fact. Which ones rotates from fact to fact, as their kinds differ."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["fact"], []).append(row)
    kept = {
        group[(start + i) % len(group)]["id"]
        for start, group in enumerate(groups.values())
        for i in range(min(wordings, len(group)))
    }
    return [row for group in groups.values() for row in group if row["id"] in kept]


def stamp_answers(rows: Sequence[Row]) -> list[Row]:
    """Give every fact the same empty answer, filled with the fact's name: fluent, never wrong, and no help."""
    stamp = "{} is an important part of fine-tuning. It helps the model to learn better."
    return [{**row, "answer": stamp.format(row["fact"].replace("-", " ").capitalize())} for row in rows]


def swap_answers(rows: Sequence[Row]) -> list[Row]:
    """Give every fact the answer of the next one: good answers, all to the wrong question."""
    answers = {row["fact"]: row["answer"] for row in rows}
    facts = list(answers)
    following = dict(zip(facts, facts[1:] + facts[:1], strict=True))
    return [{**row, "answer": answers[following[row["fact"]]]} for row in rows]
