"""The command line against the fake server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clients.command_line import main
from tests.clients.fake_models import plain, png, red_box

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(server: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs main() against the fake server: exit status, standard output, standard error."""
    monkeypatch.setenv("SERVING_TARGET", server.target)

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two images: one with a red box, one without."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(red_box()))
    (folder / "b.png").write_bytes(png(plain(0, 0, 0)))
    return folder


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A folder of two people with two photos each."""
    folder = tmp_path / "people"
    for name, (red, green) in {"Ruby": (200, 20), "Olive": (20, 200)}.items():
        (folder / name).mkdir(parents=True)
        for number in (1, 2):
            photo = png(plain(red + number, green, 20))
            (folder / name / f"{number}.png").write_bytes(photo)
    return folder
