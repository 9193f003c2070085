"""Measures what requests and answers of a version look like, for its manifest.

A server that knows it can tell how far its traffic has moved; see `protocol.drift`.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from models.common.backends import OnnxBackend
from protocol.contracts import FACE, SENTIMENT, TRANSLATION
from protocol.drift import FEWEST, Reference, distributions
from protocol.features import feature_reader
from protocol.version_folder import Manifest

MOST_EXAMPLES = 1000

_TEXT_TASKS = (SENTIMENT.task, TRANSLATION.task)
_IMAGES = frozenset({".jpg", ".jpeg", ".png"})
_SEED = 0

Answered = list[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]]


def reference_of(folder: Path, path: Path) -> Reference:
    """Measures the reference of a version on examples of its use.

    Args:
        folder: version folder with an ONNX graph.
        path: images in a folder, or the file of texts that `read_examples` reads.

    Raises:
        ValueError: there are too few examples to compare with.
        ServiceError: an asset is damaged, or an example can not be answered.
    """
    manifest = Manifest.read(folder)
    examples = read_examples(path, manifest.task)
    if len(examples) < FEWEST:
        raise ValueError(f"{path} holds {len(examples)} examples; expected at least {FEWEST}")
    answered = _answered(folder, manifest.task, examples)
    reference = Reference(examples=len(examples))
    if manifest.task == FACE.task:
        reference = replace(reference, mean_embedding=_mean_embedding(answered))
    read = feature_reader(folder, manifest, reference)
    if read is None:
        raise ValueError(f"the task {manifest.task!r} of {folder} has no features to watch")
    features = distributions(read(inputs, outputs) for inputs, outputs in answered)
    return replace(reference, features=features)


def read_examples(path: Path, task: str, most: int = MOST_EXAMPLES) -> list[bytes]:
    """Reads examples, chosen evenly where there are more than wanted.

    Args:
        path: for images a folder, searched with all folders in it for JPEG and PNG files; for
            texts a file with one in each line, in the first column where it is `.tsv`, whose
            first line may name that column `text`.
        task: tells images from texts.
        most: how many to take.

    Raises:
        ValueError: there is no such folder or file.
    """
    if task in _TEXT_TASKS:
        if not path.is_file():
            raise ValueError(f"expected a file of texts, got {path}")
        return _chosen(list(_texts(path)), most)
    if not path.is_dir():
        raise ValueError(f"expected a folder of images, got {path}")
    files = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in _IMAGES]
    return [file.read_bytes() for file in _chosen(files, most)]


def _texts(path: Path) -> Iterator[bytes]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        text = line.split("\t")[0] if path.suffix == ".tsv" else line
        if text and not (number == 0 and text == "text"):
            yield text.encode()


def _chosen(items: list[Any], most: int) -> list[Any]:
    return random.Random(_SEED).sample(items, most) if len(items) > most else items


def _answered(folder: Path, task: str, examples: Sequence[bytes]) -> Answered:
    backend = OnnxBackend(folder)
    name = "text" if task in _TEXT_TASKS else "image_bytes"
    requests = [{name: np.array([example], dtype=object)} for example in examples]
    return [(inputs, backend.run_signature(inputs)) for inputs in requests]


def _mean_embedding(answered: Answered) -> tuple[float, ...]:
    mean = np.mean([outputs["embedding"][0] for _, outputs in answered], axis=0)
    return tuple((mean / np.linalg.norm(mean)).tolist())
