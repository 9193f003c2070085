"""Batches of augmented images for training."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from models.common.images import read_image, resize_image
from models.detection.augmentation import Augmenter, Sample
from models.detection.config import DetectionConfig
from models.detection.data import LabelledImage
from models.detection.letterbox import Letterbox

# Class id of unused rows of the labels.
NO_CLASS = -1


def load_sample(image: LabelledImage, config: DetectionConfig) -> Sample:
    """Reads an image, scales it to fit the network's, and its boxes with it.

    Raises:
        DataError: if the file is no image.
    """
    letterbox = Letterbox.of(image.height, image.width, config.height, config.width)
    pixels = resize_image(read_image(image.path), letterbox.height, letterbox.width)
    learned = ~image.ignored
    return Sample(pixels, image.boxes_xyxy[learned] * letterbox.scales, image.class_ids[learned])


class TrainingBatches(keras.utils.PyDataset):
    """Augmented batches of one size; an epoch shows every sample `passes_per_epoch` times.

    A batch depends on the seed, the epoch and its number alone, so that a resumed run sees what
    it would have seen. Set `epoch` before each epoch.

    Each item is image uint8 [N, H, W, 3] and {"predictions": float32 [N, M, 5]}: box, class id.
    """

    def __init__(self, samples: Sequence[Sample], config: DetectionConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.samples = list(samples)
        self.config = config
        self.augment = Augmenter(config.augmentation, config.height, config.width)
        self.epoch = 0

    def __len__(self) -> int:
        training = self.config.training
        shown = training.passes_per_epoch * len(self.samples)
        return max(1, shown // training.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        training = self.config.training
        random = np.random.default_rng([training.seed, self.epoch, index])
        rows = [self._augmented(int(i), random) for i in self._chosen(index)]
        labels = np.stack([pad_labels(row, training.max_boxes) for row in rows])
        return np.stack([row.image_u8 for row in rows]), {"predictions": labels}

    def _chosen(self, index: int) -> np.ndarray:
        """Returns which samples the batch shows, int [N]."""
        training = self.config.training
        order = np.random.default_rng([training.seed, self.epoch])
        passes = training.passes_per_epoch + 1  # one more to fill a batch from few samples
        shown = np.concatenate([order.permutation(len(self.samples)) for _ in range(passes)])
        places = index * training.batch_size + np.arange(training.batch_size)
        return np.asarray(np.take(shown, places, mode="wrap"))

    def _augmented(self, chosen: int, random: np.random.Generator) -> Sample:
        training = self.config.training
        if self.epoch >= training.epochs - training.closing_epochs:
            return self.augment.plain(self.samples[chosen], random)
        return self.augment(self.samples, chosen, random)


def pad_labels(sample: Sample, rows: int) -> np.ndarray:
    """Returns boxes and class ids as float32 [rows, 5]; unused rows have class id -1."""
    labels = np.zeros((rows, 5), np.float32)
    labels[:, 4] = NO_CLASS
    count = min(rows, len(sample.class_ids))
    labels[:count, :4] = sample.boxes_xyxy[:count]
    labels[:count, 4] = sample.class_ids[:count]
    return labels
