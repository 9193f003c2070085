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
        self._directions = np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)

    def call(self, image: keras.KerasTensor) -> keras.KerasTensor:
        """Computes the descriptor; see the class."""
        image = ops.cast(image, "float32")
        grey = ops.sum(image * np.array(LUMINANCE, np.float32), axis=-1, keepdims=True)
        parts = [self._cells(self._votes(_blur(grey, scale))) for scale in self.scales]
        return ops.concatenate(parts, axis=-1)  # (N, h, w, scales * bins)

    def _votes(self, grey: keras.KerasTensor) -> keras.KerasTensor:
        """Maps grey values [N, H, W, 1] to votes [N, H - 2, W - 2, bins]."""
        across = grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]
        down = grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]
        along = ops.relu(across * self._directions[0] + down * self._directions[1])
        square = ops.square(across) + ops.square(down) + SMALLEST_MAGNITUDE**2
        return along * along * along / square

    def _cells(self, votes: keras.KerasTensor) -> keras.KerasTensor:
        """Sums votes over cells and normalises them: [N, h, w, bins]."""
        ramp = np.minimum(np.arange(1, 2 * self.cell), np.arange(2 * self.cell - 1, 0, -1))
        pyramid = np.outer(ramp, ramp) / self.cell**4
        kernel = np.repeat(pyramid[:, :, None, None], self.bins, axis=2).astype(np.float32)
        cells = ops.depthwise_conv(votes, kernel, strides=self.cell, padding="valid")
        energy = ops.sum(cells, axis=-1, keepdims=True)
        nearby = ops.average_pool(_mirror_edges(energy, 1), 3, strides=1, padding="valid")
        return ops.sqrt(cells / (nearby + SMALLEST_ENERGY) + 1e-4)

    def get_config(self) -> dict[str, object]:
        """Returns what re-creates the layer."""
        config = {
            key: value
            for key, value in super().get_config().items()
            if key not in ("dtype", "trainable")
        }
        return {**config, "scales": self.scales, "bins": self.bins, "cell": self.cell}


def _blur(grey: keras.KerasTensor, deviation: float) -> keras.KerasTensor:
    """Blurs [N, H, W, 1] by a Gaussian, down then across, mirrored at the edges."""
    radius = math.ceil(BLUR_REACH * deviation)
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * deviation**2))
    kernel = (weights / weights.sum()).astype(np.float32)
    blurred = ops.conv(_mirror_edges(grey, radius), kernel[:, None, None, None], padding="valid")
    return ops.conv(blurred, kernel[None, :, None, None], padding="valid")


def _mirror_edges(x: keras.KerasTensor, width: int) -> keras.KerasTensor:
    """Pads [N, H, W, C] by mirrored pixels on all four sides."""
    for axis in (1, 2):
        x = ops.take(x, np.pad(np.arange(x.shape[axis]), width, mode="reflect"), axis=axis)
    return x
