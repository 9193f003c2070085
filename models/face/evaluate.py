"""Evaluation of a face recogniser: metrics.json, pictures, and the pairs it judged worst."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from models.common.backends import Backend
from models.common.plots import plot_roc
from models.common.splits import DEV, DataError
from models.face.data import FaceSet, Pair
from models.face.metrics import BEST_ACCURACY, accuracy_at, squared_distances
from models.face.pairs import as_arrays, balanced_pairs, pairs_to_compare
from models.face.pictures import draw_distances, draw_embeddings, draw_worst_pairs
from models.face.scores import Scores, score

BATCH_SIZE = 32


def embed(backend: Backend, faces: FaceSet) -> np.ndarray:
    """Asks a backend for the embeddings of all faces, from the bytes of their files.

    Returns:
        float32 [N, 128], in the order of the faces.
    """
    parts = []
    for start in range(0, len(faces.faces), BATCH_SIZE):
        files = np.empty(len(faces.faces[start : start + BATCH_SIZE]), dtype=object)
        for row, face in enumerate(faces.faces[start : start + BATCH_SIZE]):
            files[row] = face.encoded()
        parts.append(backend.run_signature({"image_bytes": files})["embedding"])
    return np.concatenate(parts)


def choose_pairs(split: str, faces: FaceSet) -> tuple[Pair, ...]:
    """Returns the pairs by which a split is judged.

    A list's pairs, or all. Of dev, which a training list was not made for, few listed pairs are
    left; it has its own balanced list.

    Raises:
        DataError: if the pairs are all of one kind.
    """
    listed = bool(faces.pairs)
    pairs = balanced_pairs(faces) if split == DEV and listed else pairs_to_compare(faces)
    same = sum(pair.same for pair in pairs)
    if not 0 < same < len(pairs):
        raise DataError(
            f"verification needs pairs of one person and of two; there are {same} and "
            f"{len(pairs) - same}"
        )
    return pairs


def evaluate(
    backend: Backend,
    split: str,
    faces: FaceSet,
    thresholds: Mapping[str, float],
    output: Path,
) -> dict[str, float]:
    """Measures a backend and writes `metrics.json`, `worst_pairs.csv` and pictures to `output`.

    Args:
        backend: answers `serving_default`.
        split: which split the faces are.
        faces: the faces, perhaps with listed pairs.
        thresholds: the model's own, see `score`.
        output: folder to write to; made if missing.

    Returns:
        The scores by name; for dev of a list also those of its listed pairs, as `listed_pairs`
        and `listed_accuracy`.
    """
    output.mkdir(parents=True, exist_ok=True)
    rows, same = as_arrays(choose_pairs(split, faces))
    embeddings = embed(backend, faces)
    scores: Scores = score(embeddings, faces.identities, rows, same, thresholds)
    report = {**scores.as_dict(), **_listed(split, faces, embeddings, thresholds)}
    (output / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _draw(faces, embeddings, rows, same, thresholds, output)
    return report


def _listed(
    split: str, faces: FaceSet, embeddings: np.ndarray, thresholds: Mapping[str, float]
) -> dict[str, float]:
    if split != DEV or not faces.pairs:
        return {}
    rows, same = as_arrays(faces.pairs)
    listed: dict[str, float] = {
        "listed_same": int(same.sum()),
        "listed_different": int((~same).sum()),
    }
    if same.all() or not same.any():
        return listed
    distances = squared_distances(embeddings, rows)
    return listed | {"listed_accuracy": accuracy_at(distances, same, thresholds[BEST_ACCURACY])}


def _draw(
    faces: FaceSet,
    embeddings: np.ndarray,
    rows: np.ndarray,
    same: np.ndarray,
    thresholds: Mapping[str, float],
    output: Path,
) -> None:
    distances = squared_distances(embeddings, rows)
    plot_roc(same, -distances, output / "roc.png")
    draw_distances(distances, same, thresholds, output / "distances.png")
    names = [face.identity for face in faces.faces]
    draw_embeddings(embeddings, names, output / "embeddings.png")
    draw_worst_pairs(
        faces, rows, same, distances, thresholds[BEST_ACCURACY], output / "worst_pairs.png"
    )
    _write_mistakes(faces, rows, same, distances, thresholds, output / "mistakes.csv")


def _write_mistakes(
    faces: FaceSet,
    rows: np.ndarray,
    same: np.ndarray,
    distances: np.ndarray,
    thresholds: Mapping[str, float],
    path: Path,
) -> None:
    """Writes the pairs judged wrongly at the threshold of best accuracy, the worst first."""
    excess = np.where(same, 1, -1) * (distances - thresholds[BEST_ACCURACY])
    wrong: Sequence[int] = np.flatnonzero(np.where(same, excess > 0, excess >= 0)).tolist()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["squared_distance", "same", "first", "second"])
        for number in sorted(wrong, key=lambda number: -excess[number]):
            first, second = (faces.faces[row].name for row in rows[number])
            writer.writerow([f"{distances[number]:.4f}", int(same[number]), first, second])
