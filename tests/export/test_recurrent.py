import keras
import numpy as np
import onnxruntime
import pytest

from export.recurrent import RecurrentLayerError, reader_model


def make_layer(cell, units=5, embedding_units=4, **settings):
    layer = keras.layers.Bidirectional(
        cell(units, return_sequences=True, bias_initializer="normal", **settings), name="reader"
    )
    layer.build((None, None, embedding_units))
    return layer


@pytest.mark.parametrize(
    ("cell", "settings"),
    [
        (keras.layers.LSTM, {}),
        (keras.layers.GRU, {}),
        (keras.layers.GRU, {"reset_after": False}),
    ],
)
def test_operator_equals_the_masked_layer(cell, settings):
    layer = make_layer(cell, **settings)
    session = onnxruntime.InferenceSession(reader_model(layer, 4).SerializeToString())
    random = np.random.default_rng(0)
    token_ids = np.array([[3, 4, 5, 6, 7], [8, 9, 0, 0, 0], [1, 0, 0, 0, 0]], np.int32)
    embeddings = random.normal(size=(3, 5, 4)).astype(np.float32)
    (found,) = session.run(None, {"token_ids": token_ids, "embeddings": embeddings})
    expected = np.asarray(layer(embeddings, mask=token_ids != 0))
    is_token = token_ids != 0
    np.testing.assert_allclose(found[is_token], expected[is_token], atol=1e-6)
    np.testing.assert_array_equal(found[~is_token], 0)


def test_text_without_tokens_is_computed():
    layer = make_layer(keras.layers.LSTM)
    session = onnxruntime.InferenceSession(reader_model(layer, 4).SerializeToString())
    feeds = {"token_ids": np.zeros((2, 3), np.int32), "embeddings": np.ones((2, 3, 4), np.float32)}
    assert np.isfinite(session.run(None, feeds)[0]).all()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (make_layer(keras.layers.SimpleRNN), "SimpleRNN, expected LSTM or GRU"),
        (make_layer(keras.layers.LSTM, activation="relu"), r"activations \('relu', 'sigmoid'\)"),
        (make_layer(keras.layers.GRU, use_bias=False), "use_bias is off"),
    ],
)
def test_layers_that_do_not_fit_are_refused(layer, message):
    with pytest.raises(RecurrentLayerError, match=message):
        reader_model(layer, 4)
