"""Geometry of a face picture, and the changes that a training picture goes through."""

import numpy as np
from PIL import Image

from models.face.config import AugmentationConfig, NetworkConfig

# BT.601, as everywhere in JPEG.
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
MIRROR = Image.Transpose.FLIP_LEFT_RIGHT
BILINEAR = Image.Resampling.BILINEAR


def central_side(shorter: int, central: float) -> int:
    """Returns the side of the central square that is kept, pixels, at least 1.

    Counted in thousandths and whole numbers, so that every engine rounds alike.

    Args:
        shorter: the picture's shorter side, pixels.
        central: share of it to keep.
    """
    return max(1, (shorter * thousandths(central) + 500) // 1000)


def thousandths(share: float) -> int:
    """Returns a share of one in thousandths."""
    return round(1000 * share)


def center_crop(image: np.ndarray, central: float) -> np.ndarray:
    """Cuts out the central square: uint8 [H, W, 3] -> uint8 [S, S, 3]."""
    height, width = image.shape[:2]
    side = central_side(min(height, width), central)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def to_network_values(image: np.ndarray, config: NetworkConfig) -> np.ndarray:
    """Crops and resizes a picture as the served signature does, without rounding.

    Args:
        image: uint8 [H, W, 3].
        config: gives the share to keep and the size.

    Returns:
        float32 [S, S, 3], S the network's image size, values 0 to 255.
    """
    square = center_crop(image, config.central).astype(np.float32)
    size = (config.image_size, config.image_size)
    channels = [
        Image.fromarray(np.ascontiguousarray(square[..., channel])).resize(size, BILINEAR)
        for channel in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


class Augmenter:
    """Changes pictures at random: the same ones in the same order for the same seed.

    Args:
        augmentation: kinds and amounts.
        network: size and share of the picture that the network sees.
        random: source of chance.
    """

    def __init__(
        self,
        augmentation: AugmentationConfig,
        network: NetworkConfig,
        random: np.random.Generator,
    ) -> None:
        self.config = augmentation
        self.network = network
        self._random = random

    def __call__(self, square: np.ndarray) -> np.ndarray:
        """Returns a changed picture.

        Args:
            square: uint8 [S, S, 3] of any size, the whole centred square.

        Returns:
            uint8 [image_size, image_size, 3].
        """
        image = self._move(Image.fromarray(square))
        if self._happens(self.config.blur):
            image = self._blur(image)
        values = np.asarray(image, np.float32)
        if self._happens(self.config.color):
            values = self._recolor(values)
        if self._happens(self.config.grey):
            values = np.repeat((values @ LUMINANCE)[..., None], 3, axis=-1)
        values = np.clip(values + 0.5, 0, 255).astype(np.uint8)
        return self._erase(values) if self._happens(self.config.erase) else values

    def _happens(self, chance: float) -> bool:
        return bool(self._random.random() < chance)

    def _amount(self, largest: float) -> float:
        largest *= self.config.strength
        return float(self._random.uniform(-largest, largest))

    def _move(self, image: Image.Image) -> Image.Image:
        """Mirrors, rotates, zooms, stretches and shifts, in one resampling after the rotation."""
        if self._happens(0.5):
            image = image.transpose(MIRROR)
        if self._happens(0.5):
            image = image.rotate(self._amount(self.config.rotation), BILINEAR)
        side = image.width
        zoomed = side * self.network.central * np.exp(self._amount(self.config.zoom))
        stretch = np.exp(self._amount(self.config.stretch))
        width, height = min(zoomed * stretch, side), min(zoomed / stretch, side)
        left = np.clip((side - width) / 2 + self._amount(self.config.shift) * side, 0, side - width)
        top = np.clip(
            (side - height) / 2 + self._amount(self.config.shift) * side, 0, side - height
        )
        size = self.network.image_size
        box = (float(left), float(top), float(left + width), float(top + height))
        return image.resize((size, size), BILINEAR, box=box)

    def _blur(self, image: Image.Image) -> Image.Image:
        """Takes detail away by going through a lower resolution."""
        size = self.network.image_size
        lower = int(self._random.integers(size // 3, size))
        return image.resize((lower, lower), BILINEAR).resize((size, size), BILINEAR)

    def _recolor(self, values: np.ndarray) -> np.ndarray:
        """Changes brightness, contrast, saturation and tint of float32 [S, S, 3]."""
        mean = values.mean()
        contrast, brightness = np.exp(self._random.uniform(-0.35, 0.35, 2))
        values = (values - mean) * contrast + mean * brightness
        grey = values.mean(axis=-1, keepdims=True)
        values = grey + (values - grey) * self._random.uniform(0.4, 1.4)
        return (values * np.exp(self._random.uniform(-0.08, 0.08, 3))).astype(np.float32)

    def _erase(self, values: np.ndarray) -> np.ndarray:
        """Hides a rectangle of 3 to 20 % of the picture behind noise or one colour.

        Source: Zhong et al. 2020, "Random Erasing Data Augmentation", algorithm 1.
        """
        size = values.shape[0]
        area = self._random.uniform(0.03, 0.2) * size * size
        ratio = np.exp(self._random.uniform(-0.9, 0.9))
        height = int(np.clip(np.sqrt(area * ratio), 1, size - 1))
        width = int(np.clip(np.sqrt(area / ratio), 1, size - 1))
        top = int(self._random.integers(0, size - height))
        left = int(self._random.integers(0, size - width))
        shape = (height, width, 3) if self._happens(0.5) else (1, 1, 3)
        values = values.copy()
        values[top : top + height, left : left + width] = self._random.integers(0, 256, shape)
        return values
