"""`model.tflite`, written by TensorFlow's converter."""

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol import messages
from protocol.errors import (
    ContractError,
    DataLossError,
    FailedPreconditionError,
    InvalidRequestError,
)
from serving.core.batch_run import run_batch

tf = pytest.importorskip("tensorflow")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

import flatbuffers  # noqa: E402
from flatbuffers import flexbuffers  # noqa: E402

from serving.runtimes.litert import InterpreterPool, LiteRtRuntime, LiteRtServable  # noqa: E402


def half_plus_two(x: Any) -> Any:
    return {"y": x / 2 + 2, "z": -x}


def first_words(text: Any) -> Any:
    return {"first": tf.gather(text, [0, 0])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The signatures serving_default (x -> y, z) and words (text -> first, the first one twice)."""
    base = tmp_path_factory.mktemp("litert")
    module = tf.Module()
    module.half = tf.function(half_plus_two, [tf.TensorSpec([None, 3], tf.float32, "x")])
    module.words = tf.function(first_words, [tf.TensorSpec([None], tf.string, "text")])
    signatures = {"serving_default": module.half, "words": module.words}
    tf.saved_model.save(module, str(base / "saved_model"), signatures=signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(base / "saved_model"), signature_keys=list(signatures)
    )
    return write(base / "1", converter)


def write(folder: Path, converter: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.tflite").write_bytes(converter.convert())
    return folder


@pytest.fixture(scope="module")
def unsigned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = x / 2 + 2 of a fixed size, and no signature."""
    function = tf.function(lambda x: x / 2 + 2, [tf.TensorSpec([1, 3], tf.float32, "x")])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    return write(tmp_path_factory.mktemp("unsigned") / "1", converter)


@pytest.fixture
def servable(folder: Path) -> LiteRtServable:
    return LiteRtRuntime(2).load(folder, None)


def predict(servable: LiteRtServable, signature: str, **inputs: Any) -> Any:
    [result] = run_batch(servable, signature, [servable.prepare(signature, inputs)])
    if isinstance(result, Exception):
        raise result
    return result


def test_runs_every_signature(servable: LiteRtServable) -> None:
    for rows in (1, 3, 0, 2):
        outputs = predict(servable, "serving_default", x=np.ones((rows, 3), np.float32))
        assert outputs["y"].tolist() == [[2.5] * 3] * rows
        assert outputs["z"].tolist() == [[-1] * 3] * rows
    words = np.array([b"a\0b", b"c"], dtype=object)
    assert predict(servable, "words", text=words)["first"].tolist() == [b"a\0b"] * 2


def test_signatures_are_described(servable: LiteRtServable) -> None:
    spec = servable.signatures["serving_default"]
    assert [f"{tensor.name} {tensor}" for tensor in spec.inputs] == ["x float32[?,3]"]
    assert [tensor.name for tensor in spec.outputs] == ["y", "z"]
    described = servable.signature_defs().signature_def
    assert set(described) == {"serving_default", "words"}


def test_a_file_without_signatures_has_its_tensors_names(unsigned: Path) -> None:
    servable = LiteRtRuntime().load(unsigned, None)
    [(name, spec)] = servable.signatures.items()
    assert (name, [tensor.name for tensor in spec.inputs]) == ("serving_default", ["x"])
    [(_, values)] = predict(servable, name, x=np.ones((2, 3), np.float32)).items()
    assert values.tolist() == [[2.5] * 3] * 2


def test_every_shape_that_the_graph_takes_keeps_its_rank(unsigned: Path) -> None:
    servable = LiteRtRuntime().load(unsigned, None)
    for shape in ((3,), (2, 2), (2, 1, 3), ()):
        [values] = predict(servable, "serving_default", x=np.ones(shape, np.float32)).values()
        assert values.shape == shape
        assert (values == 2.5).all()


def add_signature_defs(folder: Path, definitions: dict[str, Any]) -> None:
    """Writes SignatureDefs into the file's metadata, as TensorFlow Serving reads them."""
    builder = flexbuffers.Builder()
    with builder.Map():
        for name, definition in definitions.items():
            builder.Key(name)
            builder.String(definition.SerializeToString().decode())
    path = folder / "model.tflite"
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes()))
    model.buffers.append(schema.BufferT())
    model.buffers[-1].data = list(builder.Finish())
    entry = schema.MetadataT()
    entry.name, entry.buffer = "signature_defs_metadata", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    packed = flatbuffers.Builder()
    packed.Finish(model.Pack(packed), b"TFL3")
    path.write_bytes(packed.Output())


def test_signatures_in_the_metadata_come_first(unsigned: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(unsigned, tmp_path / "1"))
    [tensor] = LiteRtRuntime().load(unsigned, None).signatures["serving_default"].outputs
    definition = messages.SignatureDef()
    definition.inputs["number"].name = "x:0"
    definition.outputs["half"].name = tensor.name
    add_signature_defs(folder, {"halve": definition})
    servable = LiteRtRuntime().load(folder, None)
    assert list(servable.signatures) == ["halve"]
    outputs = predict(servable, "halve", number=np.ones((1, 3), np.float32))
    assert outputs["half"].tolist() == [[2.5] * 3]
    definition.outputs["half"].name = "nowhere"
    add_signature_defs(Path(shutil.copytree(unsigned, tmp_path / "2")), {"halve": definition})
    with pytest.raises(ContractError, match="There is no tensor nowhere; tensors: "):
        LiteRtRuntime().load(tmp_path / "2", None)


def test_requests_are_joined(servable: LiteRtServable) -> None:
    items = [
        servable.prepare("serving_default", {"x": np.full((rows, 3), rows, np.float32)})
        for rows in (1, 2)
    ]
    first, second = run_batch(servable, "serving_default", items)
    assert first["y"].tolist() == [[2.5] * 3]
    assert second["y"].tolist() == [[3.0] * 3] * 2


def test_wrong_inputs_are_refused(servable: LiteRtServable) -> None:
    with pytest.raises(ContractError, match=r"Expects arg\[0\] to be float but int32 is provided"):
        predict(servable, "serving_default", x=np.ones((1, 3), np.int32))
    with pytest.raises(ContractError, match="input size does not match signature: 0!=1"):
        predict(servable, "serving_default")


def test_errors_of_the_graph_are_the_callers(servable: LiteRtServable) -> None:
    with pytest.raises(InvalidRequestError, match="The graph can not run these inputs"):
        predict(servable, "words", text=np.array([], dtype=object))
    assert predict(servable, "words", text=np.array([b"a"], dtype=object))


def test_a_damaged_file_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"no model")
    with pytest.raises(DataLossError, match="LiteRT can not load"):
        LiteRtRuntime().load(tmp_path, None)


def test_a_closed_version_does_not_run(servable: LiteRtServable) -> None:
    servable.close()
    with pytest.raises(FailedPreconditionError, match="unloaded"):
        predict(servable, "serving_default", x=np.ones((1, 3), np.float32))


def test_interpreters_take_turns(folder: Path) -> None:
    pool = InterpreterPool(folder / "model.tflite", kept=2, threads=1)
    three = [pool.take() for _ in range(3)]
    assert len(set(map(id, three))) == 3
    for interpreter in three:
        pool.put_back(interpreter)
    again = [pool.take() for _ in range(3)]
    assert len({*map(id, three)} & {*map(id, again)}) == 2


def test_runs_side_by_side(servable: LiteRtServable) -> None:
    wrong: list[Any] = []

    def run(value: int) -> None:
        x = np.full((1, 3), value, np.float32)
        answers = [predict(servable, "serving_default", x=x)["y"] for _ in range(200)]
        wrong.extend(answer for answer in answers if (answer != value / 2 + 2).any())

    threads = [threading.Thread(target=run, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


async def test_a_whole_server_over_a_lite_model(folder: Path, start_server) -> None:
    running = await start_server(
        model_name="lite", model_base_path=str(folder.parent), prefer_tflite_model=True
    )
    outputs = await running.outputs("lite", {"x": np.ones((1, 3), np.float32)})
    assert outputs["y"].tolist() == [[2.5] * 3]
