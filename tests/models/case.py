"""What the contract kit needs to know of a model package."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Case:
    """One model package, small.

    Attributes:
        config_class: its configuration dataclass.
        presets: its named configurations, `tiny` and `base` among them.
        network: a TINY network.
        batch: inputs, then what `train_on_batch` takes besides: targets, perhaps weights; each
            an array, or arrays by name.
        output_shapes: of the network's outputs for the batch; an unnamed output has the name of
            the layer it comes from.
        compiled: gives the network ready to train.
        steps: training steps after which the loss on the same batch must have fallen.
    """

    config_class: type
    presets: dict[str, Any]
    network: keras.Model
    batch: tuple[Any, ...]
    output_shapes: dict[str, tuple[int, ...]]
    compiled: Callable[[], keras.Model]
    steps: int = 8
