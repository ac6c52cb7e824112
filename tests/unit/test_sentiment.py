"""The shared sentiment run: its posts, its few-shot prompt, its losses by epoch, its near copies, and both arms."""

from types import SimpleNamespace

import numpy as np
import pytest

from finetune_utils import classification, sentiment
from finetune_utils.data import check_no_overlap
from finetune_utils.errors import UserError
from finetune_utils.quality import near_duplicates
from finetune_utils.sentiment import (
    loss_by_epoch,
    near_copy,
    numbers,
    posts,
    predict,
    sentiment_settings,
    solved_posts,
    train_arm,
)


def test_the_parts_are_those_of_the_card_and_share_no_post():
    parts = posts()
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 360, "dev": 60, "test": 220}
    check_no_overlap(parts, "text")
    assert [row["id"] for row in posts(test=5)["test"]] == [row["id"] for row in parts["test"][:5]]
    assert set(numbers(parts["dev"])) == {0, 1, 2}


def test_a_few_shot_prompt_takes_the_labels_in_turn():
    rows = [{"text": f"post {i}", "label": label} for i, label in enumerate(["a", "b", "b", "a", "b"])]
    told = solved_posts(rows, 2, labels=("a", "b"), prompt="{text} =")
    assert told == "post 0 = a\n\npost 1 = b\n\npost 3 = a\n\npost 2 = b\n\n"
    with pytest.raises(UserError, match="too few a ones"):
        solved_posts(rows, 3, labels=("a", "b"))


def test_a_near_copy_is_no_exact_copy_and_still_found():
    originals = [row["text"] for row in posts()["dev"]]
    copies = [near_copy(text) for text in originals]
    assert not set(originals) & set(copies)
    assert copies == [near_copy(text) for text in originals]
    assert copies != [near_copy(text, seed=1) for text in originals]
    pairs = near_duplicates(originals + copies, 0.4)
    found = {i for i, j, _ in pairs if j == i + len(originals)}
    assert len(found) > 0.9 * len(originals)
    assert near_copy("Dolphins!").split()[0].startswith("dolphins")  # a single word is never left out


def test_losses_are_gathered_between_two_scores():
    history = [{"step": 1, "epoch": 0.5, "loss": 1.0}, {"step": 2, "epoch": 1.0, "loss": 0.5, "eval_nll": 0.9}]
    history += [{"step": 3, "epoch": 1.5, "loss": 0.25}, {"step": 4, "epoch": 2.0, "loss": 0.75, "eval_nll": 1.2}]
    found = loss_by_epoch(SimpleNamespace(history=history))
    assert found == {"epoch": [1.0, 2.0], "train": [0.75, 0.5], "dev": [0.9, 1.2]}


def test_every_epoch_ends_with_a_score():
    assert sentiment_settings(360).evaluate_every == 45
    assert sentiment_settings(361).evaluate_every == 46


@pytest.mark.parametrize("arm", sentiment.ARMS)
def test_an_arm_learns_its_posts_and_watches_the_others(monkeypatch, tiny_model, tokenizer, arm):
    monkeypatch.setattr(classification, "load_model", lambda name, say=print: (tiny_model(), tokenizer))
    parts = posts(8, 6, 6)
    model, _, result = train_arm(arm, 1e-2, parts, "tiny", epochs=25, words=None)
    losses = loss_by_epoch(result)
    assert len(losses["dev"]) == 25
    assert losses["train"][-1] < 0.3 < losses["train"][0]
    assert np.mean(np.array(predict(model, tokenizer, parts["train"])) == numbers(parts["train"])) == 1.0
    assert hasattr(model, "peft_config") == (arm != "full")


def test_another_arm_is_refused():
    with pytest.raises(UserError, match="Unknown arm 'half'"):
        train_arm("half", 1e-3, {})


def test_the_label_words_are_the_labels_with_a_space():
    assert sentiment.WORDS == (" negative", " neutral", " positive")


def test_only_the_random_arm_leaves_the_words_out(monkeypatch, tiny_model, tokenizer):
    heads = {}

    def keep(model, tokenizer, *rest, **named):
        heads[arm] = model.state_dict()

    monkeypatch.setattr(
        classification, "load_model", lambda name, say=print: (tiny_model(tie_word_embeddings=True), tokenizer)
    )
    monkeypatch.setattr(sentiment, "train", keep)
    for arm in sentiment.ARMS:
        train_arm(arm, 1e-3, posts(2, 2, 2), "tiny", words=("N", "h", "Y"))
    rows = (
        tiny_model(tie_word_embeddings=True)
        .get_input_embeddings()
        .weight[[tokenizer.convert_tokens_to_ids(w) for w in "NhY"]]
    )
    wanted = {"lora": True, "random": False, "full": True}
    for arm, state in heads.items():
        head = next(
            value
            for name, value in state.items()
            if name.endswith(("score.weight", "default.weight")) and "lora" not in name
        )
        assert ((head.float() - rows).abs().max().item() < 0.01) == wanted[arm]
