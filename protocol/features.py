"""What is watched of a task's requests and answers: a few numbers of each row.

| feature | of | what it is |
|---|---|---|
| `pixels` | images | height times width |
| `brightness` | images | mean of all channels, 0 to 255 |
| `words` | texts | words, or subwords, of a text |
| `unknown` | texts | share of them that the vocabulary lacks, 0 to 1 |
| `score` | sentiment | probability of the class |
| | detection | score of each detection |
| | translation | score of the translation |
| `class` | sentiment | name of the class |
| | detection | of each detection |
| | segmentation | of pixels on a grid |
| `detections` | detection | how many there are |
| `embedding` | face | cosine to the mean embedding of the reference |
| `length_ratio` | translation | characters of the translation for each of the source |
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from protocol.contracts import DETECTION, FACE, SEGMENTATION, SENTIMENT, TRANSLATION
from protocol.drift import DriftWatch, Reference, Values
from protocol.errors import ServiceError
from protocol.images import decode_image
from protocol.subwords import SubwordTokenizer
from protocol.tokenizer import UNKNOWN_ID, Encoded, WordTokenizer
from protocol.version_folder import ASSETS_FOLDER, MANIFEST_FILE, Manifest

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]
Features = dict[str, Values]

FeatureReader = Callable[[Mapping[str, Array], Mapping[str, Array]], Features]
"""Inputs and outputs of the signature `serving_default`, by alias -> values of each feature."""

# Along each side of an image, for its brightness and the classes of its mask.
_GRID = 32


def feature_reader(folder: Path, manifest: Manifest, reference: Reference) -> FeatureReader | None:
    """Returns what reads the features of a version's requests and answers.

    Args:
        folder: the version folder, whose assets hold the tokenizer.
        manifest: its manifest.
        reference: gives the mean embedding.

    Returns:
        A function that may take milliseconds, and raises InvalidRequestError for an image that
        can not be decoded; None for a task without features.

    Raises:
        DataLossError: the tokenizer can not be read.
    """
    task, assets = manifest.task, folder / ASSETS_FOLDER
    if task == FACE.task:
        return _Face(np.array(reference.mean_embedding, np.float32))
    if task == SENTIMENT.task:
        return _Sentiment(WordTokenizer.from_folder(assets).encode)
    if task == TRANSLATION.task:
        return _Translation(SubwordTokenizer.from_folder(assets).encode)
    return {DETECTION.task: _detection, SEGMENTATION.task: _segmentation}.get(task)


class WatchedVersion(NamedTuple):
    """A version that can be watched for drift.

    Attributes:
        read: reads the features of a request and its answer.
        watch: remembers them.
    """

    read: FeatureReader
    watch: DriftWatch


def watched_version(folder: Path) -> WatchedVersion | None:
    """Opens a version for watching; None where its manifest has no reference, or it has none.

    A damaged version is not watched either, and logged.
    """
    if not (folder / MANIFEST_FILE).is_file():
        return None
    try:
        manifest = Manifest.read(folder)
        reference = manifest.reference
        read = feature_reader(folder, manifest, reference) if reference else None
    except ServiceError as error:
        log.warning("%s is not watched for drift: %s", folder, error)
        return None
    return WatchedVersion(read, DriftWatch(reference)) if read and reference else None


class _Face:
    def __init__(self, mean: npt.NDArray[np.float32]) -> None:
        self._mean = mean

    def __call__(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Features:
        features = _of_images(inputs["image_bytes"])
        if self._mean.size:
            features["embedding"] = outputs["embedding"] @ self._mean
        return features


class _Sentiment:
    def __init__(self, encode: Callable[[bytes], Encoded]) -> None:
        self._encode = encode

    def __call__(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Features:
        return {
            **_of_texts(inputs["text"], self._encode),
            "score": outputs["probability"].max(axis=1),
            "class": _texts(outputs["label"]),
        }


class _Translation:
    def __init__(self, encode: Callable[[bytes], Encoded]) -> None:
        self._encode = encode

    def __call__(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Features:
        sources, translations = _texts(inputs["text"]), _texts(outputs["translation"])
        lengths = zip(sources, translations, strict=True)
        return {
            **_of_texts(inputs["text"], self._encode),
            "score": outputs["score"],
            "length_ratio": np.array([len(to) / max(1, len(source)) for source, to in lengths]),
        }


def _detection(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Features:
    found = outputs["num_detections"]
    rows = range(len(found))
    return {
        **_of_images(inputs["image_bytes"]),
        "detections": found,
        "score": np.concatenate([outputs["scores"][row, : found[row]] for row in rows]),
        "class": _texts(np.concatenate([outputs["labels"][row, : found[row]] for row in rows])),
    }


def _segmentation(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Features:
    names = [_texts(row) for row in outputs["class_names"]]
    masks = [_on_grid(decode_image(file)[..., 0]) for file in outputs["mask_png"]]
    classes = [own[mask.ravel()] for own, mask in zip(names, masks, strict=True)]
    return {**_of_images(inputs["image_bytes"]), "class": np.concatenate(classes)}


def _of_images(files: Array) -> Features:
    images = [decode_image(file) for file in files]
    return {
        "pixels": np.array([image.shape[0] * image.shape[1] for image in images]),
        "brightness": np.array([_on_grid(image).mean() for image in images]),
    }


def _on_grid(image: Array) -> Array:
    """Every so many pixels of an image, about `_GRID` along each side."""
    rows, columns = (max(1, size // _GRID) for size in image.shape[:2])
    grid: Array = image[rows // 2 :: rows, columns // 2 :: columns]
    return grid


def _of_texts(texts: Array, encode: Callable[[bytes], Encoded]) -> Features:
    encoded = [encode(text) for text in texts]
    return {
        "words": np.array([each.tokens for each in encoded]),
        "unknown": np.array([_unknown(each.ids) for each in encoded]),
    }


def _unknown(ids: list[int]) -> float:
    return ids.count(UNKNOWN_ID) / max(1, len(ids))


def _texts(values: Array) -> Array:
    """Strings of bytes."""
    return np.array([value.decode("utf-8", "replace") for value in values], dtype=str)
