"""Graphs to put pipelines around, and the pipelines that a version folder asks for."""

from collections.abc import Collection, Iterable, Mapping, Sequence
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
    TRANSLATION,
    TaskContract,
)
from protocol.errors import FailedPreconditionError, InternalError, InvalidRequestError
from protocol.image_pipelines import ImagePipeline, SegmentationPipeline
from protocol.pipelines import Array, Pipeline, SentimentPipeline, TensorPipeline
from protocol.subwords import SubwordTokenizer
from protocol.tiling import Tiling
from protocol.tokenizer import WordTokenizer
from protocol.translation_pipeline import (
    AttentionPipeline,
    SearchSettings,
    TextPipeline,
    TranslationPipeline,
)
from protocol.version_folder import ASSETS_FOLDER, Manifest


class Session(Protocol):
    """What of `onnxruntime.InferenceSession` is used here."""

    def get_inputs(self) -> Sequence[Any]:
        """The graph's inputs."""

    def get_outputs(self) -> Sequence[Any]:
        """The graph's outputs."""

    def run(
        self, output_names: Sequence[str], input_feed: Mapping[str, Array], run_options: Any = None
    ) -> Sequence[Array]:
        """Computes the named outputs."""


class SessionGraph:
    """Sessions of ONNX Runtime as one `Graph`: strings are bytes, as everywhere else.

    The session that has the outputs asked for computes them. A name that ends in "*" stands for
    all outputs that begin so. What one step hands to the next passes through here as arrays:
    ONNX Runtime shares their memory, and values that stay its own were no faster.

    Args:
        sessions: at least one.

    Attributes:
        run_options: of ONNX Runtime, for the runs that follow; None for none.
    """

    def __init__(self, *sessions: Session) -> None:
        self.run_options: Any = None
        self._sessions = sessions
        self._choices: dict[tuple[str, ...], _Choice] = {}

    def __call__(self, tensors: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Computes the named outputs.

        Raises:
            InvalidRequestError: a string is not UTF-8.
            InternalError: no session has all these outputs.
            Exception: what the session raises.
        """
        wanted = tuple(outputs)
        choice = self._choices.get(wanted)
        if choice is None:
            choice = self._choices[wanted] = _choose(self._sessions, wanted)
        return choice.run(tensors, self.run_options)


class _Choice:
    """A session, and which of its outputs to compute."""

    def __init__(self, session: Session, outputs: Sequence[str]) -> None:
        self._session = session
        self._outputs = outputs
        self._string_inputs = frozenset(
            node.name for node in session.get_inputs() if node.type == "tensor(string)"
        )

    def run(self, tensors: Mapping[str, Array], options: Any) -> dict[str, Array]:
        """Computes the outputs; ONNX Runtime takes and gives strings as `str`."""
        feeds = dict(tensors)
        for name in self._string_inputs & feeds.keys():
            feeds[name] = _decoded(name, tensors[name])
        values = self._session.run(self._outputs, feeds, options)
        return dict(zip(self._outputs, map(_encoded, values), strict=True))


def _choose(sessions: Sequence[Session], wanted: Sequence[str]) -> _Choice:
    available = [[node.name for node in session.get_outputs()] for session in sessions]
    for session, names in zip(sessions, available, strict=True):
        if not missing_outputs(wanted, names):
            return _Choice(session, [each for name in wanted for each in _matching(name, names)])
    raise InternalError(f"no graph computes {', '.join(wanted)}; there are {available}")


def missing_outputs(wanted: Iterable[str], available: Collection[str]) -> list[str]:
    """Returns the names wanted of a graph that stand for none of its outputs."""
    return [name for name in wanted if not _matching(name, available)]


def _matching(wanted: str, available: Collection[str]) -> list[str]:
    if wanted.endswith("*"):
        return [name for name in available if name.startswith(wanted[:-1])]
    return [wanted] if wanted in available else []


def _decoded(name: str, array: Array) -> Array:
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
    """Makes the pipelines of a version folder's ONNX graph or graphs.

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
    if manifest.task == TRANSLATION.task:
        return _translation_pipelines(folder, manifest)
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


def _translation_pipelines(folder: Path, manifest: Manifest) -> dict[str, Pipeline]:
    tokenizer = SubwordTokenizer.from_folder(folder / ASSETS_FOLDER)
    settings = _search_settings(folder, manifest)
    kinds = (TextPipeline, AttentionPipeline, TranslationPipeline)
    return {kind.spec.name: kind(tokenizer, settings) for kind in kinds}


def _search_settings(folder: Path, manifest: Manifest) -> SearchSettings:
    try:
        return SearchSettings.from_json(manifest.pipeline)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FailedPreconditionError(
            f"the manifest in {folder} has no valid settings of the search: {error!r}"
        ) from error


def _sentiment_pipeline(folder: Path, manifest: Manifest) -> SentimentPipeline:
    labels = _labels(folder, manifest)
    return SentimentPipeline(WordTokenizer.from_folder(folder / ASSETS_FOLDER), labels)


def _labels(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    if not manifest.labels:
        raise FailedPreconditionError(f"the manifest in {folder} has no labels")
    return manifest.labels
