"""The package as a whole: what importing it costs."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

import clients

HEAVY = (
    "PIL",
    "tensorflow",
    "keras",
    "onnxruntime",
    "aiohttp",
    "prometheus_client",
    "serving",
    "models",
)


def run_python(repository: Path, *arguments: str) -> str:
    process = subprocess.run(
        [sys.executable, *arguments], cwd=repository, capture_output=True, text=True, timeout=180
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.parametrize("module", ["clients", "clients.command_line", "clients.metrics"])
def test_import_is_light(repository: Path, module: str) -> None:
    code = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    assert run_python(repository, "-c", code).split() == []


def cpu_seconds(repository: Path, *arguments: str) -> float:
    """Returns what a Python process costs; CPU time, because others share the machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run_python(repository, *arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_costs_little_more_than_numpy_and_grpc(repository: Path) -> None:
    libraries = "import numpy.typing, grpc.aio, google.protobuf.text_format, sqlite3, ml_dtypes"
    ours = min(cpu_seconds(repository, "-m", "clients", "--help") for _ in range(2))
    theirs = min(cpu_seconds(repository, "-c", libraries) for _ in range(2))
    assert ours < 2 * theirs


def test_all_names_exist() -> None:
    assert all(hasattr(clients, name) for name in clients.__all__)
