"""A server process under test, its models, and raw calls to it."""

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil

from protocol.messages import PredictRequest
from protocol.services import PREDICT
from protocol.tensors import to_tensor_proto
from tests.serving.graphs import half_plus_two_graph, save_graph

MODEL = "half"


@dataclass
class Server:
    """A running `python -m serving`.

    Attributes:
        port: of gRPC.
        rest_port: of HTTP.
        process: the server.
    """

    port: int
    rest_port: int
    process: asyncio.subprocess.Process

    @property
    def memory_mb(self) -> float:
        """Resident memory."""
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.returncode is None

    def channel(self) -> Any:
        """Opens a connection of its own."""
        return grpc.aio.insecure_channel(
            f"localhost:{self.port}", [("grpc.use_local_subchannel_pool", 1)]
        )


@asynccontextmanager
async def running_server(base: Path, face: str, *flags: str) -> AsyncIterator[Server]:
    """Starts a server of the models in `base/models.config`; stops it at the end."""
    port, rest_port = _free_port(), _free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "serving", f"--port={port}", f"--rest_api_port={rest_port}",
        f"--grpc_face={face}", f"--model_config_file={base / 'models.config'}",
        "--file_system_poll_wait_seconds=0.2", "--load_retry_interval_micros=200000", *flags,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    server = Server(port, rest_port, process)
    try:
        await _until_it_listens(server)
        yield server
    finally:
        if server.is_running:
            process.send_signal(signal.SIGKILL)
            await process.wait()


async def _until_it_listens(server: Server) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", server.rest_port)
            except OSError:
                if not server.is_running:
                    raise SystemExit("error: the server did not start") from None
                await asyncio.sleep(0.1)
                continue
            writer.close()
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def write_config(base: Path, *names: str) -> Path:
    """Replaces the list of models at once."""
    models = "".join(
        f'config {{ name: "{name}" base_path: "{base / name}" model_platform: "tensorflow" }}\n'
        for name in names
    )
    staged = base / "models.config.new"
    staged.write_text(f"model_config_list {{\n{models}}}\n")
    return staged.rename(base / "models.config")


def publish(base: Path, version: int, name: str = MODEL) -> None:
    """Writes a version whose answer tells it: y = x / 2 + version."""
    staged = base / f".{name}-{version}"
    save_graph(staged, half_plus_two_graph(float(version)))
    (base / name).mkdir(exist_ok=True)
    staged.rename(base / name / str(version))


def publish_broken(base: Path, version: int, name: str = MODEL) -> None:
    """Writes a version that can not be loaded."""
    folder = base / name / str(version)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(os.urandom(1000))


def retire(base: Path, version: int, name: str = MODEL) -> None:
    """Removes a version at once."""
    gone = base / f".gone-{name}-{version}"
    (base / name / str(version)).rename(gone)
    shutil.rmtree(gone)


def predict_request(value: float, name: str = MODEL) -> PredictRequest:
    """x float32 [1, 3], all of one value."""
    request = PredictRequest()
    request.model_spec.name = name
    request.inputs["x"].CopyFrom(to_tensor_proto(np.full((1, 3), value, np.float32)))
    return request


def predict_stub(channel: Any) -> Any:
    """Predict on a channel."""
    return channel.unary_unary(
        PREDICT.path, PREDICT.request.SerializeToString, PREDICT.response.FromString
    )
