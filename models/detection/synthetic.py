"""Drawn images: shapes to train on and blood smears to look at, without files from elsewhere."""

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from models.common.splits import DEV, TRAIN
from models.detection.augmentation import Sample
from models.detection.data import Source, load_source
from protocol.images import encode_png

LABELS = ("disc", "square")
# Reddish discs and bluish squares: a small network tells them apart after seconds of training.
COLOURS = np.array([[160, 50, 40], [40, 60, 150]])
SIDE = 64
MOST_OBJECTS = 4
# Objects whose boxes overlap more than this are drawn elsewhere.
TRIES = 20


def make_sample(random: np.random.Generator, side: int = SIDE) -> Sample:
    """Draws a noisy image [side, side, 3] of one to four discs and squares that do not overlap."""
    background = random.integers(150, 256, 3)
    image = Image.new("RGB", (side, side), tuple(int(v) for v in background))
    draw = ImageDraw.Draw(image)
    boxes: list[np.ndarray] = []
    class_ids: list[int] = []
    for _ in range(int(random.integers(1, MOST_OBJECTS + 1))):
        box = _free_place(boxes, random, side)
        if box is None:
            continue
        class_id = int(random.integers(len(LABELS)))
        colour = tuple(int(v) for v in COLOURS[class_id] + random.integers(-30, 31, 3))
        # Pillow draws the last row and column too.
        corners = [float(v) for v in box - np.array([0, 0, 1, 1])]
        (draw.ellipse if class_id == 0 else draw.rectangle)(corners, fill=colour)
        boxes.append(box)
        class_ids.append(class_id)
    noisy = np.asarray(image) + random.normal(0, 6, (side, side, 3))
    return Sample(
        np.clip(noisy, 0, 255).astype(np.uint8),
        np.array(boxes, np.float32),
        np.array(class_ids, np.int32),
    )


def _free_place(
    taken: list[np.ndarray], random: np.random.Generator, side: int
) -> np.ndarray | None:
    """Draws a square box [4] apart from those taken; None if none was found."""
    for _ in range(TRIES):
        size = int(random.integers(side // 6, side // 3))
        x, y = random.integers(0, side - size, 2)
        box = np.array([x, y, x + size, y + size], np.float32)
        apart = [
            box[2] <= b[0] or b[2] <= box[0] or box[3] <= b[1] or b[3] <= box[1] for b in taken
        ]
        if all(apart):
            return box
    return None


def write_source(folder: Path, train: int = 64, dev: int = 24, seed: int = 0) -> Source:
    """Draws images into a COCO folder, and reads it.

    Args:
        folder: where to; made if missing.
        train: number of training images.
        dev: number of dev images.
        seed: of the drawing.
    """
    random = np.random.default_rng(seed)
    for split, count in ((TRAIN, train), (DEV, dev)):
        samples = [make_sample(random) for _ in range(count)]
        write_coco(folder / split, samples)
    return load_source(folder, LABELS, dev_fraction=0.2)


def write_coco(folder: Path, samples: list[Sample]) -> None:
    """Writes images and `_annotations.coco.json` to a folder; made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number, sample in enumerate(samples):
        name = f"{number:04d}.png"
        (folder / name).write_bytes(encode_png(sample.image_u8))
        height, width = sample.image_u8.shape[:2]
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for box, class_id in zip(sample.boxes_xyxy.tolist(), sample.class_ids, strict=True):
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": int(class_id),
                    "bbox": bbox,
                    "area": bbox[2] * bbox[3],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i, "name": name} for i, name in enumerate(LABELS)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "_annotations.coco.json").write_text(json.dumps(content), encoding="utf-8")


# Blood smears: sizes in pixels of a 480 x 640 image, colours of Giemsa's stain.
_SMEAR_HEIGHT, _SMEAR_WIDTH = 480, 640
_PLASMA = (228, 222, 216)
_RED_RIM, _RED_CELL, _RED_PALLOR = (186, 136, 136), (200, 150, 150), (214, 172, 170)
_WHITE_CELL, _NUCLEUS, _PLATELET = (200, 170, 195), (110, 60, 140), (140, 100, 165)


def draw_smear(random: np.random.Generator) -> np.ndarray:
    """Draws something like a blood smear under the microscope: uint8 [480, 640, 3].

    White cells with a lobed nucleus, platelets, and red cells, paler in the middle.
    """
    image = Image.new("RGB", (2 * _SMEAR_WIDTH, 2 * _SMEAR_HEIGHT), _PLASMA)
    draw = ImageDraw.Draw(image)
    cells: list[tuple[float, float, float]] = []
    for radius in [95.0, *random.uniform(17, 21, 3), *random.uniform(46, 54, 18)]:
        center = _free_center(cells, random, radius)
        if center is None:
            continue
        cells.append((*center, radius))
        if radius > 60:
            _draw_white_cell(draw, random, *center, radius)
        elif radius < 30:
            _draw_ellipse(draw, *center, radius, 0.9 * radius, _PLATELET)
        else:
            _draw_ellipse(draw, *center, radius, radius, _RED_RIM)
            _draw_ellipse(draw, *center, 0.93 * radius, 0.93 * radius, _RED_CELL)
            _draw_ellipse(draw, *center, 0.5 * radius, 0.48 * radius, _RED_PALLOR)
    blurred = image.filter(ImageFilter.GaussianBlur(5)).resize((_SMEAR_WIDTH, _SMEAR_HEIGHT))
    noisy = np.asarray(blurred) + random.normal(0, 4, (_SMEAR_HEIGHT, _SMEAR_WIDTH, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _free_center(
    cells: list[tuple[float, float, float]], random: np.random.Generator, radius: float
) -> tuple[float, float] | None:
    """Draws the centre of a cell that hardly touches the others; None if none was found."""
    for _ in range(3 * TRIES):
        x = random.uniform(-0.3 * radius, _SMEAR_WIDTH + 0.3 * radius)
        y = random.uniform(-0.3 * radius, _SMEAR_HEIGHT + 0.3 * radius)
        if all(np.hypot(x - a, y - b) > 0.9 * (radius + c) for a, b, c in cells):
            return x, y
    return None


def _draw_white_cell(
    draw: ImageDraw.ImageDraw, random: np.random.Generator, x: float, y: float, radius: float
) -> None:
    _draw_ellipse(draw, x, y, radius, 0.95 * radius, _WHITE_CELL)
    for angle in random.uniform(0, 2 * np.pi, 4):
        lobe_x, lobe_y = x + 0.4 * radius * np.cos(angle), y + 0.4 * radius * np.sin(angle)
        _draw_ellipse(draw, lobe_x, lobe_y, 0.44 * radius, 0.4 * radius, _NUCLEUS)


def _draw_ellipse(
    draw: ImageDraw.ImageDraw,
    x: float,
    y: float,
    half_width: float,
    half_height: float,
    colour: tuple[int, int, int],
) -> None:
    """Draws on an image of twice the size."""
    box = (x - half_width, y - half_height, x + half_width, y + half_height)
    draw.ellipse([2 * v for v in box], fill=colour)
