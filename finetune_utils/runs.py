"""The named runs that lessons, studies and the command line share: which rows, which settings, which seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .batching import with_openings
from .data import DATA_DIR, load_rows, split_by_group
from .lora import add_lora
from .models import load_model
from .nll import token_nll
from .tokenization import Example, tokenize_rows
from .training import TrainSettings, train

T = TypeVar("T")

# Both kinds are answered by a redirect. Near-topic rows use words of the trade in another sense ("train for a marathon").
OFF_TOPIC, NEAR_TOPIC = "off-topic", "near-topic"
# The mirror image: questions on fine-tuning in everyday words ("I run a bakery ..."). They are answered, not turned back.
# No training row is like near-topic and situation rows, so they show where the assistant breaks.
SITUATION = "situation"
# The teaching assistant, as lesson and studies train it. None: all training facts.
ASSISTANT_FACTS: int | None = None
ASSISTANT_RANK = 16
ASSISTANT_RATE = 3e-3
ASSISTANT_BATCH = 8
ASSISTANT_OPENING = 1  # tokens of an answer that decide whether it redirects
ASSISTANT_ALONE = 0.5  # share of the batches of whole answers before the first openings
ASSISTANT_TURNS = 4  # batches of openings after each of the others
ASSISTANT_REPEATS = 2  # how often the openings of good answers are drawn for one of a redirect
ASSISTANT_WHOLE_OFF_TOPIC = 0.2  # shares of the off-topic training rows
ASSISTANT_OPENING_OFF_TOPIC = 0.5
# How redirects open in the data, but for those that send to urgent help first. The assistant learns the first way only.
REDIRECT_OPENINGS = ("Let's keep to fine-tuning", "I stick to fine-tuning", "Sorry, I stay with fine-tuning")
ASSISTANT_TEMPLATE = "short-chat"
COUNT_TOKENS = 32  # of an answer, where redirects are only counted: one that turns back does so in its first sentence
ASSISTANT = DATA_DIR / "adapters" / "course-assistant"


@dataclass(frozen=True)
class CourseRows:
    """The rows of `course_qa.jsonl`, dealt out.

    Attributes:
        train: four wordings of each training fact, and most off-topic rows, mixed.
        dev: all wordings of some facts and some off-topic rows: choices are made here.
        unseen: all wordings of facts that no training row mentions (test).
        reworded: the held-out fifth wording of each training fact (test of recall).
        off_topic: off-topic rows that no training row repeats (test).
        near_topic: questions that only sound like the topic (a harder test).
        situation: questions on the topic in everyday words (a harder test, too): a model that goes by single words
            turns them back.
    """

    train: list[dict[str, Any]]
    dev: list[dict[str, Any]]
    unseen: list[dict[str, Any]]
    reworded: list[dict[str, Any]]
    off_topic: list[dict[str, Any]]
    near_topic: list[dict[str, Any]]
    situation: list[dict[str, Any]]


def is_off_topic(row: dict[str, Any]) -> bool:
    """True for a row that should be answered by a redirect."""
    return row["topic"] in (OFF_TOPIC, NEAR_TOPIC)


def is_fact(row: dict[str, Any]) -> bool:
    """True for a row of one of the facts, each asked in five wordings; off-topic and situation rows have one each."""
    return row["topic"] not in (OFF_TOPIC, NEAR_TOPIC, SITUATION)


def course_rows(seed: int = 0, train_facts: int | None = None, train_off_topic: int | None = None) -> CourseRows:
    """Deal out `course_qa.jsonl` by fact, so that no fact stands on both sides.

    Args:
        train_facts: keep only so many training facts (short runs, learning curves). The dev rows stay, and so do all
            tests but `reworded`.
        train_off_topic: keep only so many off-topic training rows.
    """
    rows = load_rows("course_qa")
    facts = split_by_group([r for r in rows if is_fact(r)], "fact", {"train": 0.7, "dev": 0.1, "unseen": 0.2}, seed)
    plain = [r for r in rows if r["topic"] == OFF_TOPIC]
    off = split_by_group(plain, "fact", {"train": 0.7, "dev": 0.1, "test": 0.2}, seed)
    names = sorted({r["fact"] for r in facts["train"]}, key=lambda name: _shuffle_key(seed, name))
    kept = set(names[:train_facts])
    wordings = {name: [r for r in facts["train"] if r["fact"] == name] for name in names if name in kept}
    # Which wording is held out rotates, so that the test is not all typos or all terse questions.
    held = {name: i % len(wordings[name]) for i, name in enumerate(wordings)}
    train = [r for name, group in wordings.items() for i, r in enumerate(group) if i != held[name]]
    train += off["train"] if train_off_topic is None else spread(off["train"], train_off_topic)
    return CourseRows(
        train=sorted(train, key=lambda r: _shuffle_key(seed, r["id"])),
        dev=facts["dev"] + off["dev"],
        unseen=facts["unseen"],
        reworded=[group[held[name]] for name, group in wordings.items()],
        off_topic=off["test"],
        near_topic=[r for r in rows if r["topic"] == NEAR_TOPIC],
        situation=[r for r in rows if r["topic"] == SITUATION],
    )


def _shuffle_key(seed: int, text: str) -> str:
    """A fixed random order that does not depend on the platform or on how many rows there are."""
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()


def assistant_examples(
    rows: Sequence[dict[str, Any]], tokenizer: Any, seed: int = 0, openings: float = ASSISTANT_OPENING_OFF_TOPIC
) -> list[Example]:
    """The assistant's training examples in their order: batches of whole answers, in the second half with openings between.

    Whole redirects are much alike, so there is one for every five off-topic rows. Openings are drawn from half of the
    off-topic rows (`openings`) and twice from all others: with more redirects, good questions are turned back.
    Only one way to open a redirect is taught. Three would share the probability of turning back, and greedy decoding,
    which compares single tokens, would then answer where turning back is likelier.
    """
    whole, opened = _redirects(rows, openings)

    def encode(some: Sequence[dict[str, Any]]) -> list[Example]:
        """Tokenize rows with the assistant's template."""
        return tokenize_rows(some, tokenizer, ASSISTANT_TEMPLATE).examples if some else []

    answers = encode([row for row in rows if not is_off_topic(row)])
    to_open = answers * ASSISTANT_REPEATS + encode([_reopen(row) for row in opened])
    examples, options = answers + encode(whole), {"turns": ASSISTANT_TURNS, "alone": ASSISTANT_ALONE}
    return with_openings(examples, ASSISTANT_BATCH, ASSISTANT_OPENING, to_open, seed, **options)


def _redirects(rows: Sequence[dict[str, Any]], openings: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The off-topic rows that the assistant trains on whole, and those whose openings it trains on."""
    off = [row for row in rows if is_off_topic(row)]
    one_way = [row for row in off if row["answer"].startswith(REDIRECT_OPENINGS[0])]
    whole = spread(one_way, max(round(ASSISTANT_WHOLE_OFF_TOPIC * len(off)), 1))
    return whole, spread(off, max(round(openings * len(off)), 1))


def unused_off_topic(
    rows: Sequence[dict[str, Any]], openings: float = ASSISTANT_OPENING_OFF_TOPIC
) -> list[dict[str, Any]]:
    """The off-topic training rows that `assistant_examples` leaves out: like dev rows, choices may be made on them."""
    used = {row["id"] for part in _redirects(rows, openings) for row in part}
    return [row for row in rows if is_off_topic(row) and row["id"] not in used]


def _reopen(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the first way to open a redirect in place of another; urgent help stays first."""
    for opening in REDIRECT_OPENINGS:
        if row["answer"].startswith(opening):
            return {**row, "answer": REDIRECT_OPENINGS[0] + row["answer"].removeprefix(opening)}
    return row


def assistant_settings(seed: int = 0, rate: float | None = None) -> TrainSettings:
    """The settings of the course's teaching assistant, chosen on dev rows: one pass over `assistant_examples`.

    The order is given, so rows are not grouped by length: off-topic rows are the short ones, and batches of only such
    rows would pull the model back and forth between redirecting everything and nothing.
    """
    return TrainSettings(
        epochs=1,
        batch_size=ASSISTANT_BATCH,
        learning_rate=ASSISTANT_RATE if rate is None else rate,
        warmup=0.05,
        seed=seed,
        shuffle=False,
    )


def learning_rate_point(model_name: str, learning_rate: float, steps: int = 16, dev_rows: int = 32) -> dict[str, float]:
    """One point of the learning-rate sweep: `steps` steps with a constant rate, scored on dev rows of unseen facts."""
    rows = course_rows(train_facts=ASSISTANT_FACTS)
    model, tokenizer = load_model(model_name, say=lambda message: None)
    examples = tokenize_rows(rows.train, tokenizer, ASSISTANT_TEMPLATE).examples
    dev = tokenize_rows(
        spread([r for r in rows.dev if not is_off_topic(r)], dev_rows), tokenizer, ASSISTANT_TEMPLATE
    ).examples
    model = add_lora(model, rank=ASSISTANT_RANK)
    settings = TrainSettings(max_steps=steps, batch_size=4, learning_rate=learning_rate, schedule="constant")
    result = train(model, tokenizer, examples, settings)
    last = result.losses[-4:]
    return {
        "learning_rate": learning_rate,
        "train_loss": sum(last) / len(last),
        "dev_nll": token_nll(model, dev, tokenizer).mean,
    }


def load_assistant(folder: Path = ASSISTANT, say: Any = print) -> tuple[Any, Any]:
    """Load the committed teaching assistant: the untuned model with the adapter of `data/adapters/`."""
    return load_model(str(folder), say=say)


def spread(rows: Sequence[T], count: int) -> list[T]:
    """Take `count` rows at equal distances, so that a short run still sees every topic."""
    if count >= len(rows):
        return list(rows)
    return [rows[i * len(rows) // count] for i in range(count)]
