"""Letterboxing: an image of any size inside the network's fixed one, and boxes back out of it.

The image is scaled by min(net_height / height, net_width / width), rounded to whole pixels, and
placed at the top left; the rest is grey.
"""

from dataclasses import dataclass

import numpy as np

GREY = 114
"""Value of the pixels beside the image, in each channel."""


@dataclass(frozen=True)
class Letterbox:
    """Size of one image inside the network's.

    Attributes:
        height: of the scaled image, pixels of the network's image.
        width: likewise.
        scale_x: scaled width divided by the original width.
        scale_y: likewise of the height.
    """

    height: int
    width: int
    scale_x: float
    scale_y: float

    @classmethod
    def of(cls, height: int, width: int, net_height: int, net_width: int) -> "Letterbox":
        """Computes where an image of `height` x `width` goes."""
        scale = min(
            np.float32(net_height) / np.float32(height), np.float32(net_width) / np.float32(width)
        )
        inner_height, inner_width = (
            min(limit, max(1, int(np.floor(np.float32(side) * scale + np.float32(0.5)))))
            for side, limit in ((height, net_height), (width, net_width))
        )
        return cls(inner_height, inner_width, inner_width / width, inner_height / height)

    @property
    def scales(self) -> np.ndarray:
        """Factors from original to network pixels, float32 [4] for boxes_xyxy."""
        return np.array([self.scale_x, self.scale_y] * 2, np.float32)


def place(image: np.ndarray, net_height: int, net_width: int) -> np.ndarray:
    """Puts a scaled image [h, w, 3] at the top left of a grey one [net_height, net_width, 3]."""
    canvas = np.full((net_height, net_width, 3), GREY, image.dtype)
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas
