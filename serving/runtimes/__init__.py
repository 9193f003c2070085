"""The engines that run model files, and the rule that picks one for a version folder.

Importing this package imports no engine: each is imported when the first version needs it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from protocol import version_folder
from protocol.errors import FailedPreconditionError, NotFoundError, ServiceError
from serving.core.loading import Runtime
from serving.core.servable import AspiredVersion

ONNX = "onnx"
SAVED_MODEL = "saved_model"
LITERT = "litert"
AUTO = "auto"


@dataclass(frozen=True)
class RuntimeOptions:
    """How the engines run.

    Attributes:
        runtime: `auto`, `onnx` or `saved_model`.
        intra_op_threads: Threads within one operation; 0 leaves the choice to the engine.
        inter_op_threads: Operations run at once; 0 leaves the choice to the engine.
        saved_model_tags: Tags of the graph to load from a SavedModel.
        gpu_memory_fraction: Most of a GPU's memory that TensorFlow takes; 0 sets no limit.
        prefer_tflite: Run `model.tflite` in LiteRT where there is one.
        tflite_interpreters: Interpreters that are kept of each such version.
    """

    runtime: str = AUTO
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    saved_model_tags: tuple[str, ...] = ("serve",)
    gpu_memory_fraction: float = 0.0
    prefer_tflite: bool = False
    tflite_interpreters: int = 1


class RuntimeChooser:
    """Picks the runtime of a version: `model.onnx` wins over `saved_model.pb` unless told.

    `model.tflite` is looked at on request only, and wins then.
    """

    def __init__(self, options: RuntimeOptions) -> None:
        self._options = options
        self._make = cache(self._make_runtime)

    def __call__(self, aspired: AspiredVersion) -> Runtime:
        """The runtime for a version.

        Raises:
            ServiceError: The folder lacks the file, or the engine is not installed.
        """
        return self._make(self._kind(aspired))

    def _kind(self, aspired: AspiredVersion) -> str:
        folder = aspired.folder
        has_onnx = (folder / version_folder.ONNX_FILE).is_file()
        has_saved_model = _has_saved_model(folder)
        if self._prefers_tflite(aspired):
            return LITERT
        kind = ONNX if aspired.platform == "onnxruntime" else self._options.runtime
        if kind == AUTO:
            kind = SAVED_MODEL if has_saved_model and not has_onnx else ONNX
        if not (has_onnx if kind == ONNX else has_saved_model):
            raise NotFoundError(_missing(folder, kind, has_onnx, has_saved_model))
        return kind

    def _prefers_tflite(self, aspired: AspiredVersion) -> bool:
        has_file = (aspired.folder / version_folder.TFLITE_FILE).is_file()
        return self._options.prefer_tflite and has_file and aspired.platform != "onnxruntime"

    def _make_runtime(self, kind: str) -> Runtime:
        makers = {
            ONNX: self._make_onnx,
            SAVED_MODEL: self._make_saved_model,
            LITERT: self._make_litert,
        }
        return makers[kind]()

    def _make_litert(self) -> Runtime:
        try:
            from serving.runtimes.litert import LiteRtRuntime
        except ImportError as error:
            raise _not_installed("ai-edge-litert", "litert", error) from error
        return LiteRtRuntime(self._options.tflite_interpreters, self._options.intra_op_threads)

    def _make_onnx(self) -> Runtime:
        try:
            from serving.runtimes.onnx import OnnxRuntime
        except ImportError as error:
            raise _not_installed("onnxruntime", "serve", error) from error
        return OnnxRuntime(self._options.intra_op_threads, self._options.inter_op_threads)

    def _make_saved_model(self) -> Runtime:
        try:
            from serving.runtimes.saved_model import SavedModelRuntime
        except ImportError as error:
            raise _not_installed("tensorflow", "tensorflow", error) from error
        return SavedModelRuntime(
            self._options.saved_model_tags,
            self._options.intra_op_threads,
            self._options.inter_op_threads,
            self._options.gpu_memory_fraction,
        )


def profiler_address() -> str | None:
    """Where TensorFlow's profiler listens; None if no SavedModel was loaded so far."""
    module = sys.modules.get("serving.runtimes.saved_model")
    return None if module is None else str(module.start_profiler())


def _has_saved_model(folder: Path) -> bool:
    names = (version_folder.SAVED_MODEL_FILE, f"{version_folder.SAVED_MODEL_FILE}txt")
    return any((folder / name).is_file() for name in names)


def _missing(folder: Path, kind: str, has_onnx: bool, has_saved_model: bool) -> str:
    wanted = "model.onnx" if kind == ONNX else "saved_model.pb"
    message = f"No {wanted} in {folder}"
    if has_onnx:
        return f"{message}; it has model.onnx, which --runtime=onnx runs"
    if has_saved_model:
        return f"{message}; it has saved_model.pb, which --runtime=saved_model runs"
    if (folder / version_folder.TFLITE_FILE).is_file():
        return f"{message}; it has model.tflite, which --prefer_tflite_model runs"
    return message


def _not_installed(package: str, extra: str, error: ImportError) -> ServiceError:
    return FailedPreconditionError(
        f"{package} can not be imported ({error}); install the extra [{extra}]"
    )
