"""The one module of this folder that imports TensorFlow."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol import messages, services
from protocol.errors import (
    ContractError,
    DataLossError,
    FailedPreconditionError,
    InvalidRequestError,
    NotFoundError,
)
from serving.core.batch_run import run_batch
from serving.core.work_time import work_time

tf = pytest.importorskip("tensorflow")

from tensorflow.core.protobuf import saved_model_pb2  # noqa: E402

from serving.runtimes.saved_model import SavedModelRuntime, SavedModelServable  # noqa: E402
from tests.serving.saved_models import write_half_plus_two, write_vocabulary  # noqa: E402


@pytest.fixture(scope="module")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose version 1 computes y = x / 2 + 2, and turns text to lower case."""
    module = tf.Module()
    module.offset = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def half_plus_two(x: Any) -> Any:
        return {"y": x / 2 + module.offset}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def lower(text: Any) -> Any:
        return {"lower": tf.strings.lower(text), "length": tf.strings.length(text)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="index")])
    def strict(index: Any) -> Any:
        with tf.control_dependencies([tf.debugging.assert_less(index, 3)]):
            return {"same": tf.identity(index)}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def product(x: Any) -> Any:
        return {"y": tf.matmul(x, tf.ones([3, 1]))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="rounds")])
    def powers(rounds: Any) -> Any:
        power = tf.eye(200)
        for _ in tf.range(tf.reduce_max(rounds)):
            power = power @ tf.eye(200)
        return {"y": tf.ones_like(rounds, tf.float32) * tf.reduce_max(power)}

    base = tmp_path_factory.mktemp("saved_model")
    signatures = {
        "serving_default": half_plus_two,
        "lower": lower,
        "strict": strict,
        "product": product,
        "powers": powers,
    }
    tf.saved_model.save(module, str(base / "1"), signatures=signatures)
    return base


@pytest.fixture(scope="module")
def servable(base_path: Path) -> SavedModelServable:
    return SavedModelRuntime(["serve"]).load(base_path / "1", None)


def predict(servable: SavedModelServable, signature: str, **inputs: Any) -> Any:
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    [result] = run_batch(servable, signature, [servable.prepare(signature, arrays)])
    if isinstance(result, Exception):
        raise result
    return result


def test_runs_every_signature(servable: SavedModelServable) -> None:
    outputs = predict(servable, "serving_default", x=np.ones((2, 3), np.float32))
    assert outputs["y"].tolist() == [[2.5] * 3] * 2
    outputs = predict(servable, "lower", text=np.array([b"ABC", b""], dtype=object))
    assert outputs["lower"].tolist() == [b"abc", b""]
    assert outputs["length"].tolist() == [3, 0]


def test_an_empty_batch_has_an_empty_answer(servable: SavedModelServable) -> None:
    outputs = predict(servable, "serving_default", x=np.ones((0, 3), np.float32))
    assert outputs["y"].shape == (0, 3)


def test_requests_are_joined(servable: SavedModelServable) -> None:
    items = [
        servable.prepare("serving_default", {"x": np.full((rows, 3), rows, np.float32)})
        for rows in (1, 2)
    ]
    first, second = run_batch(servable, "serving_default", items)
    assert first["y"].tolist() == [[2.5] * 3]
    assert second["y"].tolist() == [[3.0] * 3] * 2


def test_metadata_is_the_files_own(servable: SavedModelServable) -> None:
    described = servable.signature_defs().signature_def
    assert {"serving_default", "lower", "__saved_model_init_op"} <= set(described)
    assert described["serving_default"].method_name == "tensorflow/serving/predict"
    assert "__saved_model_init_op" not in servable.signatures


def test_names_are_checked_against_the_signature(servable: SavedModelServable) -> None:
    with pytest.raises(ContractError, match=r"input size does not match signature: 2!=1"):
        predict(servable, "serving_default", x=np.ones(3), y=np.ones(3))
    name = re.escape("Signature input alias: x(feed name: serving_default_x:0) not found")
    with pytest.raises(ContractError, match=name):
        predict(servable, "serving_default", y=np.ones(3))


def test_dtypes_are_the_graphs_business(servable: SavedModelServable) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        predict(servable, "serving_default", x=np.ones((1, 3), np.int32))
    assert caught.value.message == "Expects arg[0] to be float but int32 is provided"


@pytest.mark.parametrize("shape", [(3,), (1,), (), (2, 2, 3)])
def test_every_shape_that_the_graph_takes_keeps_its_rank(
    servable: SavedModelServable, shape: tuple[int, ...]
) -> None:
    outputs = predict(servable, "serving_default", x=np.ones(shape, np.float32))
    assert outputs["y"].shape == shape
    assert (outputs["y"] == 2.5).all()


def test_shapes_that_do_not_fit_are_the_graphs_error(servable: SavedModelServable) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        predict(servable, "product", x=np.ones((2, 5), np.float32))
    text = "Matrix size-incompatible: In[0]: [2,5], In[1]: [3,1]\n\t [[{{node "
    assert caught.value.message.startswith(text)


def test_requests_of_different_dtypes_are_not_joined(servable: SavedModelServable) -> None:
    keys = {
        servable.prepare("serving_default", {"x": np.ones((1, 3), dtype)}).batch_key
        for dtype in (np.float32, np.int32, np.float32)
    }
    assert len(keys) == 2


def test_scalars_stay_arrays(servable: SavedModelServable) -> None:
    outputs = predict(servable, "lower", text=np.array(b"ABC", dtype=object))
    assert (outputs["lower"].shape, outputs["lower"].dtype) == ((), np.dtype(object))
    assert outputs["lower"].item() == b"abc"
    assert outputs["length"].shape == ()


def test_quantised_tensors_are_their_integers(tmp_path: Path) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.qint8, [None])
        y = tf.identity(x)
        v1.saved_model.simple_save(session, str(tmp_path / "1"), {"x": x}, {"y": y})
    servable = SavedModelRuntime(["serve"]).load(tmp_path / "1", None)
    outputs = predict(servable, "serving_default", x=np.int8([1, -2]))
    assert (outputs["y"].dtype, outputs["y"].tolist()) == (np.int8, [1, -2])


def test_short_runs_stay_in_one_thread(servable: SavedModelServable) -> None:
    x = np.ones((1, 3), np.float32)
    answers = {predict(servable, "product", x=x)["y"].item() for _ in range(100)}
    assert answers == {3.0}
    short = servable._served["product"]
    assert short._runs_on_threads < 16


def test_long_runs_go_to_threads_and_count_as_work(servable: SavedModelServable) -> None:
    inputs = servable.prepare("powers", {"rounds": np.array([200], np.int32)}).tensors
    times = []
    for _ in range(4):
        started = work_time()
        assert servable.run("powers", inputs)["y"].tolist() == [1]
        times.append(work_time() - started)
    assert servable._served["powers"]._runs_on_threads > 0
    assert min(times) > 0.001


def test_arrays_of_any_layout(servable: SavedModelServable) -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2).T
    outputs = predict(servable, "serving_default", x=x)
    np.testing.assert_array_equal(outputs["y"], x / 2 + 2)


def test_errors_of_the_graph_keep_their_status(servable: SavedModelServable) -> None:
    with pytest.raises(InvalidRequestError):
        predict(servable, "strict", index=np.array([7], np.int32))


def test_unknown_tags_and_broken_files(base_path: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"matching supplied tags: { gpu }.*\['serve'\]"):
        SavedModelRuntime(["gpu"]).load(base_path / "1", None)
    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(DataLossError, match="Can not read the SavedModel"):
        SavedModelRuntime(["serve"]).load(tmp_path, None)


def test_a_model_of_tensorflow_1(tmp_path: Path) -> None:
    servable = SavedModelRuntime(["serve"]).load(write_half_plus_two(tmp_path / "1"), None)
    assert {"serving_default", "regress", "classify"} <= set(servable.signatures)
    described = servable.signature_defs().signature_def
    assert described["classify"].method_name == "tensorflow/serving/classify"
    outputs = predict(servable, "serving_default", x=np.float32([[2], [4]]))
    assert outputs["y"].tolist() == [[3], [4]]
    with pytest.raises(ContractError, match=r"x\(feed name: x:0\) not found in request"):
        predict(servable, "serving_default", y=np.float32([2]))


@pytest.mark.parametrize(
    ("tags", "numbers"), [(["serve"], [1, -1]), (["serve", "long"], [101, 99])]
)
def test_tables_assets_and_tags(tmp_path: Path, tags: list[str], numbers: list[int]) -> None:
    servable = SavedModelRuntime(tags).load(write_vocabulary(tmp_path / "1"), None)
    words = np.array([b"bad", b"ugly"], dtype=object)
    assert predict(servable, "serving_default", word=words)["id"].tolist() == numbers


def test_inputs_with_defaults_may_be_left_out(base_path: Path, tmp_path: Path) -> None:
    shutil.copytree(base_path / "1", tmp_path / "1")
    file = tmp_path / "1" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    signature = model.meta_graphs[0].signature_def["serving_default"]
    signature.defaults["x"].CopyFrom(tf.make_tensor_proto([[1.0, 2.0, 3.0]]))
    file.write_bytes(model.SerializeToString())
    servable = SavedModelRuntime(["serve"]).load(tmp_path / "1", None)
    assert predict(servable, "serving_default")["y"].tolist() == [[2.5, 3, 3.5]]


def test_signatures_that_can_not_be_run_are_left_out(base_path: Path, tmp_path: Path) -> None:
    shutil.copytree(base_path / "1", tmp_path / "1")
    file = tmp_path / "1" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    model.meta_graphs[0].signature_def["lower"].inputs["text"].name = "nowhere:0"
    file.write_bytes(model.SerializeToString())
    servable = SavedModelRuntime(["serve"]).load(tmp_path / "1", None)
    assert set(servable.signatures) == {"serving_default", "strict", "product", "powers"}


def test_a_closed_version_does_not_run(base_path: Path) -> None:
    servable = SavedModelRuntime(["serve"]).load(base_path / "1", None)
    servable.close()
    with pytest.raises(FailedPreconditionError, match="unloaded"):
        predict(servable, "serving_default", x=np.ones((1, 3), np.float32))


async def test_a_whole_server_over_a_saved_model(base_path: Path, start_server) -> None:
    running = await start_server(model_name="tf", model_base_path=str(base_path))
    x = np.ones((1, 3), np.float32)
    outputs = await running.outputs("tf", {"x": x})
    assert outputs["y"].tolist() == [[2.5] * 3]
    request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "tf"
    response = await running.stub(services.GET_MODEL_METADATA)(request)
    described = messages.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(described)
    assert "lower" in described.signature_def
