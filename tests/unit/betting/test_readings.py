"""Three readings of one model, each equal to unbatched arithmetic by hand."""

import pytest
import torch

from finetune_utils.betting.readings import digit_distribution, stated, yes_no
from finetune_utils.errors import UserError

PROMPTS = ["Is the loss nan?", "Why does an adapter hold few weights and the frozen model the rest? Say.", "A rate?"]


def after(model, tokenizer, text):
    """Probabilities of the next token after a text, without padding or cache."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1)


@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_the_yes_no_reading_by_hand(tiny_model, tokenizer, batch_tokens):
    model = tiny_model()
    p, total = yes_no(model, tokenizer, PROMPTS, ("Y", "N"), batch_tokens)
    y, n = (tokenizer(w, add_special_tokens=False)["input_ids"][0] for w in ("Y", "N"))
    for i, prompt in enumerate(PROMPTS):
        share = after(model, tokenizer, prompt)
        assert p[i].item() == pytest.approx((share[y] / (share[y] + share[n])).item(), rel=1e-4)
        assert total[i].item() == pytest.approx((share[y] + share[n]).item(), rel=1e-4)


def test_the_digit_reading_by_hand(tiny_model, tokenizer):
    model = tiny_model()
    read = digit_distribution(model, tokenizer, PROMPTS, opening=" is 0.", batch_tokens=70)
    digits = [tokenizer(str(d), add_special_tokens=False)["input_ids"][0] for d in range(10)]
    for i, prompt in enumerate(PROMPTS):
        first = after(model, tokenizer, prompt + " is 0.")[digits]
        expected = 0.0
        for d in range(10):
            second = after(model, tokenizer, f"{prompt} is 0.{d}")[digits]
            row = first[d] / first.sum() * second / second.sum()
            torch.testing.assert_close(read.grid[i, d], row, rtol=1e-3, atol=1e-6)
            expected += sum((10 * d + e) / 100 * row[e].item() for e in range(10))
        assert read.expected[i].item() == pytest.approx(expected, abs=1e-4)
        assert read.mass[i].item() == pytest.approx(first.sum().item(), rel=1e-4)
    torch.testing.assert_close(read.grid.sum(dim=(1, 2)), torch.ones(3))


def test_quantiles_of_the_digit_reading():
    from finetune_utils.betting.readings import Digits

    grid = torch.zeros(2, 10, 10)
    grid[0, 4, 0], grid[0, 6, 2] = 0.3, 0.7
    grid[1, 9, 9] = 1.0
    read = Digits(grid, torch.ones(2))
    assert read.expected.tolist() == pytest.approx([0.3 * 0.4 + 0.7 * 0.62, 0.99])
    assert read.quantile(0.25).tolist() == pytest.approx([0.4, 0.99])
    assert read.quantile(0.5).tolist() == pytest.approx([0.62, 0.99])
    assert read.quantile(1.0).tolist() == pytest.approx([0.62, 0.99])


def test_free_answers_of_an_untrained_model_are_invalid_and_counted(tiny_model, tokenizer):
    reading, texts = stated(tiny_model(), tokenizer, PROMPTS, max_new_tokens=4)
    assert reading.valid_share == 0
    assert reading.estimates == [0.5] * 3
    assert len(texts) == len(reading.problems) == 3


def test_reading_leaves_the_model_in_its_mode(tiny_model, tokenizer):
    model = tiny_model().train()
    yes_no(model, tokenizer, PROMPTS, ("Y", "N"))
    assert model.training
    digit_distribution(model, tokenizer, PROMPTS[:1])
    assert model.training


def test_what_cannot_be_read_is_refused(tiny_model, tokenizer, monkeypatch):
    with pytest.raises(UserError, match="' Yes' is . tokens in this tokenizer"):
        yes_no(tiny_model(), tokenizer, PROMPTS)
    for read in (
        lambda: yes_no(tiny_model(), tokenizer, ["a", ""], ("Y", "N")),
        lambda: digit_distribution(tiny_model(), tokenizer, ["a", ""]),
    ):
        with pytest.raises(UserError, match="Prompt 2 of 2 is empty"):
            read()


def test_a_tokenizer_that_joins_digits_is_refused(tiny_model, make_tokenizer):
    joined = make_tokenizer()
    joined.add_tokens(["62"])
    with pytest.raises(UserError, match="several digits as one token"):
        digit_distribution(tiny_model(), joined, ["a"])
