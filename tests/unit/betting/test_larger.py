"""Other weights and other games, on local files and tiny random models of the same shape."""

import json

import datasets
import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from finetune_utils.betting import larger
from finetune_utils.betting.elo import EloSettings
from finetune_utils.betting.features import feature_table
from finetune_utils.betting.larger import (
    encoder_forecaster,
    encoder_probabilities,
    sportsett_games,
    train_encoder,
    train_larger,
)
from finetune_utils.betting.questions import margin_rows, win_rows
from finetune_utils.betting.readings import YES_NO, yes_no, yes_no_words
from finetune_utils.errors import UserError

TEAMS = {
    "home": ("Philadelphia", "76ers"),
    "vis": ("Portland", "Trail Blazers"),
    "other": ("Los Angeles", "Clippers"),
    "last": ("Charlotte", "Bobcats"),
}


def told(day, home, away, points, number=0):
    """One row in the schema of the hub's set."""
    sides = {"home": (TEAMS[home], points[0]), "vis": (TEAMS[away], points[1])}
    return {
        "sportsett_id": str(number),
        "gem_id": f"GEM-sportsett_basketball-train-{number}",
        "game": {"day": str(day), "month": "November", "year": "2014", "season": "2014", "stadium": "Hall"},
        "teams": {
            side: {"place": team[0], "name": team[1], "line_score": {"game": {"PTS": str(score)}}}
            for side, (team, score) in sides.items()
        },
        "summaries": ["They played."],
    }


@pytest.fixture
def hub_file(tmp_path, monkeypatch):
    """Write rows as the hub's file would hold them."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def write(*rows):
        path = tmp_path / "train.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def test_older_games_pass_the_same_checks_and_features(hub_file):
    path = hub_file(
        told(3, "other", "last", (90, 101)), told(1, "home", "vis", (96, 114)), told(1, "home", "vis", (96, 114), 1)
    )
    first, second = sportsett_games(data_files=path)  # in order of date; a game that is told twice counts once
    assert (first.id, first.season, first.away, first.margin) == ("2014-11-01-PHI", 2015, "POR", -18)
    assert (second.home, second.away, second.home_won) == ("LAC", "CHA", 0)
    table = feature_table([first, second], EloSettings())
    assert table["home_won"].tolist() == [0, 0]


def test_a_draw_and_an_unknown_team_are_named(hub_file):
    with pytest.raises(UserError, match="a draw between Philadelphia 76ers and Portland Trail Blazers on 2014-11-01"):
        sportsett_games(data_files=hub_file(told(1, "home", "vis", (99, 99))))
    row = told(1, "home", "vis", (99, 98))
    row["teams"]["vis"]["name"] = "SuperSonics"
    with pytest.raises(UserError, match="no code for the team 'Portland SuperSonics'"):
        sportsett_games(data_files=hub_file(row))


@pytest.fixture
def wins(table):
    """Win questions about forty games: the home side is said to win nine of ten, so its opponents win one."""
    return win_rows(table.iloc[2000:2020], np.full(20, 0.9), wording=0)


@pytest.fixture
def encoder_dir(tmp_path, tokenizer):
    """A tiny BERT of random weights, saved as a hub's model is: without a head for this task."""
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=256, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(tmp_path / "encoder")
    tokenizer.model_max_length = 256
    tokenizer.save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def test_an_encoder_learns_soft_labels(encoder_dir, wins):
    model, tokenizer = encoder_forecaster(str(encoder_dir))
    home = [row["question"] for row in wins if row["side"] == 1]
    away = [row["question"] for row in wins if row["side"] == -1]
    before = encoder_probabilities(model, tokenizer, home, batch_size=7)
    assert before.shape == (20,)
    losses = train_encoder(model, tokenizer, wins, steps=60, batch_size=20, rate=1e-2)
    assert len(losses) == 60
    after = encoder_probabilities(model, tokenizer, home)
    assert after.mean() == pytest.approx(0.9, abs=0.05)  # as probable as the label says, not 1
    assert encoder_probabilities(model, tokenizer, away).mean() == pytest.approx(0.1, abs=0.05)
    assert np.mean(losses[-5:]) < losses[0]


def test_the_batch_size_of_a_reading_changes_nothing(encoder_dir, wins):
    model, tokenizer = encoder_forecaster(str(encoder_dir))
    asked = [row["question"] for row in wins]
    one_by_one = encoder_probabilities(model, tokenizer, asked, batch_size=1)
    np.testing.assert_allclose(encoder_probabilities(model, tokenizer, asked, batch_size=64), one_by_one, atol=1e-5)
    assert len(encoder_probabilities(model, tokenizer, [])) == 0


def test_an_encoder_is_asked_who_wins_and_nothing_else(encoder_dir, table):
    model, tokenizer = encoder_forecaster(str(encoder_dir))
    rows = margin_rows(table.iloc[2000:2001], [3.0], 17.0, sides=(1,))
    with pytest.raises(UserError, match="found row .* asks about margin"):
        train_encoder(model, tokenizer, rows)
    with pytest.raises(UserError, match="found no rows"):
        train_encoder(model, tokenizer, [])


def test_an_encoder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"The encoder .*gone cannot be loaded \(") as caught:
        encoder_forecaster(str(tmp_path / "gone"))
    assert "\n" not in str(caught.value)


@pytest.fixture
def spaced_tokenizer():
    """Puts a space before the first word by itself, as Mistral's tokenizer does."""
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    inner.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    inner.decoder = decoders.Metaspace()
    letters = [chr(i) for i in range(33, 127)] + ["\n"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], initial_alphabet=letters, show_progress=False
    )
    inner.train_from_iterator(
        ["Yes No Yes No Will the Hawks win? Yes or No: Yes", "Elo +85: clearly stronger."] * 9, trainer
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>", unk_token="<unk>"
    )


def test_the_words_of_the_answer_fit_the_tokenizer(spaced_tokenizer, tokenizer):
    assert yes_no_words(spaced_tokenizer) == ("Yes", "No")
    added = tokenizer
    added.add_tokens([" Yes", " No"])
    assert yes_no_words(added) == YES_NO


def test_words_of_several_tokens_are_refused(tokenizer):
    with pytest.raises(UserError, match="The choice 'Yes' is . tokens"):
        yes_no_words(tokenizer)


def test_a_model_of_mistrals_shape_is_taught_through_the_courses_train(spaced_tokenizer, wins, monkeypatch, capsys):
    config = transformers.MistralConfig(
        vocab_size=len(spaced_tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=16,
    )  # fmt: skip
    loaded = []

    def load(name):
        loaded.append(name)
        return transformers.MistralForCausalLM(config), spaced_tokenizer

    monkeypatch.setattr(larger, "load_4bit", load)  # 4-bit weights themselves are tested in test_four_bit.py
    tuned, tokenizer, result = train_larger("mistralai/Mistral-7B-v0.1", wins, steps=6, batch_size=4, rank=2, rate=1e-2)
    assert loaded == ["mistralai/Mistral-7B-v0.1"]
    assert result.steps == 6
    assert result.losses[-1] < result.losses[0]
    p, _ = yes_no(tuned, tokenizer, [row["question"] + "\nYes or No:" for row in wins], yes_no_words(tokenizer))
    assert ((p > 0) & (p < 1)).all()
