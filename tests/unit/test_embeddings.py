"""Sentence vectors of a tiny random encoder: length 1, padding without effect, order kept."""

import numpy as np
import pytest
import transformers

from finetune_utils import embeddings, scores
from finetune_utils.embeddings import Encoder, load_encoder

TEXTS = ["Why?", "The learning rate is how far one step moves the weights.", "An adapter.", "why"]


@pytest.fixture
def encoder(tokenizer):
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        max_position_embeddings=300,
    )  # fmt: skip
    transformers.set_seed(3)
    return Encoder(transformers.BertModel(config), tokenizer, batch_size=3)


def test_vectors_have_length_1_and_the_order_of_the_texts(encoder):
    vectors = encoder(TEXTS)
    assert vectors.shape == (4, 24)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(encoder(TEXTS[::-1])[::-1], vectors, atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 0.01


def test_padding_changes_nothing(encoder):
    alone = np.concatenate([encoder([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder(TEXTS), alone, atol=1e-5)


def test_a_vector_is_the_mean_of_the_last_layer(encoder):
    batch = encoder.tokenizer([TEXTS[1]], return_tensors="pt")
    mean = encoder.model(**batch).last_hidden_state[0].mean(dim=0).detach().numpy()
    np.testing.assert_allclose(encoder([TEXTS[1]])[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_a_long_text_is_cut_and_an_encoder_can_be_loaded_from_a_folder(encoder, tmp_path):
    encoder.model.save_pretrained(tmp_path)
    encoder.tokenizer.save_pretrained(tmp_path)
    loaded = load_encoder(tmp_path)
    long = " ".join(TEXTS) * 40
    np.testing.assert_allclose(loaded([long]), encoder([long]), atol=1e-6)
    assert loaded([]).shape == (0, 24)


def test_without_an_encoder_minilm_is_loaded_once(encoder, monkeypatch):
    loads = []
    monkeypatch.setattr(embeddings, "load_encoder", lambda say: loads.append(1) or encoder)
    embeddings.default_encoder.cache_clear()
    try:
        first, second = (scores.embedding_similarity([TEXTS[0]], [TEXTS[1]])[0] for _ in range(2))
    finally:
        embeddings.default_encoder.cache_clear()
    assert first == second == pytest.approx(float(encoder(TEXTS)[0] @ encoder(TEXTS)[1]), abs=1e-5)
    assert loads == [1]
