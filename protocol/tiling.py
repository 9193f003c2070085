"""Large images in overlapping tiles: where they lie, and how their answers are blended."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Predict = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""Images uint8 [N, h, w, 3] -> probability of each class float32 [N, h, w, C]."""


@dataclass(frozen=True)
class Tiling:
    """How images are cut.

    Attributes:
        tile: sides above this are cut into tiles of this many pixels.
        overlap: pixels that neighbours share at least.
    """

    tile: int
    overlap: int

    def __post_init__(self) -> None:
        if not 0 <= 2 * self.overlap <= self.tile or self.tile < 1:
            raise ValueError(
                "Tiling needs a tile of at least 1 pixel and an overlap from 0 to half of it, "
                f"got tile {self.tile} and overlap {self.overlap}"
            )

    def fits(self, height: int, width: int) -> bool:
        """Whether an image is small enough to stay whole."""
        return max(height, width) <= self.tile

    def starts(self, size: int) -> list[int]:
        """Returns the first pixel of each tile along a side of `size` pixels.

        All but the last are `tile - overlap` apart; the last ends where the image ends.
        """
        step = self.tile - self.overlap
        count = 1 + max(0, -((self.tile - size) // step))
        return [min(number * step, max(0, size - self.tile)) for number in range(count)]

    def window(self, height: int, width: int) -> npt.NDArray[np.float32]:
        """Returns the weight of each pixel of a tile in the blend: float32 [height, width].

        It rises linearly over the overlap, so that where two tiles overlap by just that much
        their weights add up to 1.
        """
        rows, columns = self._ramp(height), self._ramp(width)
        weights: npt.NDArray[np.float32] = rows[:, np.newaxis] * columns[np.newaxis, :]
        return weights

    def _ramp(self, size: int) -> npt.NDArray[np.float32]:
        position = np.arange(size)
        distance = np.minimum(position, size - 1 - position) + 1
        share = np.minimum(distance, self.overlap + 1) / (self.overlap + 1)
        ramp: npt.NDArray[np.float32] = share.astype(np.float32)
        return ramp


def predict_tiled(
    images: npt.NDArray[np.uint8], tiling: Tiling, predict: Predict
) -> npt.NDArray[np.float32]:
    """Predicts images tile by tile; those that fit one tile are predicted whole.

    Args:
        images: uint8 [N, H, W, 3].
        tiling: how they are cut.
        predict: called once for each tile, with the tile of all images.

    Returns:
        The tiles' probabilities averaged with the weights of `Tiling.window`, float32
        [N, H, W, C].
    """
    _, height, width, _ = images.shape
    if tiling.fits(height, width):
        return predict(images)
    tile_height, tile_width = min(height, tiling.tile), min(width, tiling.tile)
    window = tiling.window(tile_height, tile_width)
    weights = np.zeros((height, width), np.float32)
    blended: npt.NDArray[np.float32] | None = None
    for top in tiling.starts(height):
        for left in tiling.starts(width):
            place = np.s_[top : top + tile_height, left : left + tile_width]
            probability = predict(images[:, *place])
            if blended is None:
                blended = np.zeros((len(images), height, width, probability.shape[-1]), np.float32)
            blended[:, *place] += probability * window[..., np.newaxis]
            weights[place] += window
    if blended is None:  # starts() is never empty
        raise ValueError(f"no tiles for images of {height} x {width} pixels")
    blended /= weights[..., np.newaxis]
    return blended
