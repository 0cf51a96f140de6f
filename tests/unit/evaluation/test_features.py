from __future__ import annotations

import numpy as np
import pytest
import torch

from acclimate.backbones.loading import load_backbone
from acclimate.data.tokens.encoding import encode_texts, encode_words, load_tokenizer
from acclimate.evaluation.features import layer_features

TEXTS = ["a tool", "a rather longer text about package management and libraries", "short", "two words more or less"]
SAME = 2e-5  # fp32; padding changes the order of sums


@pytest.fixture(scope="module")
def encoder(tiny_encoder_dir):
    return load_backbone(tiny_encoder_dir)


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder_dir):
    return load_tokenizer(tiny_encoder_dir)


def _hidden(encoder, encoded, row):
    """Every layer of one row, alone and without padding: (layers, tokens, width)."""
    start, end = encoded.offsets[row], encoded.offsets[row + 1]
    ids, types = (torch.from_numpy(part[start:end].astype(np.int64))[None] for part in (encoded.ids, encoded.type_ids))
    with torch.no_grad():
        output = encoder.model(input_ids=ids, attention_mask=torch.ones_like(ids), token_type_ids=types, output_hidden_states=True)
    return torch.cat(output.hidden_states).numpy()


def test_every_layer_is_the_mean_over_real_tokens_whatever_the_padding(encoder, tokenizer):
    encoded = encode_texts(tokenizer, TEXTS, max_length=32)
    features = layer_features(encoder, encoded)
    assert features.shape == (3, 4, 32)
    for row in range(len(TEXTS)):
        np.testing.assert_allclose(features[:, row], _hidden(encoder, encoded, row).mean(axis=1), atol=SAME)


def test_first_pooling_takes_the_first_token(encoder, tokenizer):
    encoded = encode_texts(tokenizer, TEXTS, max_length=32)
    np.testing.assert_allclose(layer_features(encoder, encoded, pooling="first")[:, 1], _hidden(encoder, encoded, 1)[:, 0], atol=SAME)


def test_a_negative_layer_counts_from_the_last(encoder, tokenizer):
    encoded = encode_texts(tokenizer, TEXTS, max_length=32)
    np.testing.assert_array_equal(layer_features(encoder, encoded, layers=[-1])[0], layer_features(encoder, encoded)[2])


def test_a_pair_gives_both_means_their_distance_and_their_product(encoder, tokenizer):
    encoded = encode_texts(tokenizer, TEXTS[:2], TEXTS[2:], max_length=32)
    hidden, start = _hidden(encoder, encoded, 0), encoded.offsets[0]
    types = encoded.type_ids[start : encoded.offsets[1]]
    u, v = hidden[:, types == 0].mean(axis=1), hidden[:, types == 1].mean(axis=1)
    np.testing.assert_allclose(
        layer_features(encoder, encoded, pair=True)[:, 0], np.concatenate([u, v, abs(u - v), u * v], axis=1), atol=SAME
    )


def test_words_have_the_vector_of_their_first_sub_token_in_the_order_of_rows(encoder, tokenizer):
    rows = [["sysctl", "reads"], ["the", "unbelievably", "long", "options"], ["x"]]
    encoded = encode_words(tokenizer, rows, max_length=32)
    features = layer_features(encoder, encoded)
    expected = [_hidden(encoder, encoded, row)[:, encoded.word_positions[row]] for row in range(3)]
    assert features.shape == (3, 7, 32)
    np.testing.assert_allclose(features, np.concatenate(expected, axis=1), atol=SAME)
