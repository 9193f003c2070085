"""Made-up microscope images: training, tests and the demo run without any file.

Bright, slightly irregular ellipses on a dark noisy ground, as fluorescent nuclei look, or dark
ones on a bright ground, as stained ones do.
"""

import numpy as np

from models.common.splits import DEV, TEST, TRAIN
from models.segmentation.data import Example, Source

_BRIGHT_SHARE = 0.25
_LONG_AXES = (4, 9)
_WAVE = 0.08
# Pixels around a nucleus' centre that its outline stays within.
_REACH = 10


def make_examples(count: int, seed: int, size: int = 64) -> list[Example]:
    """Generates `count` labelled images, the same ones for the same seed.

    Args:
        count: how many.
        seed: of everything.
        size: side of the images, pixels.
    """
    random = np.random.default_rng(seed)
    return [make_example(random, f"cells_{seed}_{n:03d}", size, size) for n in range(count)]


def make_example(random: np.random.Generator, name: str, height: int, width: int) -> Example:
    """Generates one image uint8 [height, width, 3] with its mask; class 1 is a nucleus."""
    nuclei = _draw_nuclei(random, height, width)
    mask = (nuclei > 0).astype(np.uint8)
    rows, columns = np.mgrid[:height, :width]
    slope = (rows / height * random.uniform(-1, 1) + columns / width * random.uniform(-1, 1)) * 0.03
    texture = random.normal(0, 0.015, (height, width))
    light = 0.08 + slope + texture + nuclei * random.uniform(0.15, 0.6)
    image = np.repeat(np.clip(light, 0, 1)[..., None], 3, axis=2)
    if random.random() < _BRIGHT_SHARE:
        image = 1 - image * np.array([0.7, 1.0, 0.5])  # stained violet
    return Example(name, (np.clip(image, 0, 1) * 255).astype(np.uint8), mask)


def make_source(examples: int = 64, seed: int = 7, size: int = 64) -> Source:
    """Generates a source with train, dev and test parts (70, 15 and 15 %)."""
    images = make_examples(examples, seed, size)
    first, second = int(examples * 0.7), int(examples * 0.85)
    splits = {TRAIN: images[:first], DEV: images[first:second], TEST: images[second:]}
    return Source("synthetic", splits, f"seed-{seed}")


def _draw_nuclei(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns the brightness of the nuclei, float [height, width]; 0 where there is none."""
    light = np.zeros((height, width))
    density = random.uniform(0.5, 1.5)
    count = max(1, round(density * height * width / 700))
    for _ in range(count):
        rows, columns = _ellipse(random, height, width)
        light[rows, columns] = np.maximum(light[rows, columns], random.uniform(0.5, 1.0))
    return light


def _ellipse(random: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows and columns of one nucleus' pixels: an ellipse with a wavy outline."""
    center_y, center_x = random.uniform(0, height), random.uniform(0, width)
    top, left = max(0, int(center_y) - _REACH), max(0, int(center_x) - _REACH)
    bottom, right = int(center_y) + _REACH + 2, int(center_x) + _REACH + 2
    rows, columns = np.mgrid[top : min(height, bottom), left : min(width, right)]
    y, x = rows - center_y, columns - center_x
    turn = random.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    long_axis, roundness = random.uniform(*_LONG_AXES), random.uniform(0.6, 1.0)
    angle = np.arctan2(v, u)
    wave = 1 + _WAVE * np.sin(3 * angle + random.uniform(0, 6.3))
    inside = np.hypot(u / long_axis, v / (long_axis * roundness)) < wave
    return rows[inside], columns[inside]
