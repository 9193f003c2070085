import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from clients.web.__main__ import build_parser, main
from clients.web.model_list import DEFAULT_MODELS


def test_what_the_stack_runs() -> None:
    arguments = build_parser().parse_args(["--target", "engine:8500", "--port", "7860"])
    assert (arguments.target, arguments.host, arguments.port) == ("engine:8500", "0.0.0.0", 7860)
    assert arguments.models == DEFAULT_MODELS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "detektion"], "model 'detektion': expected the name of a task"),
        (["--target", "http://engine:8500"], "target: expected host:port without a scheme"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_without_nicegui(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "clients.web.site", None)
    assert main(["--target", "localhost:8500"]) == 1
    assert "the page needs: pip install '.[web]'" in capsys.readouterr().err


def test_make_web(repository: Path, tmp_path: Path) -> None:
    settings = [f"VENV={tmp_path / 'venv'}", "PYTHON=python3", "PORT=9500", "WEB_PORT=9860"]
    printed = subprocess.run(
        ["make", "--dry-run", "web", *settings],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    [line] = [line for line in printed.splitlines() if " -m clients.web " in line]
    arguments = build_parser().parse_args(shlex.split(line.partition(" clients.web ")[2]))
    assert (arguments.target, arguments.port) == ("localhost:9500", 9860)
    assert arguments.host == "127.0.0.1"
