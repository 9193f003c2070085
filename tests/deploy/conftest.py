"""What tests of the stack share."""

import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack

import pytest


@pytest.fixture(scope="session")
def docker() -> str:
    """Docker's command, if an engine answers and there is a Compose that reads our file."""
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    for command, reason in (
        (("docker", "version"), "no Docker engine answers"),
        (("docker", "compose", "version"), "docker compose is not installed"),
    ):
        if subprocess.run(command, capture_output=True, timeout=20).returncode:
            pytest.skip(reason)
    return "docker"


@pytest.fixture
def free_ports() -> Callable[[int], list[int]]:
    """Gives so many TCP ports that nobody uses."""

    def find(count: int) -> list[int]:
        with ExitStack() as stack:
            probes = [stack.enter_context(socket.socket()) for _ in range(count)]
            for probe in probes:
                probe.bind(("127.0.0.1", 0))
            return [probe.getsockname()[1] for probe in probes]

    return find
