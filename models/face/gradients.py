"""Histograms of oriented gradients at several scales: what the network sees of a picture.

Nothing here is learned, so nothing can overfit; light and skin hardly change it.

Source: Dalal and Triggs 2005, "Histograms of Oriented Gradients for Human Detection"; soft votes
for orientation in place of their bins, so that the result changes smoothly with the picture.
"""

import math

import keras
import numpy as np
from keras import layers, ops

LUMINANCE = (0.299, 0.587, 0.114)
SMALLEST_MAGNITUDE = 0.03  # of a gradient, grey levels: below it, orientation is noise
SMALLEST_ENERGY = 0.5  # of a cell: flat skin is not blown up to texture
BLUR_REACH = 3  # a kernel ends this many standard deviations from its middle


@keras.saving.register_keras_serializable("face")
class OrientedGradients(layers.Layer):
    """Describes a picture by where its edges run.

    For each scale:

    1. Grey values, blurred by a Gaussian; their gradient [N, H, W, 2] by central differences.
    2. Votes for each of `bins` directions: magnitude * max(cos(angle between), 0)^3.
    3. Cells: votes weighted by a pyramid twice as wide as the step between cells, summed:
       [N, h, w, bins].
    4. Each cell divided by the votes of its 3x3 neighbourhood, and the root taken, which keeps
       strong edges from deciding alone.

    Every filter here is a product of one down and one across: two matrix products apply it.

    Args:
        scales: standard deviations of the blurs, pixels.
        bins: directions, evenly over the circle.
        cell: step between cells, pixels.

    Call arguments:
        image: float [N, H, W, 3], values 0 to 255.

    Returns:
        float32 [N, h, w, scales * bins].
    """

    def __init__(self, scales: tuple[float, ...], bins: int, cell: int, **kwargs: object) -> None:
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.scales = tuple(scales)
        self.bins = bins
        self.cell = cell
        angles = 2 * math.pi * np.arange(bins) / bins
        self._directions = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    def call(self, image: keras.KerasTensor) -> keras.KerasTensor:
        """Computes the descriptor; see the class."""
        image = ops.cast(image, "float32")
        weights = np.array(LUMINANCE, np.float32)[:, None]
        grey = ops.squeeze(ops.matmul(image, weights), axis=-1)  # (N, H, W)
        parts = [self._cells(self._votes(grey, scale)) for scale in self.scales]
        return ops.transpose(ops.concatenate(parts, axis=1), (0, 2, 3, 1))

    def _votes(self, grey: keras.KerasTensor, deviation: float) -> keras.KerasTensor:
        """Maps grey values [N, H, W] to votes [N, bins, H - 2, W - 2]."""
        down, across = (blur_matrix(side, deviation) for side in grey.shape[1:])
        x = _apply(down[1:-1], across[2:] - across[:-2], grey)
        y = _apply(down[2:] - down[:-2], across[1:-1], grey)
        height, width = x.shape[1:]
        gradient = ops.reshape(ops.stack([x, y], axis=1), (-1, 2, height * width))
        along = ops.relu(ops.matmul(self._directions, gradient))  # (N, bins, height * width)
        square = ops.sum(ops.square(gradient), axis=1, keepdims=True) + SMALLEST_MAGNITUDE**2
        return ops.reshape(along * along * along / square, (-1, self.bins, height, width))

    def _cells(self, votes: keras.KerasTensor) -> keras.KerasTensor:
        """Sums votes over cells and normalises them: [N, bins, h, w]."""
        down, across = (pyramid_matrix(side, self.cell) for side in votes.shape[2:4])
        cells = _apply(down, across, votes)
        energy = ops.sum(cells, axis=1, keepdims=True)
        down, across = (neighbour_matrix(side) for side in cells.shape[2:4])
        nearby = _apply(down, across, energy)
        return ops.sqrt(cells / (nearby + SMALLEST_ENERGY) + 1e-4)

    def get_config(self) -> dict[str, object]:
        """Returns what re-creates the layer."""
        config = {
            key: value
            for key, value in super().get_config().items()
            if key not in ("dtype", "trainable")
        }
        return {**config, "scales": self.scales, "bins": self.bins, "cell": self.cell}


def blur_matrix(side: int, deviation: float) -> np.ndarray:
    """Returns the Gaussian blur of a line, mirrored at its ends: float32 [side, side]."""
    radius = math.ceil(BLUR_REACH * deviation)
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * deviation**2))
    return _slide(weights / weights.sum(), side, radius)


def pyramid_matrix(side: int, cell: int) -> np.ndarray:
    """Returns the sums of a line over cells, which overlap by half: float32 [cells, side]."""
    ramp = np.minimum(np.arange(1, 2 * cell), np.arange(2 * cell - 1, 0, -1))
    return _slide(ramp / cell**2, side, 0)[::cell]


def neighbour_matrix(side: int) -> np.ndarray:
    """Returns the means of three neighbours, mirrored at the ends: float32 [side, side]."""
    return _slide(np.full(3, 1 / 3), side, 1)


def _slide(weights: np.ndarray, side: int, margin: int) -> np.ndarray:
    """Slides weights over a line with a mirrored margin: float32 [positions, side]."""
    padded = np.pad(np.eye(side), ((margin, margin), (0, 0)), mode="reflect")
    positions = len(padded) - len(weights) + 1
    rows = [weights @ padded[first : first + len(weights)] for first in range(positions)]
    return np.stack(rows).astype(np.float32)


def _apply(down: np.ndarray, across: np.ndarray, x: keras.KerasTensor) -> keras.KerasTensor:
    """Applies matrices to the columns and to the rows: [..., H, W] -> [..., h, w]."""
    return ops.matmul(down, ops.matmul(x, across.T))
