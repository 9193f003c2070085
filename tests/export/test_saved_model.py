import keras
import numpy as np
import pytest
import tensorflow as tf

from export.saved_model import add_defaults, write_signatures
from models.common.backends import SavedModelBackend
from protocol.contracts import SignatureSpec, TaskContract, TensorSpec
from serving.runtimes.saved_model import SavedModelRuntime


class Limiter(tf.Module):
    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="x"),
            tf.TensorSpec([], tf.float32, name="limit"),
        ],
    )
    def serving_default(self, x, limit):
        return {"y": tf.minimum(x, limit)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("limiter")
    module = Limiter()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serving_default})
    add_defaults(path, "serving_default", {"limit": np.float32(2)})
    return path


X = np.arange(5, dtype=np.float32)


def test_a_default_makes_an_input_optional_offline(folder):
    backend = SavedModelBackend(folder)
    assert backend.run_signature({"x": X})["y"].tolist() == [0, 1, 2, 2, 2]
    found = backend.run_signature({"x": X, "limit": np.float32(1)})
    assert found["y"].tolist() == [0, 1, 1, 1, 1]


def test_a_default_makes_an_input_optional_for_callers(folder):
    servable = SavedModelRuntime(("serve",), 0, 0).load(folder, None)
    limit, x = servable.signatures["serving_default"].inputs
    assert (limit.optional, x.optional) == (True, False)
    prepared = [
        servable.prepare("serving_default", inputs)
        for inputs in ({"x": X}, {"x": X}, {"x": X, "limit": np.float32(1)})
    ]
    assert prepared[0].batch_key == prepared[1].batch_key != prepared[2].batch_key
    joined = servable.run("serving_default", servable.merge("serving_default", prepared[:2]))
    assert joined["y"].tolist() == [0, 1, 2, 2, 2] * 2
    alone = servable.run("serving_default", servable.merge("serving_default", prepared[2:]))
    assert alone["y"].tolist() == [0, 1, 1, 1, 1]


def test_unknown_inputs_are_named(folder):
    with pytest.raises(ValueError, match=r"no inputs \['limits'\]; inputs: \['limit', 'x'\]"):
        add_defaults(folder, "serving_default", {"limits": np.float32(2)})


class Scaler(tf.Module):
    """A Keras layer in a module, as every model of ours is saved."""

    def __init__(self):
        super().__init__()
        self.layer = keras.layers.Dense(2, kernel_initializer="ones", bias_initializer="ones")
        self.layer.build((None, 3))

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def serving_default(self, x):
        return {"y": self.layer(x)}


def test_a_session_restores_what_the_signatures_read(tmp_path):
    """TensorFlow Serving runs the graph in a session; it knows nothing of Python's objects."""
    spec = SignatureSpec(
        "serving_default",
        inputs=(TensorSpec("x", "float32", (None, 3)),),
        outputs=(TensorSpec("y", "float32", (None, 2)),),
    )
    write_signatures(Scaler(), TaskContract("scale", (spec,)), tmp_path)
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path))
        signature = meta_graph.signature_def["serving_default"]
        found = session.run(
            signature.outputs["y"].name, {signature.inputs["x"].name: np.ones((1, 3), np.float32)}
        )
        handles = [each for each in graph.get_operations() if each.type == "VarHandleOp"]
    assert found.tolist() == [[4, 4]]
    assert len(handles) == 2
