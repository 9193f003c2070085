"""The upper limits: a published model in this process, with no server around it."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from export.served_models import SERVED
from models.common.backends import SavedModelBackend
from protocol.contracts import TRANSLATION
from protocol.version_folder import SAVED_MODEL_FILE, Manifest
from tests.bench.rivals.servers.steps import load_steps
from tests.bench.workloads import Workload

if TYPE_CHECKING:
    from models.translation.signature import TranslationModel

Outputs = dict[str, np.ndarray[Any, Any]]


class RawModel(Protocol):
    """One engine in this process."""

    name: str

    def run(self, items: Sequence[Any]) -> Outputs:
        """Returns the outputs for a batch of texts or image files."""


class RawOnnx:
    """The host's steps and ONNX Runtime, as in the embedded server.

    Args:
        folder: Version folder with model.onnx and its assets.
        workload: Gives the inputs' names and the number of threads.
    """

    name = "raw ONNX Runtime"

    def __init__(self, folder: Path, workload: Workload) -> None:
        self._run = load_steps(folder, workload.raw_threads)
        self._workload = workload

    def run(self, items: Sequence[Any]) -> Outputs:
        """See `RawModel.run`."""
        return self._run(request_inputs(self._workload, items))


class RawSavedModel:
    """The SavedModel's signature, called by TensorFlow on all cores.

    Args:
        folder: Version folder with saved_model.pb.
        workload: Gives the inputs' names.
    """

    name = "raw SavedModel"

    def __init__(self, folder: Path, workload: Workload) -> None:
        self._backend = _saved_model(folder)
        self._workload = workload

    def run(self, items: Sequence[Any]) -> Outputs:
        """See `RawModel.run`."""
        return self._backend.run_signature(request_inputs(self._workload, items))


class RawCTranslate2:
    """The Transformer of a run in CTranslate2, between the same tokenizer's encoding and decoding.

    Args:
        model: what the published version was exported from.
        workload: Gives beam width and number of threads.
    """

    name = "CTranslate2"

    def __init__(self, model: "TranslationModel", workload: Workload) -> None:
        from tests.bench.ctranslate2_model import CTranslate2Transformer, convert, vocabulary

        self._model = model
        self._beam_width = workload.options["beam_width"]
        with TemporaryDirectory() as folder:
            convert(model, Path(folder))
            self._engine = CTranslate2Transformer(
                Path(folder), vocabulary(model), workload.raw_threads
            )

    def run(self, items: Sequence[Any]) -> Outputs:
        """See `RawModel.run`; the translations alone."""
        tokenizer, decoding = self._model.tokenizer, self._model.config.decoding
        found = self._engine.translate(
            [tokenizer.encode(item).ids for item in items],
            self._beam_width,
            decoding.length_penalty,
            decoding.max_length,
        )
        best = [tokenizer.decode(each.token_ids[0]) for each in found]
        return {"translation": byte_strings(best)}


def raw_models(folder: Path, workload: Workload) -> list[RawModel]:
    """Loads the engines that can run a published version; ONNX comes first."""
    models: list[RawModel] = [RawOnnx(folder, workload)]
    if (folder / SAVED_MODEL_FILE).is_file():
        models.append(RawSavedModel(folder, workload))
    transformer = shipped_transformer(folder)
    if transformer is not None:
        models.append(RawCTranslate2(transformer, workload))
    return models


@cache
def shipped_transformer(folder: Path) -> "TranslationModel | None":
    """Loads the weights that ship for a published Transformer, None if it is no such model."""
    manifest = Manifest.read(folder)
    if manifest.task != TRANSLATION.task:
        return None
    from models.translation.signature import load_model

    served = SERVED.get(manifest.model_name)
    run = served.shipped_run() if served else None
    model = load_model(run) if run else None
    return model if model and model.config.network == "transformer" else None


def equal_translations(model: RawModel, other: RawModel, items: Sequence[Any]) -> float:
    """Returns the share of texts that two engines translate alike."""
    pairs = zip(model.run(items)["translation"], other.run(items)["translation"], strict=True)
    return sum(a == b for a, b in pairs) / len(items)


def request_inputs(workload: Workload, items: Sequence[Any]) -> Outputs:
    """Returns the inputs of a request for a batch of texts or image files."""
    options = {name: np.array(value, np.int32) for name, value in workload.options.items()}
    return {workload.input: byte_strings(items), **options}


@cache
def _saved_model(folder: Path) -> SavedModelBackend:
    """All workloads share one: to load it takes seconds."""
    return SavedModelBackend(folder)


def byte_strings(items: Sequence[Any]) -> np.ndarray[Any, Any]:
    """Packs texts or files as a string tensor, object [N] of bytes."""
    packed = np.empty(len(items), dtype=object)
    for row, item in enumerate(items):
        packed[row] = item.encode() if isinstance(item, str) else item
    return packed
