"""Other weights and other games: older seasons from the hub, an encoder with a head, a 7B model in 4 bits."""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)  # fmt: skip

from ..data import load_rows
from ..errors import UserError, out_of_memory
from ..four_bit import load_4bit
from ..hardware import choose_device, set_seed
from ..lora import add_lora
from ..models import load_tokenizer
from ..training import TrainResult, TrainSettings, train
from .games import Game, check_games
from .questions import NAMES
from .readings import yes_no_words
from .teaching import yes_no_examples

SPORTSETT = "GEM/sportsett_basketball"
# What older seasons call teams that have another short name here.
OTHER_NAMES = {"76ers": "PHI", "Trail Blazers": "POR", "Bobcats": "CHA"}
CODES = {name: code for code, name in NAMES.items()} | OTHER_NAMES
Row = Mapping[str, Any]


def sportsett_games(split: str = "train", limit: int | None = None, data_files: str | Path | None = None) -> list[Game]:
    """Games of the older seasons in `GEM/sportsett_basketball` (regular season only), in order of date.

    The winner is derived from the points. The set has one row a game and does not mark neutral sites. `data_files` reads a
    local file of the same schema instead of the hub.

    Raises:
        UserError: the hub cannot be reached, a team without a code, or results that cannot be.
    """
    rows = load_rows(SPORTSETT, source="hub", split=split, limit=limit, data_files=data_files)
    games = {game.id: game for game in map(_game, rows)}  # some games are told by two summaries
    ordered = sorted(games.values(), key=lambda game: (game.date, game.home))
    check_games(ordered, SPORTSETT)
    return ordered


def _game(row: Row) -> Game:
    day = datetime.date.fromisoformat(row["date"])
    home, away = (_code(row[side]) for side in ("home", "away"))
    if row["home_points"] == row["away_points"]:
        raise UserError(f"{SPORTSETT}: found a draw between {row['home']} and {row['away']} on {day}.")
    return Game(day, int(row["season"][:4]) + 1, home, away, row["home_points"], row["away_points"])


def _code(team: str) -> str:
    """The code of "Philadelphia 76ers": by the longest ending that is a known name."""
    words = team.split()
    for start in range(len(words)):
        if " ".join(words[start:]) in CODES:
            return CODES[" ".join(words[start:])]
    raise UserError(f"{SPORTSETT}: no code for the team {team!r}; add it to OTHER_NAMES.")


def encoder_forecaster(name: str = "microsoft/SportsBERT") -> tuple[Any, Any]:
    """An encoder with one output, the logit of P(the asked team wins), and its tokenizer.

    `name`: a folder, a hub id, or `tiny` for random weights. The head starts at random in all cases.

    Raises:
        UserError: the weights cannot be loaded.
    """
    # A single output with float labels and this problem type is trained by binary cross-entropy: soft labels for free.
    options = {"num_labels": 1, "problem_type": "multi_label_classification"}
    set_seed(0)
    if name == "tiny":
        tokenizer = load_tokenizer("tiny", say=lambda message: None)
        config = BertConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                            intermediate_size=64, pad_token_id=tokenizer.pad_token_id, **options)  # fmt: skip
        return AutoModelForSequenceClassification.from_config(config).to(choose_device()), tokenizer
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model = AutoModelForSequenceClassification.from_pretrained(
            name, use_safetensors=True, trust_remote_code=False, **options
        )
    except Exception as error:  # readers and the hub client raise a dozen unrelated kinds
        if out_of_memory(error):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"The encoder {name} cannot be loaded ({reason}).") from error
    return model.to(choose_device()), tokenizer


def train_encoder(
    model: Any, tokenizer: Any, rows: Sequence[Row], steps: int = 100, batch_size: int = 16, rate: float = 5e-5,
    seed: int = 0,
) -> list[float]:  # fmt: skip
    """Train all weights of an encoder on win questions with their `probability` as soft labels; returns the losses.

    `training.train` is for models that continue a text; an encoder has no next token, so this uses the stock Trainer.

    Raises:
        UserError: no rows, or a row that is not a win question.
    """
    wrong = next((row for row in rows if row["kind"] != "win"), None)
    if not rows or wrong is not None:
        found = f"row {wrong['id']} asks about {wrong['kind']}" if wrong else "no rows"
        raise UserError(f"An encoder is trained on win questions; found {found}.")
    examples = [{**tokenizer(row["question"], truncation=True), "labels": [float(row["probability"])]} for row in rows]
    with tempfile.TemporaryDirectory(prefix="finetune-") as folder:
        arguments = TrainingArguments(
            folder, max_steps=steps, per_device_train_batch_size=batch_size, learning_rate=rate, logging_steps=1,
            save_strategy="no", report_to=[], disable_tqdm=True, seed=seed, use_cpu=model.device.type == "cpu",
        )  # fmt: skip
        trainer = Trainer(model=model, args=arguments, train_dataset=examples, processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    model.eval()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def encoder_probabilities(model: Any, tokenizer: Any, questions: Sequence[str], batch_size: int = 32) -> np.ndarray:
    """P(the asked team wins) for each question, (questions,)."""
    found = []
    model.eval()
    for start in range(0, len(questions), batch_size):
        batch = tokenizer(
            list(questions[start : start + batch_size]), padding=True, truncation=True, return_tensors="pt"
        )
        with torch.inference_mode():
            found.append(model(**batch.to(model.device)).logits[:, 0].float().sigmoid().cpu())
    return torch.cat(found).double().numpy() if found else np.empty(0)


def train_larger(
    name: str, rows: Sequence[Row], steps: int = 60, batch_size: int = 8, rank: int = 16, rate: float = 2e-4
) -> tuple[Any, Any, TrainResult]:
    """QLoRA: load a causal model in 4 bits, add an adapter, and teach it Yes/No with soft labels through `train`.

    Args:
        name: such as `mistralai/Mistral-7B-v0.1`, or a folder.

    Raises:
        UserError: bitsandbytes is not installed, the model cannot be loaded, or its tokenizer needs several tokens for the
            words of the answer.
    """
    model, tokenizer = load_4bit(name)
    tuned = add_lora(model, rank=rank)
    settings = TrainSettings(max_steps=steps, batch_size=batch_size, learning_rate=rate)
    result = train(tuned, tokenizer, yes_no_examples(rows, tokenizer, words=yes_no_words(tokenizer)), settings)
    return tuned, tokenizer, result
