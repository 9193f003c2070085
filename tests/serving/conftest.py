"""Tiny models in real version folders, and servers that serve them on free ports.

`model_folders` writes version folders; `start_server` runs a server inside the test's event loop;
`server_process` runs `python -m serving` as its own process.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import onnx
import pytest

from protocol import messages, services
from protocol.contracts import FACE, SENTIMENT
from protocol.tensors import to_ndarray, to_tensor_proto
from protocol.tokenizer import WordTokenizer
from protocol.version_folder import WARMUP_FILE, Manifest
from protocol.warmup import write_warmup
from serving.flags import ServerFlags
from serving.server import ModelServer
from tests.serving.graphs import (
    WORDS,
    face_graph,
    half_plus_two_graph,
    lookup_graph,
    save_graph,
    sentiment_graph,
    slow_graph,
)

LABELS = ("negative", "positive")
START_TIMEOUT_S = 60
STEP_TIMEOUT_S = 20


def word_tokenizer(max_tokens: int = 40) -> WordTokenizer:
    rules = [(r"[^a-z]+", " ")]
    return WordTokenizer(WORDS, rules, max_tokens=max_tokens, head_tokens=max_tokens // 2)


def predict_request(
    model: str,
    inputs: dict[str, Any],
    *,
    version: int | None = None,
    label: str | None = None,
    signature: str = "",
    output_filter: tuple[str, ...] = (),
) -> Any:
    request = messages.PredictRequest(output_filter=output_filter)
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(to_tensor_proto(value))
    return request


@dataclass
class ModelFolders:
    """Writes version folders under `base`/NAME/VERSION; a version appears there all at once."""

    base: Path

    def model(self, name: str) -> Path:
        return self.base / name

    def half_plus_two(self, version: int, name: str = "half", offset: float = 2.0) -> Path:
        return self.publish(name, version, half_plus_two_graph(offset))

    def lookup(self, version: int = 1, name: str = "lookup") -> Path:
        return self.publish(name, version, lookup_graph())

    def slow(self, version: int = 1, name: str = "slow") -> Path:
        return self.publish(name, version, slow_graph())

    def broken(self, version: int, name: str = "half") -> Path:
        folder = self.base / name / str(version)
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(b"no model")
        return folder

    def sentiment(
        self,
        version: int = 1,
        name: str = "sentiment",
        *,
        manifest: Manifest | None = None,
        warmup: list[Any] | None = None,
    ) -> Path:
        staged = self.staging()
        save_graph(staged, sentiment_graph())
        word_tokenizer().save(staged / "assets")
        if warmup is not None:
            write_warmup(staged / WARMUP_FILE, warmup)
        (manifest or sentiment_manifest()).write(staged)
        return self.move(staged, name, version)

    def face(self, version: int = 1) -> Path:
        staged = self.staging()
        save_graph(staged, face_graph())
        values = {"task": "face", "model_name": "face", "signatures": FACE.signatures}
        sentiment_manifest(**values, labels=()).write(staged)
        return self.move(staged, "face", version)

    def publish(self, name: str, version: int, graph: onnx.GraphProto) -> Path:
        staged = self.staging()
        save_graph(staged, graph)
        return self.move(staged, name, version)

    def staging(self) -> Path:
        folder = self.base / ".staging"
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def move(self, staged: Path, name: str, version: int) -> Path:
        folder = self.base / name / str(version)
        folder.parent.mkdir(parents=True, exist_ok=True)
        return staged.rename(folder)

    def config_file(self, *names: str, text: str = "") -> Path:
        """A model config file with these models, or with this text."""
        path = self.base / "models.config"
        models = "".join(
            f'config {{ name: "{name}" base_path: "{self.model(name)}" '
            f'model_platform: "tensorflow" }}\n'
            for name in names
        )
        staged = path.with_suffix(".new")
        staged.write_text(text or f"model_config_list {{\n{models}}}\n")
        return staged.rename(path)


def sentiment_manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "task": "sentiment",
        "model_name": "sentiment",
        "created": "2026-01-01T00:00:00+00:00",
        "labels": LABELS,
        "signatures": SENTIMENT.signatures,
    }
    return Manifest(**(values | changes))


@pytest.fixture
def model_folders(tmp_path: Path) -> ModelFolders:
    return ModelFolders(tmp_path / "model_repository")


# Ports.


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def free_port() -> Callable[[], int]:
    return unused_port


# A server in the test's event loop.


@dataclass
class RunningServer:
    """A server in this process, with a channel to it."""

    server: ModelServer
    port: int
    rest_port: int
    channel: grpc.aio.Channel

    def stub(self, method: services.Method) -> Any:
        return services.stub(self.channel, method)

    async def predict(self, model: str, inputs: dict[str, Any], **choice: Any) -> Any:
        """Sends one Predict; gives the response message."""
        request = predict_request(model, inputs, **choice)
        return await self.stub(services.PREDICT)(request, timeout=STEP_TIMEOUT_S)

    async def outputs(self, model: str, inputs: dict[str, Any], **choice: Any) -> dict[str, Any]:
        """Sends one Predict; gives the arrays."""
        response = await self.predict(model, inputs, **choice)
        return {name: to_ndarray(proto) for name, proto in response.outputs.items()}

    async def states(self, model: str) -> dict[int, int]:
        """The state of each version, by GetModelStatus."""
        request = messages.GetModelStatusRequest()
        request.model_spec.name = model
        response = await self.stub(services.GET_MODEL_STATUS)(request, timeout=STEP_TIMEOUT_S)
        return {entry.version: entry.state for entry in response.model_version_status}

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition on the server's state, looking after every change."""
        async with asyncio.timeout(STEP_TIMEOUT_S):
            while not condition():
                await self.server.data_plane.changed()

    def state(self, model: str, version: int) -> int:
        """The state of a version, 0 if it was never seen."""
        try:
            return self.server.data_plane.status(model, version)[0].state
        except Exception:
            return 0


StartServer = Callable[..., Awaitable[RunningServer]]


@pytest.fixture
def grpc_face() -> str:
    """The face that servers speak gRPC through; modules ask for both by overriding it."""
    return "nghttp2"


@pytest.fixture
async def start_server(grpc_face: str) -> AsyncIterator[StartServer]:
    """Starts servers with the given flags, on free ports, polling folders 20 times a second."""
    async with AsyncExitStack() as stack:

        async def start(**flags: Any) -> RunningServer:
            defaults = {
                "port": unused_port(),
                "rest_api_port": unused_port(),
                "file_system_poll_wait_seconds": 0.05,
                "grpc_face": grpc_face,
            }
            chosen = ServerFlags(**(defaults | flags))
            server = ModelServer(chosen)
            stack.push_async_callback(server.stop)
            async with asyncio.timeout(START_TIMEOUT_S):
                await server.start()
            channel = grpc.aio.insecure_channel(f"localhost:{chosen.port}")
            await stack.enter_async_context(channel)
            return RunningServer(server, chosen.port, chosen.rest_api_port, channel)

        yield start


# A server of its own process.


@dataclass
class ServerProcess:
    """A running `python -m serving`."""

    process: subprocess.Popen[str]
    port: int
    rest_port: int
    log: list[str] = field(default_factory=list)
    _grown: threading.Condition = field(default_factory=threading.Condition)
    _ended: bool = False

    def read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._grown:
                self.log.append(line.rstrip("\n"))
                self._grown.notify_all()
        with self._grown:
            self._ended = True
            self._grown.notify_all()

    def wait_for_log(self, text: str) -> bool:
        """Waits until a line holds `text`; False if the process ends without it."""

        def is_there() -> bool:
            return self._ended or any(text in line for line in self.log)

        with self._grown:
            self._grown.wait_for(is_there, START_TIMEOUT_S)
        return any(text in line for line in self.log)

    def wait_until_ready(self) -> None:
        assert self.wait_for_log("Exporting HTTP/REST API"), "\n".join(self.log)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        return self.process.wait(START_TIMEOUT_S)


StartProcess = Callable[..., ServerProcess]


@pytest.fixture
def server_process(repository: Path, grpc_face: str) -> Iterator[StartProcess]:
    """Starts `python -m serving` with the given flags, on free ports, and waits until it serves."""
    running: list[ServerProcess] = []

    def start(*flags: str, wait: bool = True) -> ServerProcess:
        flags = (f"--grpc_face={grpc_face}", *flags)
        port, rest_port = unused_port(), unused_port()
        arguments = [f"--port={port}", f"--rest_api_port={rest_port}", *flags]
        process = subprocess.Popen(
            [sys.executable, "-m", "serving", *arguments],
            cwd=repository,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started = ServerProcess(process, port, rest_port)
        running.append(started)
        threading.Thread(target=started.read_log, daemon=True).start()
        if wait:
            started.wait_until_ready()
        return started

    yield start
    for started in running:
        if started.process.poll() is None:
            started.process.kill()
        started.process.wait()
        if started.process.stdout is not None:
            started.process.stdout.close()


# Helpers as fixtures, for test modules can not import this file.


@pytest.fixture(scope="session")
def make_request() -> Callable[..., Any]:
    """Makes a PredictRequest: `make_request(model, inputs, version=..., label=..., ...)`."""
    return predict_request


@pytest.fixture(scope="session")
def make_manifest() -> Callable[..., Manifest]:
    """Makes the manifest of the tiny sentiment model, with changes."""
    return sentiment_manifest


@pytest.fixture
async def running(model_folders, start_server) -> Any:
    """A server in the test's event loop with the models `half` and `sentiment`."""
    model_folders.half_plus_two(1)
    model_folders.sentiment()
    config = model_folders.config_file("half", "sentiment")
    return await start_server(model_config_file=str(config))
