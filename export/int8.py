"""ONNX graphs with weights of eight bits: a quarter of the size, for one format alone.

Weights become int8, activations are measured and rounded in every run (dynamic quantisation), so
no calibration data is needed. The answers change: measure them with `python -m models evaluate
--backend onnx --version-folder OUT` before they are published.
"""

import shutil
from dataclasses import replace
from pathlib import Path

from protocol.version_folder import (
    ASSETS_FOLDER,
    ONNX_FILE,
    WARMUP_FILE,
    Manifest,
    onnx_files,
    verify_files,
)


def quantize_version(folder: Path, out: Path) -> Manifest:
    """Writes a version folder with int8 ONNX graphs, assets and warm-up requests of another.

    Args:
        folder: version folder with an ONNX graph.
        out: where to; must be empty or not exist.

    Returns:
        The manifest of the new folder; what was compared with Keras, and how to run it, is no
        longer in it.

    Raises:
        DataLossError: a file of the version is damaged or missing.
        ValueError: the version has no ONNX graph, or `out` is not empty.
    """
    manifest = verify_files(folder)
    if not (folder / ONNX_FILE).is_file():
        raise ValueError(f"{folder} holds no {ONNX_FILE}")
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty")
    out.mkdir(parents=True, exist_ok=True)
    for graph in onnx_files(folder):
        quantize_weights(graph, out / graph.name)
    if (folder / ASSETS_FOLDER).is_dir():
        shutil.copytree(folder / ASSETS_FOLDER, out / ASSETS_FOLDER)
    if (folder / WARMUP_FILE).is_file():
        (out / WARMUP_FILE).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(folder / WARMUP_FILE, out / WARMUP_FILE)
    return replace(manifest, parity={}, tuning=None).write(out)


def quantize_weights(source: Path, target: Path) -> None:
    """Rounds the constant matrices of a graph to int8, with a scale for each column."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8)
