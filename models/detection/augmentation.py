"""Augmentation: mirrored, turned, scaled, cropped, recoloured images, and mosaics of four."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

from models.detection.boxes import box_areas, clip_boxes
from models.detection.config import AugmentationConfig
from models.detection.letterbox import GREY, place

# Thinner boxes cannot be told from noise, pixels.
SMALLEST_SIDE = 4.0
# A mosaic's corner point lies between these shares of the canvas.
MOSAIC_CENTER = (0.3, 0.7)


@dataclass(frozen=True)
class Sample:
    """One image as the network sees it, or smaller, with its boxes.

    Attributes:
        image_u8: [H, W, 3], RGB.
        boxes_xyxy: float32 [M, 4], pixels of this image.
        class_ids: int32 [M].
    """

    image_u8: np.ndarray
    boxes_xyxy: np.ndarray
    class_ids: np.ndarray


class Augmenter:
    """Makes training images of one size from samples.

    Args:
        config: what to vary.
        height: of the results, pixels.
        width: likewise.
    """

    def __init__(self, config: AugmentationConfig, height: int, width: int) -> None:
        self.config = config
        self.height = height
        self.width = width

    def __call__(self, samples: list[Sample], chosen: int, random: np.random.Generator) -> Sample:
        """Varies the chosen sample, with three others around it where a mosaic is drawn."""
        draw = random.random()
        if draw < self.config.plain:
            return self.plain(samples[chosen], random)
        if draw < self.config.plain + self.config.mosaic:
            others = random.integers(len(samples), size=3)
            four = [samples[chosen], *(samples[i] for i in others)]
            return recolour(self.mosaic(four, random), self.config, random)
        warped = warp(samples[chosen], self.height, self.width, self.config, 1.0, random)
        return recolour(warped, self.config, random)

    def plain(self, sample: Sample, random: np.random.Generator) -> Sample:
        """Mirrors the sample and letterboxes it, as in use."""
        sample = mirror(sample, random.random() < 0.5, self._upside_down(random))
        image = place(sample.image_u8, self.height, self.width)
        return Sample(image, sample.boxes_xyxy, sample.class_ids)

    def mosaic(self, samples: list[Sample], random: np.random.Generator) -> Sample:
        """Puts four samples, each varied, around a point of the canvas.

        Source: Bochkovskiy et al. 2020, "YOLOv4", section 3.3.
        """
        low, high = MOSAIC_CENTER
        y = int(self.height * random.uniform(low, high))
        x = int(self.width * random.uniform(low, high))
        canvas = np.empty((self.height, self.width, 3), np.uint8)
        boxes, class_ids = [], []
        places = [(0, 0, y, x), (0, x, y, self.width), (y, 0, self.height, x)]
        places.append((y, x, self.height, self.width))
        for sample, (top, left, bottom, right) in zip(samples, places, strict=True):
            factor = self.config.mosaic_scale
            part = warp(sample, bottom - top, right - left, self.config, factor, random)
            canvas[top:bottom, left:right] = part.image_u8
            boxes.append(part.boxes_xyxy + np.array([left, top] * 2, np.float32))
            class_ids.append(part.class_ids)
        return Sample(canvas, np.concatenate(boxes), np.concatenate(class_ids))

    def _upside_down(self, random: np.random.Generator) -> bool:
        return self.config.mirror_vertically and bool(random.random() < 0.5)


def mirror(sample: Sample, horizontally: bool, vertically: bool) -> Sample:
    """Mirrors image and boxes."""
    image, boxes = sample.image_u8, sample.boxes_xyxy
    height, width = image.shape[:2]
    if horizontally:
        image = image[:, ::-1]
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
    if vertically:
        image = image[::-1]
        boxes = np.stack([boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], 1)
    return Sample(image, boxes, sample.class_ids)


def warp(
    sample: Sample,
    height: int,
    width: int,
    config: AugmentationConfig,
    factor: float,
    random: np.random.Generator,
) -> Sample:
    """Mirrors, turns, stretches and scales a sample, and shows a random window of it.

    Args:
        sample: what to vary.
        height: of the window, pixels.
        width: likewise.
        config: how much to vary.
        factor: multiplies the drawn scale.
        random: source of the draws.
    """
    matrix = _draw_matrix(sample.image_u8.shape[:2], height, width, config, factor, random)
    inverse = np.linalg.inv(matrix)
    image = Image.fromarray(np.ascontiguousarray(sample.image_u8)).transform(
        (width, height),
        Image.Transform.AFFINE,
        tuple(inverse[:2].ravel()),
        Image.Resampling.BILINEAR,
        fillcolor=(GREY, GREY, GREY),
    )
    boxes = transform_boxes(sample.boxes_xyxy, matrix)
    visible = clip_boxes(boxes, height, width)
    keep = box_areas(visible) >= config.min_visible * box_areas(boxes)
    keep &= (visible[:, 2:] - visible[:, :2] >= SMALLEST_SIDE).all(axis=1)
    return Sample(np.asarray(image), visible[keep], sample.class_ids[keep])


def _draw_matrix(
    size: tuple[int, ...],
    height: int,
    width: int,
    config: AugmentationConfig,
    factor: float,
    random: np.random.Generator,
) -> np.ndarray:
    """Draws a map from the sample's pixels to the window's: float64 [3, 3], homogeneous."""
    scale = factor * np.exp(random.uniform(np.log(config.scale_min), np.log(config.scale_max)))
    stretch = np.exp(random.uniform(-1, 1) * np.log1p(config.stretch) / 2)
    flip_x = -1 if random.random() < 0.5 else 1
    flip_y = -1 if config.mirror_vertically and random.random() < 0.5 else 1
    matrix = np.diag([flip_x * scale * stretch, flip_y * scale / stretch, 1.0])
    if config.quarter_turns and random.random() < 0.5:
        matrix = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]) @ matrix
    whole = np.array([[0, 0, size[1], size[0]]], np.float32)
    x_min, y_min, x_max, y_max = transform_boxes(whole, matrix)[0]
    # Whole image in view where it fits, else the window within the image.
    spare = np.array([width - (x_max - x_min), height - (y_max - y_min)])
    matrix[:2, 2] += random.random(2) * spare - [x_min, y_min]
    return matrix


def transform_boxes(boxes_xyxy: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Maps boxes [M, 4] and returns the boxes around the results, float32 [M, 4]."""
    corners = boxes_xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)  # (M, corner, xy)
    moved = corners @ matrix[:2, :2].T + matrix[:2, 2]
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1).astype(np.float32)


def recolour(sample: Sample, config: AugmentationConfig, random: np.random.Generator) -> Sample:
    """Changes saturation, contrast, brightness and the balance of the channels."""
    image = Image.fromarray(np.ascontiguousarray(sample.image_u8))
    saturation = 1 + random.uniform(-1, 1) * config.saturation
    image = ImageEnhance.Color(image).enhance(saturation)
    contrast, brightness = 1 + random.uniform(-1, 1, 2) * config.brightness
    tint = 1 + random.uniform(-1, 1, 3) * config.tint
    values = np.arange(256) - 127.5
    table = (values * contrast + 127.5) * (brightness * tint)[:, None]  # (3, 256)
    image = image.point([int(v) for v in np.clip(table, 0, 255).ravel()])
    return Sample(np.asarray(image), sample.boxes_xyxy, sample.class_ids)
