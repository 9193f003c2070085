"""One kit of promises that every model package keeps."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest

from models.common.config import from_dict, load_config, save_config, to_dict
from models.sentiment import config as sentiment_config
from models.sentiment.data import BatchSequence, EncodedExample
from models.sentiment.network import build_network
from models.sentiment.train import TRAINED_OUTPUT


@dataclass(frozen=True)
class Case:
    """What the kit needs to know of a model package."""

    name: str
    config_class: type
    presets: dict[str, Any]
    network: keras.Model
    batch: tuple[Any, ...]
    output_shapes: dict[str, tuple[int, ...]]


def sentiment_case() -> Case:
    config = sentiment_config.TINY
    network = build_network(config.network, config.tokenizer.vocabulary_size, 2).model
    random = np.random.default_rng(0)
    examples = [
        EncodedExample(random.integers(1, 500, 9).astype(np.int32), n % 2) for n in range(4)
    ]
    batch = BatchSequence(examples, [TRAINED_OUTPUT], batch_size=4)[0]
    shapes = dict.fromkeys(network.output_names, (4, 2))
    presets = sentiment_config.PRESETS
    return Case("sentiment", sentiment_config.SentimentConfig, presets, network, batch, shapes)


@pytest.fixture(scope="module", params=[sentiment_case], ids=["sentiment"])
def case(request) -> Case:
    return request.param()


def test_every_preset_survives_a_round_trip(case, tmp_path):
    assert set(case.presets) >= {"base", "tiny"}
    for preset in case.presets.values():
        assert from_dict(case.config_class, to_dict(preset)) == preset
        save_config(preset, tmp_path / "config.json")
        assert load_config(case.config_class, tmp_path / "config.json") == preset


def test_batch_has_inputs_targets_and_weights(case):
    inputs, targets, weights = case.batch
    assert inputs.dtype in (np.int32, np.uint8, np.float32)
    assert set(targets) == set(weights) <= set(case.network.output_names)
    for values in (*targets.values(), *weights.values()):
        assert len(values) == len(inputs)


def test_outputs_have_the_stated_shapes(case):
    outputs = case.network(case.batch[0], training=False)
    assert {name: tuple(value.shape) for name, value in outputs.items()} == case.output_shapes


def test_saved_model_loads_equal(case, tmp_path):
    case.network.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    before = case.network(case.batch[0], training=False)
    after = loaded(case.batch[0], training=False)
    for name, value in before.items():
        np.testing.assert_allclose(np.asarray(after[name]), np.asarray(value), atol=1e-6)


def test_saved_weights_load_equal(case, tmp_path):
    case.network.save_weights(tmp_path / "model.weights.h5")
    copy = keras.models.clone_model(case.network)
    copy.load_weights(tmp_path / "model.weights.h5")
    for a, b in zip(case.network.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
