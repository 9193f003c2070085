"""`segment`: its output and its pictures."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Run = Callable[..., tuple[int, str, str]]


def test_tables(run: Run, photos: Path) -> None:
    status, output, _ = run("segment", photos / "a.png")
    assert status == 0
    assert output.splitlines() == [
        f"{photos / 'a.png'}: 30 x 20 pixels",
        "  background   90.0%",
        "  nucleus      10.0%",
    ]


def test_json(run: Run, photos: Path) -> None:
    _, output, _ = run("segment", "--json", photos)
    first, second = map(json.loads, output.splitlines())
    assert first == {
        "source": str(photos / "a.png"),
        "width": 30,
        "height": 20,
        "shares": {"background": 0.9, "nucleus": 0.1},
        "instances": {},
        "model": "segmentation",
        "version": 3,
        "saved": [],
    }
    assert second["shares"]["nucleus"] == 0


def test_pictures(run: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("segment", photos / "a.png", "--save", out)
    assert sorted(file.name for file in out.iterdir()) == ["a.mask.png", "a.overlay.png"]
    mask = np.asarray(Image.open(out / "a.mask.png"))
    assert mask.shape == (20, 30)
    assert mask.sum() == 60


def test_instances(run: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _, output, _ = run("segment", photos / "a.png", "--instances", "--save", out)
    assert "  nucleus      10.0%  1 objects" in output.splitlines()
    assert (out / "a.nucleus-instances.png").is_file()
    _, output, _ = run("segment", photos, "--instances", "--json")
    assert [json.loads(line)["instances"] for line in output.splitlines()] == [
        {"nucleus": 1},
        {"nucleus": 0},
    ]
