"""Graphs to put pipelines around, and the pipelines that a version folder asks for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from protocol.contracts import (
    DETECTION,
    FACE,
    SEGMENTATION,
    SENTIMENT,
    SERVING_DEFAULT,
    TENSORS,
    TaskContract,
)
from protocol.errors import FailedPreconditionError, InvalidRequestError
from protocol.image_pipelines import ImagePipeline, SegmentationPipeline
from protocol.pipelines import Array, Pipeline, SentimentPipeline, TensorPipeline
from protocol.tiling import Tiling
from protocol.tokenizer import WordTokenizer
from protocol.version_folder import ASSETS_FOLDER, Manifest


class Session(Protocol):
    """What of `onnxruntime.InferenceSession` is used here."""

    def get_inputs(self) -> Sequence[Any]:
        """The graph's inputs."""

    def run(self, output_names: Sequence[str], input_feed: Mapping[str, Array]) -> Sequence[Array]:
        """Computes the named outputs."""


class SessionGraph:
    """A session of ONNX Runtime as a `Graph`: strings are bytes, as everywhere else.

    Args:
        session: the session.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._string_inputs = frozenset(
            node.name for node in session.get_inputs() if node.type == "tensor(string)"
        )

    def __call__(self, tensors: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Computes the named outputs.

        Raises:
            InvalidRequestError: a string is not UTF-8.
            Exception: what the session raises.
        """
        feeds = {name: self._decoded(name, array) for name, array in tensors.items()}
        values = self._session.run(outputs, feeds)
        return dict(zip(outputs, map(_encoded, values), strict=True))

    def _decoded(self, name: str, array: Array) -> Array:
        """ONNX Runtime takes strings as `str`."""
        if name not in self._string_inputs:
            return array
        try:
            texts = [item.decode() for item in array.flat]
        except UnicodeDecodeError as error:
            raise InvalidRequestError(f"Input {name} is not UTF-8: {error}") from error
        return np.array(texts, dtype=object).reshape(array.shape)


def _encoded(array: Array) -> Array:
    if array.dtype != object:
        return array
    texts = [item.encode() for item in array.flat]
    return np.array(texts, dtype=object).reshape(array.shape)


def load_pipelines(folder: Path, manifest: Manifest) -> dict[str, Pipeline]:
    """Makes the pipelines of a version folder's ONNX graph.

    Args:
        folder: the version folder.
        manifest: its manifest.

    Returns:
        A pipeline for each signature that the server can offer, by its name: those of the task
        if it is known, else `tensors` where the manifest has it.

    Raises:
        DataLossError: an asset is missing or damaged.
        FailedPreconditionError: the manifest lacks what the task needs.
    """
    if manifest.task in (DETECTION.task, FACE.task):
        return _image_pipelines(DETECTION if manifest.task == DETECTION.task else FACE)
    if manifest.task == SEGMENTATION.task:
        return _segmentation_pipelines(folder, manifest)
    pipelines: dict[str, Pipeline] = {
        signature.name: TensorPipeline(signature)
        for signature in manifest.signatures
        if signature.name == TENSORS
    }
    if manifest.task == SENTIMENT.task:
        pipelines[SERVING_DEFAULT] = _sentiment_pipeline(folder, manifest)
    return pipelines


def _image_pipelines(contract: TaskContract) -> dict[str, Pipeline]:
    return {signature.name: ImagePipeline(signature) for signature in contract.signatures}


def _segmentation_pipelines(folder: Path, manifest: Manifest) -> dict[str, Pipeline]:
    labels = _labels(folder, manifest)
    tiling = _tiling(folder, manifest)
    return {
        signature.name: SegmentationPipeline(signature, labels, tiling)
        for signature in SEGMENTATION.signatures
    }


def _tiling(folder: Path, manifest: Manifest) -> Tiling | None:
    if "tile" not in manifest.pipeline:
        return None
    try:
        return Tiling(int(manifest.pipeline["tile"]), int(manifest.pipeline["overlap"]))
    except (KeyError, TypeError, ValueError) as error:
        raise FailedPreconditionError(
            f"the manifest in {folder} has no valid tile and overlap: {error}"
        ) from error


def _sentiment_pipeline(folder: Path, manifest: Manifest) -> SentimentPipeline:
    labels = _labels(folder, manifest)
    return SentimentPipeline(WordTokenizer.from_folder(folder / ASSETS_FOLDER), labels)


def _labels(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    if not manifest.labels:
        raise FailedPreconditionError(f"the manifest in {folder} has no labels")
    return manifest.labels
