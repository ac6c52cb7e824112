"""The public data sets by name, from the hub or from local files of the same schema."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from .errors import UserError
from .files import Row


@dataclass(frozen=True)
class HubSet:
    """How one public data set is opened and turned into rows.

    `convert` returns None for a row to leave out. `files` names the data files where the repository's own
    loader is a script, which the datasets library no longer runs. `streaming` fetches rows on demand.
    """

    convert: Callable[[Mapping[str, Any]], Row | None]
    config: str | None = None
    files: str | None = None
    streaming: bool = False


def _question(row: Mapping[str, Any]) -> Row:
    return {"question": row["question"], "answer": row["answer"]}


def _tweet(row: Mapping[str, Any]) -> Row | None:
    text = (row["text"] or "").strip()
    label = ("negative", "neutral", "positive")[row["label"]]
    return {"id": row["id"], "text": text, "label": label} if text else None


def _dialogue(row: Mapping[str, Any]) -> Row:
    return {name: row[name] for name in ("id", "topic", "dialogue", "summary")}


def _instruction(row: Mapping[str, Any]) -> Row:
    return {name: row[name] for name in ("instruction", "input", "output")}


def _game(row: Mapping[str, Any]) -> Row:
    game, teams = row["game"], {"home": row["teams"]["home"], "away": row["teams"]["vis"]}
    day = time.strptime(f"{game['day']} {game['month']} {game['year']}", "%d %B %Y")
    start = int(game["season"])
    done: Row = {"date": time.strftime("%Y-%m-%d", day), "season": f"{start}-{(start + 1) % 100:02d}"}
    done.update({side: f"{team['place']} {team['name']}" for side, team in teams.items()})
    return done | {f"{side}_points": int(team["line_score"]["game"]["PTS"]) for side, team in teams.items()}


def _choices(row: Mapping[str, Any]) -> Row:
    labels = list(row["choices"]["label"])  # letters in most rows, digits in some
    right = labels.index(row["answerKey"])
    return {
        "id": row["id"],
        "question": row["question"],
        "choices": list(row["choices"]["text"]),
        "answer": right,
    }


def _page(row: Mapping[str, Any]) -> Row:
    return {"text": row["text"], "url": row["url"]}


HUB: dict[str, HubSet] = {
    "lamini/lamini_docs": HubSet(_question),
    "mteb/tweet_sentiment_extraction": HubSet(_tweet),
    "knkarthick/dialogsum": HubSet(_dialogue),
    "tatsu-lab/alpaca": HubSet(_instruction, streaming=True),
    "GEM/sportsett_basketball": HubSet(
        _game, files="hf://datasets/GEM/sportsett_basketball/{split}.jsonl", streaming=True
    ),
    "allenai/ai2_arc": HubSet(_choices, config="ARC-Easy"),
    "allenai/c4": HubSet(_page, config="en", streaming=True),
}


def load_hub(
    name: str, split: str = "train", limit: int | None = None, data_files: str | Path | None = None
) -> list[Row]:
    """Load one split of a public data set, at most `limit` rows, in this course's columns.

    `data_files` reads a local .parquet, .jsonl, .json or .csv file of the same schema instead.

    Raises:
        UserError: unknown name, hub unreachable, or columns that are not the expected ones.
    """
    if name not in HUB:
        raise UserError(f"Unknown public data set {name!r}: choose one of {', '.join(HUB)}.")
    try:
        raw = list(islice(_open(name, split, data_files), limit))
    except Exception as error:  # hub client, network and file readers each raise their own kinds
        raise UserError(_explain(name, split, data_files, error)) from error
    rows = []
    for number, row in enumerate(raw, start=1):
        try:
            rows.append(HUB[name].convert(row))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            columns = ", ".join(row)
            what = f"row {number} of {name} does not have the expected schema ({type(error).__name__}: {error})"
            raise UserError(f"{data_files or 'hub'}: {what}; its columns: {columns}.") from error
    return [row for row in rows if row is not None]


def _open(name: str, split: str, data_files: str | Path | None) -> Iterable[Mapping[str, Any]]:
    from datasets import load_dataset

    spec = HUB[name]
    if data_files is None and spec.files is None:
        return load_dataset(name, spec.config, split=split, streaming=spec.streaming)
    files = str(data_files or spec.files).format(split=split)
    reader = {"jsonl": "json"}.get(files.rsplit(".", 1)[-1], files.rsplit(".", 1)[-1])
    return load_dataset(reader, data_files={split: files}, split=split, streaming=True)


def _explain(name: str, split: str, data_files: str | Path | None, error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    reason = f"{type(error).__name__}: {lines[0][:160]}"
    if data_files is not None:
        return f"{data_files}: cannot be read as {name} ({reason})."
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        do = "HF_HUB_OFFLINE is set: unset it to use the hub"
    else:
        do = "check the connection and the name of the split, and try again"
    do += ", or use the course's own data (source='disk')"
    return f"Cannot load {name}, split {split}, from the hub ({reason}); {do}."
