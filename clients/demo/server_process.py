"""The embedded server as a child process on free ports, for demos and measurements."""

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from google.protobuf import text_format

from clients.config import ClientConfig
from clients.predict import PredictClient
from protocol.errors import ServiceError
from protocol.messages import ModelServerConfig

METRICS_PATH = "/monitoring/prometheus/metrics"
_POLL_S = 0.1
_STOP_TIMEOUT_S = 40.0  # the server lets requests under way finish for 30 s
_LOG_LINES = 20


class ServerStartError(RuntimeError):
    """The server ended, or was not serving in time; the message shows the end of its log."""


class ServerProcess:
    """Starts `python -m serving` for some models of a repository; a context manager.

    The server is a child in a session of its own, so that Ctrl-C reaches it only through us, and
    it is stopped when the context ends for whatever reason.

    Args:
        repository: Folder with one folder a model, which holds one folder a version.
        models: Names of the models to serve.
        flags: Further command-line flags of the server.
    """

    def __init__(self, repository: Path, models: Sequence[str], flags: Sequence[str] = ()) -> None:
        self._repository = repository
        self._models = models
        self._flags = flags
        self._grpc_port, self._http_port = _free_ports(2)
        self._folder = tempfile.TemporaryDirectory(prefix="serving-")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        """The gRPC address."""
        return f"localhost:{self._grpc_port}"

    @property
    def metrics_url(self) -> str:
        """Where the metrics are."""
        return f"http://localhost:{self._http_port}{METRICS_PATH}"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        return self._running().pid

    def __enter__(self) -> "ServerProcess":
        config = Path(self._folder.name, "models.config")
        config.write_text(model_config(self._repository, self._models), encoding="utf-8")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(config), stdout=log, stderr=log, start_new_session=True
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            self._folder.cleanup()

    def wait_until_serving(
        self, timeout_s: float, on_wait: Callable[[float], None] = lambda waited_s: None
    ) -> float:
        """Waits until the health check says SERVING.

        Args:
            timeout_s: Gives up after so many seconds.
            on_wait: Is told now and then how many seconds have passed.

        Returns:
            The seconds it took.

        Raises:
            ServerStartError: The server ended, or is not serving in time.
        """
        started = time.monotonic()
        with PredictClient(ClientConfig(self.target, timeout_s=1.0, max_retries=0)) as client:
            while not _is_serving(client):
                waited_s = time.monotonic() - started
                code = self._running().poll()
                if code is not None:
                    raise ServerStartError(f"the server ended with code {code}\n{self.log_tail()}")
                if waited_s > timeout_s:
                    raise ServerStartError(
                        f"the server is not serving after {timeout_s:g} s\n{self.log_tail()}"
                    )
                on_wait(waited_s)
                time.sleep(_POLL_S)
        return time.monotonic() - started

    def log_tail(self, lines: int = _LOG_LINES) -> str:
        """Returns the last lines the server wrote."""
        text = self._log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:]) or "(its log is empty)"

    def stop(self) -> int:
        """Asks the server to end (SIGTERM) and returns its exit code; kills it if it does not."""
        process = self._running()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass  # the exit code will tell
        finally:  # also after Ctrl-C while it drains: nothing may stay behind
            process.kill()
        return process.wait()

    @property
    def _log(self) -> Path:
        return Path(self._folder.name, "server.log")

    def _command(self, config: Path) -> list[str]:
        return [
            sys.executable,
            "-m",
            "serving",
            f"--port={self._grpc_port}",
            f"--rest_api_port={self._http_port}",
            f"--model_config_file={config}",
            "--enable_batching",
            "--enable_grpc_healthcheck_service",
            *self._flags,
        ]

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise RuntimeError("the server was not started: use it in a with statement")
        return self._process


def model_config(repository: Path, models: Sequence[str]) -> str:
    """Returns the text of a model_config_file for some models of a repository."""
    config = ModelServerConfig()
    for name in models:
        config.model_config_list.config.add(
            name=name,
            base_path=str((repository / name).resolve()),
            model_platform="tensorflow",
        )
    return text_format.MessageToString(config)


def _is_serving(client: PredictClient) -> bool:
    try:
        return client.health() == "SERVING"
    except ServiceError:
        return False


def _free_ports(count: int) -> tuple[int, ...]:
    """Returns ports nobody listens on now; they are held together so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for held in sockets:
            held.bind(("", 0))
        return tuple(held.getsockname()[1] for held in sockets)
    finally:
        for held in sockets:
            held.close()
