"""A live server with a SavedModel `tf` and an ONNX model `onnx`, asked over real sockets."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto as OnnxTensor
from onnx import helper, numpy_helper

from serving.flags import ServerFlags
from serving.server import ModelServer

ECHOED = (
    "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool",
    "string", "float16", "bfloat16", "uint16", "complex64",
)  # fmt: skip
CALL_TIMEOUT_S = 60


@dataclass(frozen=True)
class Reply:
    """An answer as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The error's text, of a document that has nothing else."""
        [(key, message)] = self.document.items()
        assert key == "error"
        return message


@dataclass(frozen=True)
class Live:
    """A server in a thread."""

    port: int

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | str | dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        data = json.dumps(body) if isinstance(body, dict) else body
        data = data.encode() if isinstance(data, str) else data
        connection = http.client.HTTPConnection("localhost", self.port, timeout=CALL_TIMEOUT_S)
        try:
            connection.request(method, path, data, dict(headers or {}))
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Reply:
        return self.ask("GET", path)

    def post(self, path: str, body: Any = None, **headers: str) -> Reply:
        return self.ask("POST", path, body, headers)

    def predict(self, body: Any, signature: str = "", model: str = "tf") -> Reply:
        """Asks for a prediction; a dict gets the signature's name."""
        if signature:
            body = {"signature_name": signature, **body}
        return self.post(f"/v1/models/{model}:predict", body)


def _signatures(tf: Any, module: Any) -> dict[str, Any]:
    features = {
        "x": tf.io.FixedLenFeature([], tf.float32, 0.0),
        "k": tf.io.FixedLenFeature([], tf.float32, 1.0),
        "label": tf.io.FixedLenFeature([], tf.string, ""),
    }

    def spec(name: str, dtype: Any = tf.float32, shape: Any = None) -> Any:
        return tf.TensorSpec(shape, dtype, name=name)

    def signature(*specs: Any) -> Callable[[Any], Any]:
        return tf.function(input_signature=list(specs))

    @signature(spec("x"))
    def half_plus_two(x: Any) -> Any:
        return {"y": x / 2 + module.offset}

    @signature(spec("a"), spec("b", tf.string))
    def two(a: Any, b: Any) -> Any:
        return {"a": a, "b": b}

    @signature(spec("s", tf.string))
    def both(s: Any) -> Any:
        return {"s_bytes": s, "text": s}

    @signature(spec("x"))
    def total(x: Any) -> Any:
        return {"total": tf.reduce_sum(x)}

    @signature(spec("x", shape=[None]))
    def uneven(x: Any) -> Any:
        return {"y": x, "z": x[:1]}

    @signature(spec("x", shape=[None]))
    def none(x: Any) -> Any:
        return {"y": x[:0]}

    @signature(spec("x", tf.int32, [None]))
    def slow(x: Any) -> Any:
        state = tf.eye(300)
        for _ in tf.range(x[0]):
            state = tf.matmul(state, state)
        return {"y": tf.cast(x, tf.float32) + 0 * state[0, :1]}

    @signature(spec("inputs", tf.string, [None]))
    def classified(inputs: Any) -> Any:
        parsed = tf.io.parse_example(inputs, features)
        scores = tf.stack([parsed["x"], parsed["x"] * parsed["k"]], axis=1)
        labels = tf.stack([parsed["label"], tf.fill(tf.shape(parsed["label"]), "other")], axis=1)
        return {"classes": labels, "scores": scores}

    @signature(spec("inputs", tf.string, [None]))
    def regressed(inputs: Any) -> Any:
        return {"outputs": tf.io.parse_example(inputs, features)["x"] / 2 + 2}

    echoes = {
        f"echo_{name}": signature(spec("x", tf.dtypes.as_dtype(name)))(
            lambda x: {"y": tf.identity(x)}
        )
        for name in ECHOED
    }
    return {
        "serving_default": half_plus_two, "two": two, "both": both, "total": total,
        "uneven": uneven, "none": none, "slow": slow, "classified": classified,
        "regressed": regressed, **echoes,
    }  # fmt: skip


@pytest.fixture(scope="session")
def repository_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("rest")
    tf = pytest.importorskip("tensorflow")
    module = tf.Module()
    module.offset = tf.Variable(2.0)
    tf.saved_model.save(module, str(base / "tf" / "3"), signatures=_signatures(tf, module))
    two = {"serving_default": _signatures(tf, module)["two"]}
    tf.saved_model.save(module, str(base / "two" / "1"), signatures=two)
    for version, offset in ((1, 2.0), (2, 3.0)):
        _save_onnx(base / "onnx" / str(version), offset)
    (base / "empty").mkdir()
    return base


def _save_onnx(folder: Path, offset: float) -> None:
    """y = x / 2 + offset, float32 [n]."""
    constants = {"half": 0.5, "offset": offset}
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "half"], ["scaled"]),
            helper.make_node("Add", ["scaled", "offset"], ["y"]),
        ],
        "half_plus_two",
        [helper.make_tensor_value_info("x", OnnxTensor.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", OnnxTensor.FLOAT, ["n"])],
        [numpy_helper.from_array(np.float32(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    folder.mkdir(parents=True)
    onnx.save(model, str(folder / "model.onnx"))


@pytest.fixture(scope="session")
def config_file(repository_folder: Path) -> Path:
    path = repository_folder / "models.config"
    onnx_versions = "model_version_policy { all {} } version_labels { key: 'stable' value: 1 }"
    path.write_text(
        "model_config_list {\n"
        + "".join(
            f"config {{ name: '{name}' base_path: '{repository_folder / name}' "
            f"model_platform: 'tensorflow' {more} }}\n"
            for name, more in (("tf", ""), ("two", ""), ("onnx", onnx_versions), ("empty", ""))
        )
        + "}\n"
    )
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(flags: ServerFlags) -> Iterator[Live]:
    """Runs a server on an event loop in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def wait_for(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(CALL_TIMEOUT_S)

    async def start() -> ModelServer:
        server = ModelServer(flags)
        await server.start()
        return server

    server = wait_for(start())
    try:
        yield Live(flags.rest_api_port)
    finally:
        wait_for(server.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CALL_TIMEOUT_S)
        loop.close()


@pytest.fixture(scope="session")
def serve(config_file: Path) -> Iterator[Callable[..., Live]]:
    """Starts a server with more flags."""
    with ExitStack() as stack:

        def start(**flags: Any) -> Live:
            chosen = {
                "port": 0,
                "rest_api_port": _free_port(),
                "model_config_file": str(config_file),
                "allow_version_labels_for_unavailable_models": True,
            }
            return stack.enter_context(_running(ServerFlags(**(chosen | flags))))

        yield start


@pytest.fixture(scope="session")
def live(serve: Callable[..., Live]) -> Live:
    """A server with the default flags."""
    return serve()
