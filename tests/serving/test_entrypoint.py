"""The image's entry point starts a server as TensorFlow Serving's image does."""

import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("environment", "model"),
    [
        ({}, ("model", "/models/model")),
        ({"MODEL_NAME": "a", "MODEL_BASE_PATH": "/b"}, ("a", "/b/a")),
    ],
)
def test_the_model_comes_from_the_environment(
    repository: Path, tmp_path: Path, environment: dict[str, str], model: tuple[str, str]
) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    shown = subprocess.run(
        ["/bin/sh", str(repository / "serving/docker/entrypoint.sh"), "--enable_batching", "a b"],
        env={"PATH": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    name, base_path = model
    assert shown.stdout.splitlines() == [
        "-m",
        "serving",
        "--port=8500",
        "--rest_api_port=8501",
        f"--model_name={name}",
        f"--model_base_path={base_path}",
        "--enable_batching",
        "a b",
    ]
