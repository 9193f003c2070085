"""The one module of this folder that imports TensorFlow."""

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
from serving.core.batching import run_batch

tf = pytest.importorskip("tensorflow")

from serving.runtimes.saved_model import SavedModelRuntime, SavedModelServable  # noqa: E402


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

    base = tmp_path_factory.mktemp("saved_model")
    signatures = {"serving_default": half_plus_two, "lower": lower, "strict": strict}
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


def test_wrong_inputs_are_refused(servable: SavedModelServable) -> None:
    with pytest.raises(ContractError, match="expected float32"):
        predict(servable, "serving_default", x=np.ones((1, 3)))


def test_errors_of_the_graph_keep_their_status(servable: SavedModelServable) -> None:
    with pytest.raises(InvalidRequestError):
        predict(servable, "strict", index=np.array([7], np.int32))


def test_unknown_tags_and_broken_files(base_path: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"No graph with the tags \['gpu'\]"):
        SavedModelRuntime(["gpu"]).load(base_path / "1", None)
    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(DataLossError, match="Can not read the SavedModel"):
        SavedModelRuntime(["serve"]).load(tmp_path, None)


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
