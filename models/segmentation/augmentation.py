"""Random crops of an image and its mask: scaled, turned, mirrored, recoloured."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from models.segmentation.config import AugmentationConfig

# ITU-R BT.601, as Pillow's and TensorFlow's conversion to grey.
GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Crop:
    """Part of an image uint8 [S, S, 3] and of its mask uint8 [S, S]."""

    image: np.ndarray
    mask: np.ndarray


def augment(
    image: np.ndarray, mask: np.ndarray, config: AugmentationConfig, random: np.random.Generator
) -> Crop:
    """Draws one training crop.

    Args:
        image: uint8 [H, W, 3].
        mask: uint8 [H, W], class ids or void.
        config: what may happen.
        random: decides.

    Returns:
        A crop of `config.crop` pixels a side.
    """
    crop = random_crop(image, mask, config, random)
    crop = turn(crop, config, random)
    return Crop(recolour(crop.image, config, random), crop.mask)


def random_crop(
    image: np.ndarray, mask: np.ndarray, config: AugmentationConfig, random: np.random.Generator
) -> Crop:
    """Cuts a square at a random place and resizes it to the crop's size.

    Where the square is larger than the image, the image is mirrored about its borders, as the
    network does when it pads.
    """
    scale = np.exp(random.uniform(*np.log(config.scale)))
    side = max(1, round(config.crop / scale))
    rows = _window(image.shape[0], side, random)
    columns = _window(image.shape[1], side, random)
    if side == config.crop:
        return Crop(image[rows][:, columns], mask[rows][:, columns])
    size = (config.crop, config.crop)
    image_part = Image.fromarray(image[rows][:, columns])
    mask_part = Image.fromarray(mask[rows][:, columns])
    return Crop(
        np.asarray(image_part.resize(size, Image.Resampling.BILINEAR)),
        np.asarray(mask_part.resize(size, Image.Resampling.NEAREST)),
    )


def _window(size: int, side: int, random: np.random.Generator) -> np.ndarray:
    """Returns `side` consecutive positions within 0 ... size-1, folded back at the ends."""
    lowest, highest = min(0, size - side), max(0, size - side)
    positions = np.arange(side) + random.integers(lowest, highest + 1)
    period = max(2 * (size - 1), 1)
    folded = positions % period
    return np.minimum(folded, period - folded)


def turn(crop: Crop, config: AugmentationConfig, random: np.random.Generator) -> Crop:
    """Mirrors and turns by right angles, where the configuration allows it."""
    image, mask = crop.image, crop.mask
    if config.horizontal_flip and random.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    if config.vertical_flip and random.random() < 0.5:
        image, mask = image[::-1], mask[::-1]
    if config.rot90:
        quarters = int(random.integers(4))
        image, mask = np.rot90(image, quarters), np.rot90(mask, quarters)
    return Crop(image, mask)


def recolour(
    image: np.ndarray, config: AugmentationConfig, random: np.random.Generator
) -> np.ndarray:
    """Changes gamma, contrast, brightness, saturation and the gain of the channels.

    Before that, as chance has it, the colour is lost or the image turned into its negative.

    Args:
        image: uint8 [H, W, 3].
        config: by how much.
        random: decides.

    Returns:
        uint8 [H, W, 3].
    """
    share = image.astype(np.float32) / 255
    if config.grey and random.random() < config.grey:
        share = np.repeat((share @ GREY_WEIGHTS)[..., None], 3, axis=-1)
    if config.negative and random.random() < config.negative:
        share = 1 - share
    share **= _factor(config.gamma, random)
    if config.saturation:
        grey = (share @ GREY_WEIGHTS)[..., None]
        share = grey + _factor(config.saturation, random) * (share - grey)
    gain = np.array([_factor(config.channel_gain, random) for _ in range(3)], np.float32)
    mean = share.mean()
    share = (share * gain - mean) * _factor(config.contrast, random) + mean
    share += random.uniform(-config.brightness, config.brightness) * min(1.0, 2 * float(mean))
    return (np.clip(share, 0, 1) * 255 + 0.5).astype(np.uint8)


def _factor(strength: float, random: np.random.Generator) -> np.float32:
    """Draws a factor between 1 / (1 + strength) and 1 + strength, evenly in its logarithm."""
    largest = np.log1p(strength)
    return np.float32(np.exp(random.uniform(-largest, largest)))
