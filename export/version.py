"""Builds one version folder: every file is written, run, compared with Keras, then recorded."""

import datetime
import importlib.metadata
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from export import FORMATS, sentiment
from export.parity import Parity, ParityError, check_parity, largest_difference
from models.common.backends import Backend, OnnxBackend, SavedModelBackend
from models.common.config import to_dict
from models.sentiment.data import Example
from models.sentiment.evaluate import BATCH_SIZE
from models.sentiment.signature import SentimentModel
from protocol.contracts import SENTIMENT
from protocol.version_folder import (
    ASSETS_FOLDER,
    MANIFEST_FILE,
    ONNX_FILE,
    WARMUP_FILE,
    Manifest,
)
from protocol.warmup import write_warmup

logger = logging.getLogger(__name__)

TOLERANCE = {"saved_model": 1e-4, "onnx": 1e-4}
METRIC_TOLERANCE = 0.002
RECORDED_PACKAGES = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "numpy")


def export_sentiment(
    model: SentimentModel,
    folder: Path,
    formats: Sequence[str],
    examples: Sequence[Example],
    model_name: str = "sentiment",
) -> Manifest:
    """Writes a version folder of the sentiment classifier.

    Args:
        model: what to export.
        folder: where to; an earlier export there is replaced.
        formats: of `FORMATS`.
        examples: texts on which each file is compared with Keras.
        model_name: name under which it will be served, for the warm-up requests.

    Returns:
        The manifest, as written to the folder.

    Raises:
        ParityError: if an exported file does not answer as Keras does; the folder is then left
            without a manifest, for looking into, and cannot be published.
        ValueError: for an unknown format, or a folder that holds something else.
    """
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not formats:
        raise ValueError(f"unknown format {unknown}; formats: {', '.join(FORMATS)}")
    _make_empty(folder)
    if "saved_model" in formats:
        _timed("SavedModel", lambda: sentiment.write_saved_model(model, folder))
    sentiment.write_assets(model, folder / ASSETS_FOLDER)
    write_warmup(folder / WARMUP_FILE, sentiment.warmup_requests(model_name))
    if "onnx" in formats:
        _timed("ONNX", lambda: sentiment.write_onnx(model, folder / ONNX_FILE))
    _manifest(model, model_name).write(folder)  # engines need one to load the folder
    try:
        parity = [compare(model, _backend(name, folder), name, examples) for name in formats]
    except ParityError:
        (folder / MANIFEST_FILE).unlink()
        raise
    return _manifest(model, model_name, parity).write(folder)


def _make_empty(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / MANIFEST_FILE).is_file():
            raise ValueError(f"{folder} holds something other than an earlier export")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)


def _timed(name: str, write: Callable[[], None]) -> None:
    started = time.perf_counter()
    write()
    logger.info("%s written in %.1f s", name, time.perf_counter() - started)


def _backend(name: str, folder: Path) -> Backend:
    return SavedModelBackend(folder) if name == "saved_model" else OnnxBackend(folder)


def compare(
    model: SentimentModel, backend: Backend, engine: str, examples: Sequence[Example]
) -> Parity:
    """Runs an engine and Keras on the same texts.

    Raises:
        ParityError: if they differ by more than `TOLERANCE` or `METRIC_TOLERANCE`.
    """
    examples = sorted(examples, key=lambda example: len(example.text))  # little padding
    worst = 0.0
    of_keras, of_engine = [], []
    for start in range(0, len(examples), BATCH_SIZE):
        batch = [example.text.encode() for example in examples[start : start + BATCH_SIZE]]
        inputs = {"text": np.array(batch, dtype=object)}
        expected, found = model.run_signature(inputs), backend.run_signature(inputs)
        worst = max(worst, largest_difference(expected, found, engine))
        of_keras.append(expected["probability"])
        of_engine.append(found["probability"])
    metric_keras = sentiment.task_metric(examples, np.concatenate(of_keras))
    metric_engine = sentiment.task_metric(examples, np.concatenate(of_engine))
    parity = Parity(engine, len(examples), worst, metric_keras, metric_engine)
    check_parity(parity, TOLERANCE[engine], METRIC_TOLERANCE)
    logger.info(
        "%s agrees with Keras on %d texts: largest difference %.1e, accuracy %.4f and %.4f",
        engine,
        len(examples),
        worst,
        metric_engine,
        metric_keras,
    )
    return parity


def _manifest(model: SentimentModel, model_name: str, parity: Sequence[Parity] = ()) -> Manifest:
    return Manifest(
        task=SENTIMENT.task,
        model_name=model_name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        config=to_dict(model.config),
        data=model.details["data"],
        metrics=model.details["metrics"],
        labels=tuple(model.labels),
        signatures=SENTIMENT.signatures,
        packages={name: importlib.metadata.version(name) for name in RECORDED_PACKAGES},
        parity={p.engine: p.as_dict() for p in parity},
        pipeline={"temperatures": model.details["temperatures"]},
    )
