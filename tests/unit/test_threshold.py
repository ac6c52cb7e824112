"""The line between two kinds of answers: where it lies, where it is put, and that generation heeds it."""

import numpy as np
import pytest
import torch

from finetune_utils.errors import UserError
from finetune_utils.generation import first_token, generate
from finetune_utils.threshold import choose_shift, mistakes, opening_lead, prompt_features

PROMPTS = ["What is a learning rate?", "The loss is nan.", "one step", "lower the weights now"]


def by_hand(model, tokenizer, prompt, token):
    """The lead of a token from a plain forward pass over one prompt."""
    ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        logits = model(ids).logits[0, -1]
    others = torch.cat([logits[:token], logits[token + 1 :]])
    return (logits[token] - others.max()).item()


def test_the_lead_is_that_of_the_first_token_over_the_best_other(tiny_model, tokenizer):
    model = tiny_model().eval()
    token = first_token(tokenizer, "loss of")
    leads = opening_lead(model, tokenizer, PROMPTS, "loss of", batch_tokens=12)
    assert leads == pytest.approx([by_hand(model, tokenizer, prompt, token) for prompt in PROMPTS], abs=1e-4)
    assert len(set(np.round(leads, 3))) > 1


def test_generation_begins_with_the_opening_exactly_where_the_moved_lead_is_above_zero(tiny_model, tokenizer):
    model = tiny_model().eval()
    leads = opening_lead(model, tokenizer, PROMPTS, "loss")
    shift = -float(np.median(leads))
    plain = generate(model, tokenizer, PROMPTS, max_new_tokens=3)
    moved = generate(model, tokenizer, PROMPTS, max_new_tokens=3, lean=("loss", shift))
    start = tokenizer.decode([first_token(tokenizer, "loss")])
    begins = [text.startswith(start) for text in moved]
    assert begins == [lead + shift > 0 for lead in leads]
    assert any(begins)
    for before, after, lead, begun in zip(plain, moved, leads, begins, strict=True):
        if begun == (lead > 0):
            assert before == after
    assert generate(model, tokenizer, PROMPTS, max_new_tokens=3, lean=("loss", 0.0)) == plain


def test_only_the_first_token_leans(tiny_model, tokenizer):
    model = tiny_model().eval()
    (text,) = generate(model, tokenizer, PROMPTS[:1], max_new_tokens=6, lean=("loss", 100.0))
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids[0] == first_token(tokenizer, "loss")
    assert ids.count(ids[0]) < 6


def test_several_batches_each_lean_at_their_beginning(tiny_model, tokenizer):
    texts = generate(tiny_model().eval(), tokenizer, PROMPTS, max_new_tokens=2, batch_size=1, lean=("loss", 100.0))
    assert all(text.startswith(tokenizer.decode([first_token(tokenizer, "loss")])) for text in texts)


def test_each_prompt_leans_by_its_own_shift_in_the_order_asked(tiny_model, tokenizer):
    model = tiny_model().eval()
    start = tokenizer.decode([first_token(tokenizer, "loss")])
    for shifts in ([100.0, -100.0, -100.0, 100.0], np.array([-100.0, 100.0, -100.0, -100.0])):
        texts = generate(model, tokenizer, PROMPTS, max_new_tokens=2, batch_size=3, lean=("loss", shifts))
        assert [text.startswith(start) for text in texts] == [shift > 0 for shift in shifts]


def test_as_many_shifts_as_prompts_are_asked_for(tiny_model, tokenizer):
    with pytest.raises(UserError, match="Found 4 prompts and 3 shifts"):
        generate(tiny_model(), tokenizer, PROMPTS, max_new_tokens=1, lean=("loss", [1.0, 2.0, 3.0]))


def test_prompt_features_are_means_over_the_prompt_whatever_the_batch(tiny_model, tokenizer):
    model = tiny_model().eval()
    found = prompt_features(model, tokenizer, PROMPTS, batch_tokens=24)
    layers = [max(round(share * model.config.num_hidden_layers), 1) for share in (0.25, 0.5, 0.75)]
    for prompt, row in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            states = model(ids, output_hidden_states=True).hidden_states
        by_hand = torch.cat([states[layer][0].mean(dim=0) for layer in layers])
        assert row == pytest.approx(by_hand.numpy(), abs=1e-4)
    assert len({row.tobytes() for row in found}) == len(PROMPTS)


def test_features_of_an_empty_prompt_are_refused(tiny_model, tokenizer):
    with pytest.raises(UserError, match="Prompt 2 of 2 is empty"):
        prompt_features(tiny_model(), tokenizer, ["a", ""])


def test_mistakes_are_counted_on_both_sides_of_zero():
    wanted, others = np.array([2.0, 0.5, -0.5, -2.0]), np.array([-3.0, -1.0])
    assert mistakes(wanted, others, 0.0) == (0.5, 0.0)
    assert mistakes(wanted, others, 1.5) == (0.25, 0.5)
    assert mistakes(wanted, others, -0.5) == (0.75, 0.0)  # a lead of exactly 0 is no lead


def test_the_shift_balances_both_mistakes_in_the_ratio_asked_for():
    wanted = [5.0, 4.0, 3.0, 2.0, 1.0, 0.0, -1.0, -2.0, -3.0, -4.0]
    others = [-float(i) for i in range(1, 21)]
    even = choose_shift(wanted, others)
    assert np.subtract(*mistakes(wanted, others, even)) == pytest.approx(0, abs=0.06)
    double = choose_shift(wanted, others, misses_for_one=2)
    missed, alarms = mistakes(wanted, others, double)
    assert missed == pytest.approx(2 * alarms, abs=0.11)
    assert double < even  # more misses are allowed, so the line moves toward answering


def test_of_equally_good_shifts_the_middle_is_taken():
    assert choose_shift([4.0, 5.0], [-2.0, -3.0]) == pytest.approx(-1.0)
    assert choose_shift([5.0, 4.0], [-3.0, -2.0], misses_for_one=2) == pytest.approx(-1.0)


def test_a_threshold_needs_rows_of_both_kinds_and_an_opening_a_token(tiny_model, tokenizer):
    with pytest.raises(UserError, match="both kinds"):
        choose_shift([1.0], [])
    with pytest.raises(UserError, match="has no token"):
        opening_lead(tiny_model(), tokenizer, PROMPTS, "")
    with pytest.raises(UserError, match="Prompt 2 of 2 is empty"):
        opening_lead(tiny_model(), tokenizer, ["one step", ""], "loss")
