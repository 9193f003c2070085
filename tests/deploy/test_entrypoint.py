"""The image's entry point turns its environment into flags, as TensorFlow Serving's image does."""

import os
import subprocess
from pathlib import Path

import pytest

from serving import flags


@pytest.fixture
def arguments_of(repository: Path, tmp_path: Path):
    """Runs the entry point with a `python` that prints its arguments."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)

    def run(*arguments: str, **environment: str) -> list[str]:
        printed = subprocess.run(
            [repository / "serving" / "docker" / "entrypoint.sh", *arguments],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return printed.stdout.splitlines()

    return run


def test_the_model_comes_from_the_environment(arguments_of) -> None:
    module, name, *given = arguments_of(MODEL_NAME="sentiment", MODEL_BASE_PATH="/models")
    assert [module, name] == ["-m", "serving"]
    parsed = flags.parse(given)
    assert parsed.unknown == ()
    assert parsed.flags.model_name == "sentiment"
    assert parsed.flags.model_base_path == "/models/sentiment"
    assert (parsed.flags.port, parsed.flags.rest_api_port) == (8500, 8501)


def test_arguments_follow_as_they_are(arguments_of) -> None:
    given = arguments_of("--enable_batching", "--model_name=a b", MODEL_NAME="m")
    assert given[-2:] == ["--enable_batching", "--model_name=a b"]
