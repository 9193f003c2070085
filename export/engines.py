"""Engines that run an exported file, as backends: ONNX Runtime and LiteRT.

The host-side steps around them are those of the server and of local clients.
"""

from pathlib import Path

from export.formats import FILES, format_files
from models.common.backends import GraphBackend
from protocol.edge_files import LITERT_SUFFIX, open_onnx, open_tflite
from protocol.graphs import Session
from protocol.version_folder import Manifest


class FileBackend(GraphBackend):
    """One format of a version folder, in the engine that is made for it.

    Args:
        folder: the version folder, with its manifest.
        name: the format, of `FILES`.
        threads: threads within one operation; 0 leaves the choice to the engine.
        signature: which of its signatures to answer.

    Raises:
        FileNotFoundError: the folder has no such file.
        ValueError: the engine can not load it.
    """

    def __init__(
        self, folder: Path, name: str, threads: int = 0, signature: str = "serving_default"
    ) -> None:
        manifest = Manifest.read(folder)
        files = format_files(folder, name)
        if not files:
            raise FileNotFoundError(f"{folder / FILES[name]} is not there")
        super().__init__(folder, (open_file(path, manifest, threads) for path in files), signature)


def open_file(path: Path, manifest: Manifest, threads: int = 0) -> Session:
    """Opens a `.onnx` or `.tflite` file.

    Raises:
        ValueError: the engine can not load it.
    """
    try:
        if path.suffix == LITERT_SUFFIX:
            from ai_edge_litert import interpreter

            return open_tflite(interpreter, path, manifest, threads)
        import onnxruntime

        return open_onnx(onnxruntime, path, threads)
    except Exception as error:
        raise ValueError(f"{path} can not be loaded: {error}") from error
