"""Images with masks: from folders to batches of augmented crops.

A data folder holds `images` and `masks`, or a folder for each split (`train`, `val` or `dev`,
`test`) that holds both. A mask is a PNG of the image's size and name. Its values are class ids;
where there are two classes, 0 and 255 will do.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from models.common.images import find_images, read_image, read_mask
from models.common.splits import DEV, SPLIT_ALIASES, TRAIN, DataError, in_held_out_part
from models.segmentation.augmentation import augment
from models.segmentation.config import VOID, AugmentationConfig

IMAGES, MASKS = "images", "masks"


@dataclass(frozen=True)
class Example:
    """One labelled image, held in memory.

    Attributes:
        name: the file's name without its suffix.
        image: uint8 [H, W, 3], RGB.
        mask: uint8 [H, W], class ids, or VOID.
        path: the image's file; None if it was made up.
    """

    name: str
    image: np.ndarray
    mask: np.ndarray
    path: Path | None = None


@dataclass(frozen=True)
class Source:
    """One data folder.

    Attributes:
        name: of the folder.
        splits: train, dev, test -> examples.
        digest: SHA-256 of all image and mask files.
        has_folders: whether the folder itself says which split an image belongs to; where it
            does not, train and dev are the parts that a hash of the name makes.
    """

    name: str
    splits: dict[str, list[Example]]
    digest: str
    has_folders: bool = True

    @property
    def stated_splits(self) -> list[str]:
        """The splits from which evaluation chooses by default."""
        return list(self.splits) if self.has_folders else []


def find_splits(folder: Path) -> dict[str, Path]:
    """Returns split name -> folder with `images` and `masks`; "" -> `folder` where it is flat.

    Raises:
        DataError: if neither layout is there, or two folders mean the same split.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such data folder")
    if (folder / IMAGES).is_dir():
        return {"": folder}
    found: dict[str, Path] = {}
    for alias, split in SPLIT_ALIASES.items():
        if not (folder / alias / IMAGES).is_dir():
            continue
        if split in found:
            raise DataError(f"{folder}: two folders for {split}: {found[split].name}, {alias}")
        found[split] = folder / alias
    if not found:
        there = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
        raise DataError(
            f"{folder}: expected {IMAGES} and {MASKS}, or train, val, test with both; "
            f"found: {there}"
        )
    return found


def load_source(
    folder: Path, labels: Sequence[str], void_value: int | None, dev_fraction: float
) -> Source:
    """Reads and checks a data folder.

    Where it has no dev part, a fixed part of train is held out by a hash of the file names.

    Args:
        folder: see the module.
        labels: names of the classes, by id.
        void_value: the value of pixels without a class, or None.
        dev_fraction: size of the part held out.

    Raises:
        DataError: for a file that cannot be trained on; the message names it.
    """
    folders = find_splits(folder)
    digest = hashlib.sha256()
    splits = {
        split or TRAIN: load_examples(path, labels, void_value, digest)
        for split, path in sorted(folders.items())
    }
    if DEV not in splits and TRAIN in splits:
        examples = splits[TRAIN]
        held_out = [in_held_out_part(example.name, dev_fraction) for example in examples]
        splits[DEV] = [e for e, out in zip(examples, held_out, strict=True) if out]
        splits[TRAIN] = [e for e, out in zip(examples, held_out, strict=True) if not out]
    return Source(folder.name, splits, digest.hexdigest(), has_folders="" not in folders)


def load_examples(
    folder: Path, labels: Sequence[str], void_value: int | None, digest: "hashlib._Hash"
) -> list[Example]:
    """Reads `images` and `masks` of one folder, by name; `digest` takes in every file.

    Raises:
        DataError: as `load_example` does; for two images of one name, or a mask without image.
    """
    paths = find_images(folder / IMAGES)
    names = [path.stem for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{folder / IMAGES}: several images are called {twice[0]}")
    orphans = sorted({path.stem for path in (folder / MASKS).glob("*.png")} - set(names))
    if orphans:
        raise DataError(f"{folder / MASKS / orphans[0]}.png: there is no image of this name")
    examples = []
    for path in paths:
        mask = folder / MASKS / f"{path.stem}.png"
        examples.append(load_example(path, mask, labels, void_value))
        digest.update(path.read_bytes())
        digest.update(mask.read_bytes())
    return examples


def load_example(
    image_path: Path, mask_path: Path, labels: Sequence[str], void_value: int | None
) -> Example:
    """Reads one image and its mask.

    Raises:
        DataError: if the mask is missing, a file is unreadable, the sizes differ, or the mask
            holds a value that is no class.
    """
    if not mask_path.is_file():
        raise DataError(f"{image_path}: its mask {mask_path} is missing")
    image, values = read_image(image_path), read_mask(mask_path)
    if values.shape != image.shape[:2]:
        raise DataError(
            f"{mask_path}: the mask is {_size(values)} pixels, its image {image_path.name} "
            f"{_size(image)}"
        )
    try:
        mask = class_ids_of(values, labels, void_value)
    except ValueError as error:
        raise DataError(f"{mask_path}: {error}") from error
    return Example(image_path.stem, image, mask, image_path)


def _size(array: np.ndarray) -> str:
    height, width = array.shape[:2]
    return f"{width}x{height}"


def class_ids_of(values: np.ndarray, labels: Sequence[str], void_value: int | None) -> np.ndarray:
    """Turns the values of a mask file into class ids.

    Args:
        values: uint8 [H, W].
        labels: names of the classes.
        void_value: the value of pixels without a class, or None. Unless it is 255, a mask of two
            classes may hold 255 for class 1.

    Returns:
        uint8 [H, W], class ids or VOID.

    Raises:
        ValueError: for a value that is neither.
    """
    table = np.full(256, -1, np.int16)
    table[: len(labels)] = np.arange(len(labels))
    if len(labels) == 2:
        table[255] = 1
    if void_value is not None:
        table[void_value] = VOID
    class_ids = table[values]
    unknown = np.unique(values[class_ids < 0])
    if unknown.size:
        known = ", ".join(f"{i} {label}" for i, label in enumerate(labels))
        void = "" if void_value is None else f", {void_value} void"
        raise ValueError(f"value {unknown[0]} is no class; expected {known}{void}")
    return class_ids.astype(np.uint8)


def class_frequencies(examples: Sequence[Example], classes: int) -> np.ndarray:
    """Returns each class's share of the pixels of those images that hold it: float [classes].

    A class that no image holds has frequency 0.

    Source: Eigen and Fergus 2015, "Predicting Depth, Surface Normals and Semantic Labels",
        section 6.3.2.
    """
    found, possible = np.zeros(classes), np.zeros(classes)
    for example in examples:
        counts = np.bincount(example.mask.ravel(), minlength=256)[:classes]
        found += counts
        possible += np.where(counts > 0, counts.sum(), 0)
    return found / np.maximum(1, possible)


def look_shares(examples: Sequence[Example], power: float) -> np.ndarray:
    """Returns how often to draw each image so that rare looks are seen more: float [N].

    An image looks grey or coloured, and dark or bright. It is drawn (images of the commonest look
    / images of its own look) ^ power times as often as one of the commonest.
    """
    looks = [
        (bool((e.image == e.image[..., :1]).all()), float(e.image.mean()) > 255 / 2)
        for e in examples
    ]
    counts = Counter(looks)
    largest = max(counts.values())
    return np.array([(largest / counts[look]) ** power for look in looks])


class CropSequence(keras.utils.PyDataset):
    """Batches of random crops; the order and the crops change every epoch.

    Each batch is (images uint8 [B, S, S, 3], {"logits": class ids int32 [B, S, S]},
    {"logits": weights float32 [B]}), where S is the crop's side and void pixels are VOID. The
    last batch is filled up with images from the start, so that all have one shape.

    Args:
        examples: labelled images.
        config: how crops are made.
        batch_size: B.
        crops_per_image: how often an epoch uses an image, on average.
        seed: of order and augmentation.
        shares: how often each image is drawn in comparison to the others, float [N]; None draws
            all alike.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        config: AugmentationConfig,
        batch_size: int,
        crops_per_image: int = 1,
        seed: int = 0,
        shares: np.ndarray | None = None,
    ) -> None:
        super().__init__(workers=1)
        self.examples = list(examples)
        self.config = config
        self.batch_size = batch_size
        shares = np.ones(len(self.examples)) if shares is None else shares
        self._copies = crops_per_image * shares / shares.mean()
        self._batches = -(-len(self.examples) * crops_per_image // batch_size)
        self._random = np.random.default_rng(seed)
        self._order = np.zeros(0, np.int64)
        self.on_epoch_end()

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._batches

    def __getitem__(
        self, index: int
    ) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Returns one batch of fresh crops; see the class for shapes."""
        rows = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        crops = [
            augment(self.examples[i].image, self.examples[i].mask, self.config, self._random)
            for i in rows
        ]
        images = np.stack([crop.image for crop in crops])
        masks = np.stack([crop.mask for crop in crops]).astype(np.int32)
        return images, {"logits": masks}, {"logits": np.ones(len(rows), np.float32)}

    def on_epoch_end(self) -> None:
        """Draws how often each image is used, and a new order."""
        chance = self._random.random(len(self.examples))
        copies = np.floor(self._copies + chance).astype(np.int64)
        order = self._random.permutation(np.repeat(np.arange(len(self.examples)), copies))
        self._order = np.resize(order, self._batches * self.batch_size)
