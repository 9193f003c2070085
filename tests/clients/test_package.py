"""The package as a whole: what importing it costs."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

import clients

HEAVY = ("tensorflow", "keras", "onnxruntime", "aiohttp", "prometheus_client", "serving", "models")


def run_python(repository: Path, *arguments: str) -> str:
    process = subprocess.run(
        [sys.executable, *arguments], cwd=repository, capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.parametrize("module", ["clients", "clients.command_line", "clients.metrics"])
def test_import_is_light(repository: Path, module: str) -> None:
    code = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    assert run_python(repository, "-c", code).split() == []


def test_help_starts_in_half_a_second(repository: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "sentiment" in run_python(repository, "-m", "clients", "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # CPU time: other processes share the machine.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_all_names_exist() -> None:
    assert all(hasattr(clients, name) for name in clients.__all__)
