"""The demos of the vision models, against the fake server."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clients.commands.images import PictureFolder
from clients.demo import vision
from clients.demo.repository import PublishedModel
from clients.demo.tasks import DEMOS
from tests.clients.fake_models import plain, png, red_box

Show = Callable[[str], list[str]]


@pytest.fixture(autouse=True)
def short_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "_TIMED_S", 0.01)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    folder = tmp_path / "version" / "assets" / "samples"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def show(server: Any, samples: Path, tmp_path: Path) -> Iterator[Show]:
    """Runs the demo of a task and returns its lines."""

    def call(task: str) -> list[str]:
        model = PublishedModel(task, 3, task, tmp_path / "version")
        return list(DEMOS[task](server.target, model, PictureFolder(tmp_path / "pictures")))

    return call


@pytest.mark.parametrize("task", ["detection", "segmentation", "face"])
def test_without_samples_it_says_so(show: Show, samples: Path, task: str) -> None:
    assert show(task) == [f"nothing to send: there are no sample images in {samples}"]


def test_detection(show: Show, samples: Path, tmp_path: Path) -> None:
    (samples / "cells.png").write_bytes(png(red_box()))
    (samples / "empty.jpg").write_bytes(png(plain(0, 0, 0)))
    (samples / "licence.txt").touch()
    lines = show("detection")
    assert lines[:2] == ["cells.png: 1 red", f"  saved {tmp_path / 'pictures' / 'cells.boxes.png'}"]
    assert lines[2] == "empty.jpg: nothing found"
    assert "one at a time: p50" in lines[-2]
    assert "8 at a time: p50" in lines[-1]
    assert (tmp_path / "pictures" / "cells.boxes.png").is_file()


def test_segmentation(show: Show, samples: Path, tmp_path: Path) -> None:
    (samples / "slide.png").write_bytes(png(red_box()))
    lines = show("segmentation")
    assert lines[0] == "slide.png: background 90.0%, nucleus 10.0%"
    assert "  1 objects of class nucleus" in lines
    names = sorted(file.name for file in (tmp_path / "pictures").iterdir())
    assert names == ["slide.nucleus-instances.png", "slide.overlay.png"]


def test_face(show: Show, samples: Path, tmp_path: Path) -> None:
    for name, (red, green) in {"ruby_stone": (200, 20), "olive": (20, 200)}.items():
        for number in range(3):
            (samples / f"{name}_{number}.png").write_bytes(png(plain(red + number, green, 20)))
    lines = show("face")
    assert lines[0].startswith("drawn faces resemble each other")
    assert lines[1].startswith("olive_0.png and olive_2.png: same person")
    assert any(line.startswith("olive_0.png and ruby_stone_0.png: different") for line in lines)
    assert "gallery of 2 people: 2 of 2 named, 0 unknown" in lines
    assert "ruby_stone_2.png: ruby_stone" in lines
    names = sorted(file.name for file in (tmp_path / "pictures").iterdir())
    assert names == [
        "olive_2.identify.png",
        "olive_2.verify.png",
        "ruby_stone_0.verify.png",
        "ruby_stone_2.identify.png",
    ]


def test_names_of_people() -> None:
    assert vision.person_name(Path("a/ada_king_2.png")) == "ada_king"
    assert vision.person_name(Path("ada.png")) == "ada"
