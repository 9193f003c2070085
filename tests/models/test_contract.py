"""One kit of promises that every model package keeps; each describes itself in its test folder."""

import importlib

import keras
import numpy as np
import pytest

from models.__main__ import TASKS
from models.common.config import from_dict, load_config, save_config, to_dict
from tests.models.case import Case


@pytest.fixture(scope="module", params=TASKS)
def case(request) -> Case:
    return importlib.import_module(f"tests.models.{request.param}.contract_case").make_case()


def test_every_preset_survives_a_round_trip(case, tmp_path):
    assert set(case.presets) >= {"base", "tiny"}
    for preset in case.presets.values():
        assert from_dict(case.config_class, to_dict(preset)) == preset
        save_config(preset, tmp_path / "config.json")
        assert load_config(case.config_class, tmp_path / "config.json") == preset


def test_batch_has_inputs_and_targets_of_as_many_rows(case):
    inputs, *others = map(arrays, case.batch)
    assert {array.dtype.name for array in inputs} <= {"int32", "uint8", "float32"}
    assert len({len(array) for array in [*inputs, *(a for part in others for a in part)]}) == 1


def test_outputs_have_the_stated_shapes(case):
    outputs = named(case.network, case.batch[0])
    assert {name: value.shape for name, value in outputs.items()} == case.output_shapes


def test_loss_falls_on_one_batch(case):
    model = case.compiled()
    # Left to the first step, its variables would make TensorFlow trace that step twice.
    model.optimizer.build(model.trainable_variables)
    inputs, *others = case.batch
    losses = [
        float(model.train_on_batch(inputs, *others, return_dict=True)["loss"])
        for _ in range(case.steps + 1)
    ]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_saved_model_loads_equal(case, tmp_path):
    case.network.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    after = named(loaded, case.batch[0])
    for name, value in named(case.network, case.batch[0]).items():
        np.testing.assert_allclose(after[name], value, atol=1e-6)


def test_saved_weights_load_equal(case, tmp_path):
    case.network.save_weights(tmp_path / "model.weights.h5")
    copy = keras.models.clone_model(case.network)
    copy.load_weights(tmp_path / "model.weights.h5")
    for a, b in zip(case.network.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def arrays(part) -> list[np.ndarray]:
    """Returns the arrays of one part of a batch, which may be one array or several by name."""
    return list(part.values()) if isinstance(part, dict) else [part]


def named(network: keras.Model, inputs) -> dict[str, np.ndarray]:
    """Returns a network's outputs by name; a single one has the name of the network's output."""
    outputs = network(inputs, training=False)
    if not isinstance(outputs, dict):
        outputs = {network.output_names[0]: outputs}
    return {name: np.asarray(value) for name, value in outputs.items()}
