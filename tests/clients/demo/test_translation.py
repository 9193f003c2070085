"""The demos of translation, against the fake server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clients.commands.images import PictureFolder
from clients.demo import __main__ as demo
from clients.demo import translation
from clients.demo.repository import PublishedModel, published_models
from clients.demo.tasks import DEMOS
from protocol.version_folder import Manifest

Show = Callable[[str], list[str]]


@pytest.fixture(autouse=True)
def short_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation, "_TIMED_S", 0.01)


@pytest.fixture
def show(server: Any, tmp_path: Path) -> Show:
    """Runs the demo of a model and returns its lines."""

    def call(name: str) -> list[str]:
        model = PublishedModel(name, 3, "translation", tmp_path / "version")
        return list(
            DEMOS["translation"](server.target, model, PictureFolder(tmp_path / "pictures"))
        )

    return call


def test_sentences(show: Show, tmp_path: Path) -> None:
    lines = show("translation")
    assert lines[0].split() == ["TEXT", "TRANSLATION", "SCORE", "TRUNCATED"]
    assert "SOFA. THE ON SLEEPING IS CAT THE" in lines[1]
    assert any(line.startswith("(empty)") for line in lines)
    assert [line.endswith("yes") for line in lines[1:10]] == [False] * 8 + [True]
    picture = tmp_path / "pictures" / "text.attention.png"
    assert f"  saved {picture}" in lines
    assert picture.is_file()
    assert "one at a time: p50" in lines[-2]
    assert "8 at a time: p50" in lines[-1]


def test_dates(show: Show) -> None:
    lines = show("translation_dates")
    assert lines[1].startswith("3 mai 1979")
    assert sum(line.endswith("no") for line in lines) == 10


def test_without_pictures(server: Any, tmp_path: Path) -> None:
    model = PublishedModel("translation", 3, "translation", tmp_path)
    lines = list(DEMOS["translation"](server.target, model, PictureFolder(None)))
    assert not any("saved" in line for line in lines)


def test_both_models_of_the_task_are_shown(
    server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("translation", "translation_dates"):
        version = tmp_path / name / "1"
        version.mkdir(parents=True)
        Manifest(task="translation", model_name=name, created="2025-01-01T00:00:00Z").write(version)
    models = published_models(tmp_path)
    assert all(demo._show_model(server.target, model, tmp_path / model.name) for model in models)
    output = capsys.readouterr().out
    assert "translation, version 1\n  TEXT" in output
    assert "translation_dates, version 1\n  TEXT" in output
    assert "3 mai 1979" in output
    assert (tmp_path / "translation_dates" / "text.attention.png").is_file()
