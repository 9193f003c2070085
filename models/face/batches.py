"""Batches of P identities with K pictures each, new ones every epoch."""

from collections import deque
from collections.abc import Sequence

import keras
import numpy as np

from models.common.images import resize_image
from models.common.splits import DataError
from models.face.augmentation import Augmenter, center_crop
from models.face.config import FaceConfig
from models.face.data import FaceSet
from models.face.losses import losses_by_output

# Pictures are kept in memory at up to this many times the size that the network sees.
STORED_SCALE = 2.0


class IdentityBatches(keras.utils.PyDataset):
    """Batches of P times K pictures; no identity comes twice in one batch.

    Element: (image uint8 [P * K, S, S, 3], class ids int32 [P * K] under the name of each output
    of the trainer that has a loss). In an epoch a person takes as many turns as K goes into the
    number of their pictures, at least one and at most `most_images / K`.

    Args:
        people: pictures of each training identity, uint8 [S, S, 3] of any S, the whole centred
            square; class ids count in this order.
        config: batch shape, augmentation and seed.
    """

    def __init__(self, people: Sequence[Sequence[np.ndarray]], config: FaceConfig) -> None:
        super().__init__(workers=1)
        training = config.training
        if len(people) < training.identities_per_batch:
            raise DataError(
                f"a batch needs {training.identities_per_batch} identities with at least "
                f"{training.fewest_images} pictures, there are {len(people)}; lower "
                "training.identities_per_batch"
            )
        self.outputs = tuple(losses_by_output(config.loss))
        self._people = people
        self._training = training
        self._random = np.random.default_rng(training.seed)
        self._augment = Augmenter(config.augmentation, config.network, self._random)
        self._batches: list[list[int]] = []
        self.on_epoch_end()

    def __len__(self) -> int:
        """Batches in an epoch; the same in every epoch."""
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Returns one batch; see the class for shapes."""
        images = [
            self._augment(self._people[person][picture])
            for person in self._batches[index]
            for picture in self._pick(len(self._people[person]))
        ]
        class_ids = np.repeat(
            np.array(self._batches[index], np.int32), self._training.images_per_identity
        )
        return np.stack(images), dict.fromkeys(self.outputs, class_ids)

    def _pick(self, pictures: int) -> np.ndarray:
        """Draws K pictures of one person, repeating some only if there are fewer than K."""
        wanted = self._training.images_per_identity
        return self._random.choice(pictures, wanted, replace=pictures < wanted)

    def on_epoch_end(self) -> None:
        """Draws the next epoch's batches."""
        turns = [
            person
            for person, pictures in enumerate(self._people)
            for _ in range(self._turns(len(pictures)))
        ]
        self._random.shuffle(turns)
        batches = group_distinct(turns, self._training.identities_per_batch)
        # The schedule of the learning rate counts on epochs of one length.
        self._batches = batches[: len(self._batches) or self._fewest_batches(len(turns))]

    def _turns(self, pictures: int) -> int:
        seen = min(pictures, self._training.most_images)
        return max(1, round(seen / self._training.images_per_identity))

    def _fewest_batches(self, turns: int) -> int:
        return max(1, int(0.9 * turns / self._training.identities_per_batch))


def group_distinct(items: Sequence[int], size: int) -> list[list[int]]:
    """Fills groups of `size` different items in the given order; what does not fit is left over."""
    waiting = deque(items)
    groups: list[list[int]] = []
    group: list[int] = []
    skipped = 0
    while waiting and skipped <= len(waiting):
        item = waiting.popleft()
        if item in group:
            waiting.append(item)
            skipped += 1
            continue
        skipped = 0
        group.append(item)
        if len(group) == size:
            groups.append(group)
            group = []
    return groups


def read_people(faces: FaceSet, config: FaceConfig) -> list[list[np.ndarray]]:
    """Reads the pictures of every identity that has enough of them.

    Returns:
        For each identity, in the order of the names, its pictures as centred squares, uint8
        [S, S, 3], at most `STORED_SCALE` times as large as needed.

    Raises:
        DataError: if a file cannot be read, or nobody has enough pictures.
    """
    grouped: dict[str, list[np.ndarray]] = {}
    counts = np.bincount(faces.identities) if faces.faces else np.zeros(0, int)
    largest = int(STORED_SCALE * config.network.image_size / config.network.central)
    for face, identity in zip(faces.faces, faces.identities, strict=True):
        if counts[identity] >= config.training.fewest_images:
            grouped.setdefault(face.identity, []).append(_square(face.pixels(), largest))
    if not grouped:
        raise DataError(
            f"no identity has {config.training.fewest_images} pictures or more to train on"
        )
    return list(grouped.values())


def _square(image: np.ndarray, largest: int) -> np.ndarray:
    square = center_crop(image, 1.0)
    side = min(square.shape[0], largest)
    return resize_image(square, side, side)
