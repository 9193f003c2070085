"""Pictures: where colours end up, and that nothing makes drawing fail."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clients.detection import Detection, DetectionResult
from clients.drawing import (
    class_colour,
    draw_detections,
    draw_identification,
    draw_instances,
    draw_mask,
    draw_verification,
    load_pixels,
)
from clients.embeddings import Candidate, Identification, Verification
from clients.segmentation import SegmentationResult
from protocol.errors import InvalidRequestError
from tests.clients.fake_models import plain, png

GREY = np.full((700, 800, 3), 90, np.uint8)

finite = st.floats(-1e6, 1e6)


def detections(*found: Detection) -> DetectionResult:
    return DetectionResult("image", found, "detection", 1)


def colours(picture: Image.Image) -> set[tuple[int, int, int]]:
    return {colour for _, colour in picture.getcolors(1 << 20)}  # type: ignore[union-attr,misc]


def test_a_box_is_drawn_where_it_is() -> None:
    box = (200.0, 300.0, 400.0, 500.0)
    picture = draw_detections(GREY, detections(Detection("cell", 3, 0.875, box)))
    assert picture.size == (800, 700)
    pixels = np.asarray(picture)
    for row, column in ((300, 350), (500, 350), (400, 200), (400, 400)):
        assert tuple(pixels[row, column]) == class_colour(3)
    assert tuple(pixels[400, 300]) == (90, 90, 90)  # inside
    ground = pixels[280:300, 200:260].reshape(-1, 3)  # the label stands on the box
    assert (ground == class_colour(3)).all(axis=1).mean() > 0.3


def test_the_surest_box_is_on_top() -> None:
    box = (100.0, 100.0, 300.0, 300.0)
    picture = draw_detections(
        GREY, detections(Detection("sure", 1, 0.9, box), Detection("other", 2, 0.3, box))
    )
    assert tuple(np.asarray(picture)[200, 100]) == class_colour(1)


def test_small_images_are_enlarged() -> None:
    small = np.zeros((50, 100, 3), np.uint8)
    picture = draw_detections(small, detections(Detection("a", 1, 1.0, (50, 10, 90, 40))))
    assert picture.size == (700, 350)
    assert tuple(np.asarray(picture)[200, 350]) == class_colour(1)


@settings(max_examples=60, deadline=None)
@given(
    box=st.tuples(finite, finite, finite, finite),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    label=st.text(max_size=40),
)
def test_every_box_can_be_drawn(
    box: tuple[float, float, float, float], size: tuple[int, int], label: str
) -> None:
    picture = draw_detections(
        np.zeros((*size, 3), np.uint8), detections(Detection(label, 7, 0.5, box))
    )
    assert max(picture.size) >= 640


def test_nothing_found_leaves_the_image() -> None:
    assert colours(draw_detections(GREY, detections())) == {(90, 90, 90)}


def segmented(mask: np.ndarray[Any, Any], *names: str) -> SegmentationResult:
    return SegmentationResult("image", mask, names, "segmentation", 1)


def test_a_mask_lies_over_the_image() -> None:
    mask = np.zeros((700, 800), np.uint8)
    mask[400:600, 300:500] = 2
    picture = draw_mask(GREY, segmented(mask, "none", "cell", "wall"))
    pixels = np.asarray(picture).astype(int)
    assert pixels[450, 350] == pytest.approx((np.array(class_colour(2)) + 90) / 2, abs=1)
    assert tuple(pixels[650, 700]) == (90, 90, 90)
    assert class_colour(2) in colours(picture)  # the legend
    assert class_colour(1) not in colours(picture)  # no cell, no legend


def test_masks_of_another_size_are_refused() -> None:
    mask = np.zeros((7, 8), np.uint8)
    with pytest.raises(InvalidRequestError, match=r"\[7, 8\], got \[700, 800\]"):
        draw_mask(GREY, segmented(mask, "none"))
    with pytest.raises(InvalidRequestError, match=r"\[7, 8\], got \[700, 800\]"):
        draw_instances(GREY, mask.astype(np.int32))


def test_instances_are_outlined() -> None:
    labels = np.zeros((700, 800), np.int32)
    labels[300:400, 300:400], labels[300:400, 400:500] = 1, 2  # they touch
    pixels = np.asarray(draw_instances(GREY, labels))
    assert tuple(pixels[350, 399]) == class_colour(2)
    assert tuple(pixels[350, 400]) == class_colour(3)
    assert tuple(pixels[350, 350]) == tuple(pixels[350, 450]) == (90, 90, 90)


def test_many_instances_on_a_small_image() -> None:
    labels = np.arange(300, dtype=np.int32).reshape(15, 20)
    assert draw_instances(np.zeros((15, 20), np.uint8), labels).size == (640, 480)


@pytest.mark.parametrize("same", [True, False])
def test_verification(same: bool) -> None:
    verification = Verification(same, 0.3, 0.5, 0.01)
    picture = draw_verification(plain(250, 0, 0), png(plain(0, 250, 0, side=40)), verification)
    found = colours(picture)
    assert {(250, 0, 0), (0, 250, 0)} <= found
    assert ((22, 128, 57) in found) is same


def test_identification(tmp_path: Path) -> None:
    photo = tmp_path / "ada.png"
    photo.write_bytes(png(plain(0, 0, 250)))
    candidates = (Candidate("Ada", 0.2), Candidate("a name that is much too long", 1.4))
    known = Identification("probe", "Ada", 0.2, 0.5, 0.001, candidates)
    picture = draw_identification(plain(250, 0, 0), known, {"Ada": photo})
    assert {(250, 0, 0), (0, 0, 250), (210, 210, 210), (22, 128, 57)} <= colours(picture)
    unknown = Identification("probe", None, None, 0.5, None, ())
    assert (190, 30, 45) in colours(draw_identification(plain(250, 0, 0), unknown, {}))


def test_classes_next_to_each_other_differ() -> None:
    shades = np.array([class_colour(index) for index in range(12)])
    steps = np.abs(np.diff(shades, axis=0)).sum(axis=1)
    assert steps.min() > 150


def test_files_are_read_as_the_server_reads_them(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((4, 6, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert load_pixels(tmp_path / "turned.jpg").shape == (6, 4, 3)


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    import_module = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("PIL"):
            raise ImportError(name)
        return import_module(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pictures need Pillow: pip install '\.\[vision\]'"):
        draw_detections(GREY, detections())
