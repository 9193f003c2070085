import keras
import numpy as np
import pytest

from models.common.weights import load_float16, save_float16


def make_model(units: int = 3) -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(units, name="dense")(inputs))


def test_round_trip_keeps_half_precision(tmp_path):
    first, second = make_model(), make_model()
    save_float16(first, tmp_path / "weights.npz")
    load_float16(second, tmp_path / "weights.npz")
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a.astype(np.float16), b.astype(np.float16))


def test_another_architecture_is_refused(tmp_path):
    save_float16(make_model(), tmp_path / "weights.npz")
    with pytest.raises(ValueError, match=r"dense/kernel has shape \(4, 3\), expected \(4, 5\)"):
        load_float16(make_model(5), tmp_path / "weights.npz")


def test_values_beyond_half_precision_are_refused(tmp_path):
    model = make_model()
    model.get_layer("dense").kernel.assign(np.full((4, 3), 1e6))
    with pytest.raises(ValueError, match="dense/kernel does not fit float16"):
        save_float16(model, tmp_path / "weights.npz")
