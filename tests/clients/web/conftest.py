"""Transports to the fake server, and the page in a real browser."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from clients import ClientConfig
from clients.web.timing import TimedTransport
from protocol import services

CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
START_TIMEOUT_S = 60.0
WAIT_MS = 30_000


@pytest.fixture
async def transport(config: ClientConfig) -> AsyncIterator[TimedTransport]:
    """A transport to the fake server."""
    timed = TimedTransport(config)
    yield timed
    await timed.close()


def tell_times(server: Any, header: str) -> None:
    """Makes a fake server tell times to those who ask, as the embedded server does."""
    answer = server.behaviours[services.PREDICT]

    def behave(request: Any, context: grpc.ServicerContext) -> Any:
        if "x-server-timing" in dict(context.invocation_metadata()):
            context.set_trailing_metadata((("server-timing", header),))
        return answer(request, context)

    server.behaviours[services.PREDICT] = behave


@contextmanager
def web_page(target: str, log: Path) -> Iterator[str]:
    """Runs the page for a model server in a process of its own; gives the page's address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "clients.web", "--target", target, "--timeout", "20"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    # NiceGUI runs differently where it sees pytest.
    environment = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    try:
        _wait_until_it_listens(port, process, log)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(START_TIMEOUT_S)


def _wait_until_it_listens(port: int, process: "subprocess.Popen[Any]", log: Path) -> None:
    give_up = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up:
        if process.poll() is not None:
            pytest.fail(f"the page ended with {process.returncode}: {log.read_text()}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"the page does not listen after {START_TIMEOUT_S:g} s: {log.read_text()}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; no test of asyncio can run while it is there."""
    playwright = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.skip(f"no Chromium: none of {', '.join(CHROMIUM)} is installed")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()
