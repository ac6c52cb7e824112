"""Classifiers from decoders and encoders: the pad id, the head that starts from words, the prefix, the features."""

import numpy as np
import pytest
import torch
import transformers

from finetune_utils.class_metrics import macro_f1
from finetune_utils.classification import (
    LABELS,
    class_log_probs,
    encode_posts,
    last_token_features,
    load_classifier,
    start_from_words,
)
from finetune_utils.errors import UserError
from finetune_utils.hardware import FP32
from finetune_utils.lora import add_lora
from finetune_utils.multiple_choice import log_likelihoods
from finetune_utils.training import TrainSettings, train

QUIET = {"say": lambda message: None}
POSTS = [
    {"text": "What is a learning rate?", "label": "neutral"},
    {"text": "The loss prints nan after a while. The learning rate is too high; lower it.", "label": "negative"},
    {"text": "An adapter!", "label": "positive"},
]
PROMPT = "{text} It is"
WORDS = ("N", "h", "Y")  # single tokens of the throwaway tokenizer


def gpt2(size):
    """Like GPT-2: no pad token in its configuration."""
    config = transformers.GPT2Config(
        vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=128, bos_token_id=13, eos_token_id=13,
        embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, initializer_range=0.2,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def bert(size):
    """Like SportsBERT and MiniLM: an encoder."""
    config = transformers.BertConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=128, pad_token_id=7, initializer_range=0.2,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return transformers.BertForMaskedLM(config)


@pytest.fixture
def folders(tiny_model, tokenizer, make_tokenizer, tmp_path):
    """Small models on disk in the shapes that the hub has: Llama, GPT-2 without a pad token, BERT."""
    size = len(tokenizer)
    torch.manual_seed(3)
    models = {"llama": tiny_model(tie_word_embeddings=True), "gpt2": gpt2(size), "bert": bert(size)}
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
        (make_tokenizer(pad_token=None) if name == "gpt2" else tokenizer).save_pretrained(tmp_path / name)
    return {name: str(tmp_path / name) for name in models}


KINDS = ("llama", "gpt2", "bert")


@pytest.mark.parametrize("kind", KINDS)
def test_padding_does_not_change_what_a_classifier_says(folders, kind):
    model, tokenizer = load_classifier(folders[kind], **QUIET)
    examples = encode_posts(POSTS, tokenizer)
    together = class_log_probs(model, examples, tokenizer)
    alone = np.concatenate([class_log_probs(model, [e], tokenizer) for e in examples])
    assert together == pytest.approx(alone, abs=1e-5)
    assert np.exp(together).sum(axis=1) == pytest.approx([1, 1, 1])


def test_without_a_pad_id_a_decoder_refuses_and_with_a_wrong_one_it_reads_padding(folders):
    model, tokenizer = load_classifier(folders["gpt2"], **QUIET)
    assert model.config.pad_token_id == tokenizer.pad_token_id is not None
    examples = encode_posts(POSTS, tokenizer)
    right = class_log_probs(model, examples, tokenizer)
    model.config.pad_token_id = tokenizer.pad_token_id + 1
    wrong = class_log_probs(model, examples, tokenizer)
    longest = max(range(3), key=lambda i: len(examples[i]["input_ids"]))
    shortest = min(range(3), key=lambda i: len(examples[i]["input_ids"]))
    assert np.abs(right - wrong)[shortest].max() > 1e-3
    assert len(examples[longest]["input_ids"]) > len(examples[shortest]["input_ids"])
    model.config.pad_token_id = None
    with pytest.raises(ValueError, match="no padding token"):
        class_log_probs(model, examples, tokenizer)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
def test_every_kind_learns_its_training_posts(folders, kind, adapter):
    model, tokenizer = load_classifier(folders[kind], **QUIET)
    if adapter:
        model = add_lora(model, rank=8, precision=FP32)
    examples = encode_posts(POSTS, tokenizer)
    train(model, tokenizer, examples, TrainSettings(epochs=30, batch_size=3, learning_rate=1e-2), precision=FP32)
    said = class_log_probs(model, examples, tokenizer).argmax(axis=1)
    assert macro_f1([1, 0, 2], said, 3) == 1.0


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_head_from_words_says_what_the_language_model_finds_likely(folders, kind):
    model, tokenizer = load_classifier(folders[kind], words=WORDS, **QUIET)
    language_model = transformers.AutoModelForCausalLM.from_pretrained(folders[kind]).eval()
    examples = encode_posts(POSTS, tokenizer, prompt=PROMPT, special=False)
    contexts = [PROMPT.format(text=row["text"]) for row in POSTS]
    likely = log_likelihoods(language_model, tokenizer, [(text, word) for text in contexts for word in WORDS]).reshape(
        3, 3
    )
    wanted = likely - np.log(np.exp(likely).sum(axis=1, keepdims=True))
    assert class_log_probs(model, examples, tokenizer) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("batch_tokens", [1, 4096], ids=["alone", "together"])
def test_a_prefix_read_once_equals_a_prefix_in_every_prompt(folders, kind, batch_tokens):
    model, tokenizer = load_classifier(folders[kind], words=WORDS, **QUIET)
    prefix = "An adapter! It is Y\n\n"
    plain = encode_posts(POSTS, tokenizer, prompt=PROMPT, special=False)
    pieces = tokenizer(prefix, add_special_tokens=False)["input_ids"]
    every = [{"input_ids": pieces + e["input_ids"], "labels": [-100] * len(pieces) + e["labels"]} for e in plain]
    once = class_log_probs(model, plain, tokenizer, prefix, batch_tokens)
    assert once == pytest.approx(class_log_probs(model, every, tokenizer), abs=1e-4)
    assert np.abs(once - class_log_probs(model, plain, tokenizer)).max() > 1e-3


def test_features_are_what_the_head_reads(folders):
    model, tokenizer = load_classifier(folders["llama"], **QUIET)
    examples = encode_posts(POSTS, tokenizer)
    found = torch.tensor(last_token_features(model, examples, tokenizer)) @ model.score.weight.detach().T
    assert found.log_softmax(-1).numpy() == pytest.approx(class_log_probs(model, examples, tokenizer), abs=1e-4)


def test_a_prefix_for_an_encoder_is_refused(folders):
    model, tokenizer = load_classifier(folders["bert"], **QUIET)
    with pytest.raises(UserError, match="reads all tokens at once"):
        class_log_probs(model, encode_posts(POSTS, tokenizer), tokenizer, prefix="An adapter!")


def test_a_head_cannot_start_from_words_everywhere(folders, tiny_model, tokenizer, tmp_path):
    with pytest.raises(UserError, match="does not predict words"):
        load_classifier(folders["bert"], words=WORDS, **QUIET)
    tiny_model(tie_word_embeddings=False).save_pretrained(tmp_path / "untied")
    tokenizer.save_pretrained(tmp_path / "untied")
    with pytest.raises(UserError, match="not its embedding"):
        load_classifier(str(tmp_path / "untied"), words=WORDS, **QUIET)
    model, _ = load_classifier(folders["llama"], **QUIET)
    with pytest.raises(UserError, match="2 words for 3 labels"):
        start_from_words(model, tokenizer, WORDS[:2])
    with pytest.raises(UserError, match="tokens in this tokenizer"):
        start_from_words(model, tokenizer, ("N", "Y", "splendid"))


def test_the_random_head_follows_its_seed_and_leaves_the_random_state_alone(folders):
    state = torch.get_rng_state()
    heads = [load_classifier(folders["llama"], seed=seed, **QUIET)[0].score.weight for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_the_labels_are_written_into_the_model(folders, tmp_path):
    model, _ = load_classifier(folders["llama"], labels=("off", "on"), **QUIET)
    model.save_pretrained(tmp_path / "saved")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "saved")
    assert config.id2label == {0: "off", 1: "on"}
    assert config.label2id == {"off": 0, "on": 1}


def test_what_cannot_be_loaded_is_told_in_a_line(folders, tmp_path):
    with pytest.raises(UserError, match="Unknown model 'nonsense'"):
        load_classifier("nonsense", **QUIET)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="as a classifier: cannot be loaded"):
        load_classifier(str(tmp_path / "empty"), **QUIET)
    t5 = transformers.T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    transformers.T5ForConditionalGeneration(t5).save_pretrained(tmp_path / "t5")
    with pytest.raises(UserError, match="an encoder-decoder model"):
        load_classifier(str(tmp_path / "t5"), **QUIET)


def test_a_language_model_has_no_classes(tiny_model, tokenizer):
    with pytest.raises(UserError, match="no classification head"):
        class_log_probs(tiny_model(), encode_posts(POSTS, tokenizer), tokenizer)


def test_the_prompt_stands_around_the_text_and_survives_a_long_one(tokenizer):
    example = encode_posts(POSTS[2:], tokenizer, prompt="Is it nan? {text} It is", special=False)[0]
    assert tokenizer.decode(example["input_ids"]) == "Is it nan? An adapter! It is"
    assert example["labels"][-1] == LABELS.index("positive")
    long = [{"text": "nan " * 300, "label": "neutral"}]
    cut = encode_posts(long, tokenizer, prompt="{text} It is", special=False, max_length=40)[0]
    assert len(cut["input_ids"]) <= 40
    assert tokenizer.decode(cut["input_ids"]).endswith("It is")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"text": "nan", "label": "angry"}, "rows:1: found the label 'angry'"),
        ({"text": " ", "label": "neutral"}, "no text"),
        ({"label": "neutral"}, "no text"),
    ],
)
def test_a_row_without_text_or_with_an_unknown_label_is_refused(tokenizer, row, told):
    with pytest.raises(UserError, match=told):
        encode_posts([row], tokenizer)
