import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from onnx import TensorProto, helper

from export.onnx_fusions import fuse_first_convolution, fuse_layers
from export.onnx_graph import OPSET, count_operators, from_tensorflow


@pytest.fixture(scope="module")
def network():
    """A layer normalisation between two linear maps, with weights that are not those of birth."""
    keras.utils.set_random_seed(1)
    network = keras.Sequential(
        [
            keras.layers.Input((None, 5)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.LayerNormalization(epsilon=1e-3),
            keras.layers.Dense(3),
        ]
    )
    random = np.random.default_rng(1)
    network.set_weights([random.normal(0, 1, w.shape) for w in network.get_weights()])
    return network


@pytest.fixture(scope="module")
def converted(network):
    return from_tensorflow(network, {"x": tf.TensorSpec((None, None, 5))}, ["y"])


def run(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(["y"], {"x": x})[0]


def test_layers_become_one_operator_each(converted):
    fused = fuse_layers(converted)
    onnx.checker.check_model(fused, full_check=True)
    assert count_operators(converted, "LayerNormalization") == 0
    assert count_operators(fused, "LayerNormalization") == 1
    assert count_operators(fused, "MatMul") == 2
    for operator in ("ReduceMean", "Shape", "Gather", "Concat"):
        assert count_operators(fused, operator) == 0, operator


@pytest.mark.parametrize("shape", [(1, 1, 5), (2, 7, 5), (3, 0, 5), (0, 4, 5)])
def test_values_stay(network, converted, shape):
    x = np.random.default_rng(2).normal(3, 2, shape).astype(np.float32)
    expected = network(x).numpy()
    np.testing.assert_allclose(run(fuse_layers(converted), x), expected, atol=1e-5)


def test_names_and_shapes_stay(converted):
    fused = fuse_layers(converted)
    assert list(fused.graph.input) == list(converted.graph.input)
    assert list(fused.graph.output) == list(converted.graph.output)


def test_normalisation_over_another_axis_stays():
    layer = keras.layers.LayerNormalization(axis=1)
    layer.build((None, 4, 5))
    model = from_tensorflow(layer, {"x": tf.TensorSpec((None, 4, 5))}, ["y"])
    fused = fuse_layers(model)
    assert count_operators(fused, "LayerNormalization") == 0
    x = np.random.default_rng(3).normal(0, 1, (2, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(run(fused, x), layer(x).numpy(), atol=1e-5)


def linear_map_model(kept):
    """x [N, T, 5] -> y [*kept sizes, 3], as TensorFlow multiplies."""
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "matrix"], ["mapped"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["shape32"], to=TensorProto.INT32),
        helper.make_node("Gather", ["shape32", "kept"], ["sizes"], axis=0),
        helper.make_node("Concat", ["sizes", "units"], ["new32"], axis=0),
        helper.make_node("Cast", ["new32"], ["new"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["mapped", "new"], ["y"]),
    ]
    constants = {
        "flat": np.array([-1, 5], np.int64),
        "kept": np.array(kept, np.int64),
        "units": np.array([3], np.int32),
        "matrix": np.ones((5, 3), np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "linear_map",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "T", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["A", "B", 3])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])


@pytest.mark.parametrize(("kept", "fuses"), [([0, 1], True), ([1, 0], False)])
def test_linear_map_that_exchanges_axes_stays(kept, fuses):
    model = linear_map_model(kept)
    fused = fuse_layers(model)
    assert count_operators(fused, "Reshape") == (0 if fuses else 2)
    x = np.random.default_rng(4).normal(0, 1, (2, 3, 5)).astype(np.float32)
    np.testing.assert_allclose(run(fused, x), run(model, x), atol=1e-6)


def folding(side=2, offset=-1.0, padding="same", stride=2):
    """Scaling, folding and a convolution, as the detector begins."""
    keras.utils.set_random_seed(4)
    folded = (16 // side, 24 // side, 3 * side**2)
    network = keras.Sequential(
        [
            keras.layers.Input((16, 24, 3)),
            keras.layers.Rescaling(1 / 127.5, offset),
            keras.layers.Reshape((16 // side, side, 24 // side, side, 3)),
            keras.layers.Permute((1, 3, 2, 4, 5)),
            keras.layers.Reshape(folded),
            keras.layers.Conv2D(4, 3, stride, padding, bias_initializer="normal"),
        ]
    )
    return network, from_tensorflow(network, {"x": tf.TensorSpec((None, 16, 24, 3))}, ["y"])


@pytest.mark.parametrize(
    "settings",
    [{}, {"side": 4}, {"offset": 0.25}, {"padding": "valid"}, {"stride": 1}],
    ids=str,
)
def test_folding_becomes_part_of_the_first_convolution(settings):
    network, model = folding(**settings)
    fused = fuse_first_convolution(model)
    onnx.checker.check_model(fused, full_check=True)
    assert count_operators(model, "Reshape") == 2
    for operator in ("Reshape", "Mul", "Add"):
        assert count_operators(fused, operator) == 0, operator
    x = np.random.default_rng(4).uniform(0, 255, (2, 16, 24, 3)).astype(np.float32)
    np.testing.assert_allclose(run(fused, x), network(x).numpy(), atol=1e-4)


def test_a_convolution_without_folding_stays():
    network = keras.Sequential([keras.layers.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    model = from_tensorflow(network, {"x": tf.TensorSpec((None, 8, 8, 3))}, ["y"])
    assert len(fuse_first_convolution(model).graph.node) == len(model.graph.node)
