import numpy as np
import onnxruntime
import tensorflow as tf
from onnx import TensorProto

from export.onnx_graph import Part, count_operators, from_tensorflow, join


def test_two_converted_functions_join_into_one_graph():
    spec = tf.TensorSpec([None, None], tf.float32)
    double = from_tensorflow(lambda x: 2.0 * x, {"x": spec}, ["y"])
    total = from_tensorflow(
        lambda x, y: tf.reduce_sum(x + y, axis=1), {"x": spec, "y": spec}, ["z"]
    )
    shape = ["N", "M"]
    model = join(
        [
            Part("double", double, {"x": "x"}, {"y": "doubled"}),
            Part("total", total, {"x": "x", "y": "doubled"}, {"z": "total"}),
        ],
        {"x": (TensorProto.FLOAT, shape)},
        {"total": (TensorProto.FLOAT, ["N"])},
        name="test",
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    (found,) = session.run(["total"], {"x": values})
    np.testing.assert_allclose(found, 3 * values.sum(axis=1))
    assert count_operators(model, "Loop") == 0
