"""How far a file is from Keras: the answers that differ, and what the task metric loses.

A judge asks Keras once, and then any number of files. Unlike an exporter's `compare`, which holds
float32 files to the last digits, it also makes sense of files whose weights were rounded.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from export import detection, face, segmentation, sentiment, translation
from export.formats import Gate
from export.parity import Parity, ParityError
from export.samples import spread
from models.common.backends import Backend
from models.detection.boxes import pairwise_iou
from models.detection.evaluate import predict as detect
from models.detection.metrics import SCORING_THRESHOLD
from models.detection.nms import Detections
from models.detection.signature import DetectionModel
from models.face.data import Face, FaceSet
from models.face.evaluate import embed
from models.face.signature import FaceModel
from models.segmentation.data import Example as SegmentationExample
from models.segmentation.evaluate import predict as segment
from models.segmentation.signature import SegmentationModel
from models.sentiment.data import Example as SentimentExample
from models.sentiment.evaluate import predict as classify
from models.sentiment.signature import SentimentModel
from models.translation.data import Item
from models.translation.evaluate import translate_all
from models.translation.metrics import bleu
from models.translation.signature import TranslationModel

EXAMPLES = 300
LARGE_EXAMPLES = 60
"""Of tasks whose examples take Keras a second or so."""
SAME_BOX, SAME_SCORE = 0.9, 0.05
"""Two detections of a class are alike from this intersection over union, up to this difference."""


class Judge(Protocol):
    """Compares files with Keras on the same examples."""

    def judge(self, backend: Backend, engine: str) -> Parity:
        """Measures a file.

        Args:
            backend: answers `serving_default` from it.
            engine: its format.

        Raises:
            ParityError: an answer is not a number.
        """


def make_judge(task: str, model: Any, data: Path | None) -> Judge:
    """Makes the judge of a task.

    Args:
        task: one of the five.
        model: the Keras model.
        data: data folder whose test or dev part is used; None for made-up examples.
    """
    judge: Judge = _JUDGES[task](model, _examples(task, model, data))
    return judge


def check_gate(parity: Parity, gate: Gate) -> None:
    """Raises ParityError if a file is further from Keras than its gate allows."""
    if not parity.max_difference <= gate.difference:
        raise ParityError(
            f"{parity.engine}: differs from Keras by {parity.max_difference:.3g}, "
            f"allowed {gate.difference:g}"
        )
    drop = parity.metric_keras - parity.metric_engine
    if not drop <= gate.drop:
        raise ParityError(
            f"{parity.engine}: {parity.metric} {parity.metric_engine:.4f} against Keras "
            f"{parity.metric_keras:.4f}, allowed drop {gate.drop:g}"
        )


def _examples(task: str, model: Any, data: Path | None) -> list[Any]:
    if task == "translation":
        items = translation.load_references(data, model) if data else None
        return spread(items or translation.sample_references(model), EXAMPLES)
    exporter: Any = _EXPORTERS[task]
    loaded: list[Any] = exporter.load_examples(data, model) if data else exporter.sample_examples()
    # All pictures of a person together, or few pairs show the same one.
    if task == "face":
        return loaded[:EXAMPLES]
    return spread(loaded, LARGE_EXAMPLES if task == "segmentation" else EXAMPLES)


class FaceJudge:
    """Difference: the largest of any number of an embedding. Metric: verification accuracy."""

    def __init__(self, model: FaceModel, examples: Sequence[Face]) -> None:
        self._model = model
        self._faces = FaceSet(tuple(examples))
        self._keras = embed(model, self._faces)

    def judge(self, backend: Backend, engine: str) -> Parity:
        """See `Judge`."""
        found = embed(backend, self._faces)
        metric = face.verification_accuracy
        return Parity(
            engine=engine,
            examples=len(found),
            max_difference=_checked(float(np.abs(found - self._keras).max()), engine),
            metric="accuracy",
            metric_keras=metric(self._model, self._faces, self._keras),
            metric_engine=metric(self._model, self._faces, found),
        )


class DetectionJudge:
    """Difference: share of detections without one like it on the other side. Metric: mAP50."""

    def __init__(self, model: DetectionModel, examples: Sequence[detection.Example]) -> None:
        self._model = model
        self._files = [example.file for example in examples]
        self._truths = [example.truth for example in examples]
        self._keras = detect(model, self._files, SCORING_THRESHOLD)

    def judge(self, backend: Backend, engine: str) -> Parity:
        """See `Judge`."""
        found = detect(backend, self._files, SCORING_THRESHOLD)
        metric = detection.mean_precision
        return Parity(
            engine=engine,
            examples=len(found),
            max_difference=self._unlike(found),
            metric="map50",
            metric_keras=metric(self._truths, self._keras, self._model),
            metric_engine=metric(self._truths, found, self._model),
        )

    def _unlike(self, found: Sequence[Detections]) -> float:
        threshold = self._model.config.score_threshold
        unlike = total = 0
        for a, b in zip(self._keras, found, strict=True):
            strong = a.above(threshold), b.above(threshold)
            # One just above the threshold may be just below it on the other side.
            unlike += _without_partner(strong[0], b) + _without_partner(strong[1], a)
            total += len(strong[0]) + len(strong[1])
        return unlike / max(1, total)


def _without_partner(some: Detections, others: Detections) -> int:
    overlap = pairwise_iou(some.boxes_xyxy, others.boxes_xyxy)  # (some, others)
    alike = (overlap >= SAME_BOX) & (some.class_ids[:, None] == others.class_ids)
    alike &= np.abs(some.scores[:, None] - others.scores) <= SAME_SCORE
    return int((~alike.any(axis=1)).sum())


class SegmentationJudge:
    """Difference: share of pixels of another class. Metric: mean IoU."""

    def __init__(
        self,
        model: SegmentationModel,
        examples: Sequence[SegmentationExample],
    ) -> None:
        self._model = model
        self._examples = examples
        self._keras = segment(model, examples)

    def judge(self, backend: Backend, engine: str) -> Parity:
        """See `Judge`."""
        found = segment(backend, self._examples)
        pairs = list(zip(self._keras, found, strict=True))
        differing = sum(int(np.count_nonzero(a != b)) for a, b in pairs)
        metric = segmentation.mean_iou
        return Parity(
            engine=engine,
            examples=len(found),
            max_difference=differing / max(1, sum(mask.size for mask in found)),
            metric="mean_iou",
            metric_keras=metric(self._model, self._examples, self._keras),
            metric_engine=metric(self._model, self._examples, found),
        )


class SentimentJudge:
    """Difference: the largest of any probability. Metric: accuracy."""

    def __init__(self, model: SentimentModel, examples: Sequence[SentimentExample]) -> None:
        self._examples = examples
        self._texts = [example.text for example in examples]
        self._keras = classify(model, self._texts).probabilities

    def judge(self, backend: Backend, engine: str) -> Parity:
        """See `Judge`."""
        found = classify(backend, self._texts).probabilities
        return Parity(
            engine=engine,
            examples=len(found),
            max_difference=_checked(float(np.abs(found - self._keras).max()), engine),
            metric="accuracy",
            metric_keras=sentiment.accuracy(self._examples, self._keras),
            metric_engine=sentiment.accuracy(self._examples, found),
        )


class TranslationJudge:
    """Difference: share of translations that differ. Metric: BLEU, 0 to 1."""

    def __init__(self, model: TranslationModel, examples: Sequence[Item]) -> None:
        self._sources = [item.source for item in examples]
        self._references = [item.references for item in examples]
        self._keras = translate_all(model, self._sources)

    def judge(self, backend: Backend, engine: str) -> Parity:
        """See `Judge`."""
        found = translate_all(backend, self._sources)
        differing = sum(a != b for a, b in zip(self._keras, found, strict=True))
        return Parity(
            engine=engine,
            examples=len(found),
            max_difference=differing / max(1, len(found)),
            metric="bleu",
            metric_keras=bleu(self._keras, self._references).score / 100,
            metric_engine=bleu(found, self._references).score / 100,
        )


def _checked(difference: float, engine: str) -> float:
    if not np.isfinite(difference):
        raise ParityError(f"{engine}: an answer is not a number")
    return difference


_EXPORTERS: Mapping[str, Any] = MappingProxyType(
    {
        "face": face,
        "detection": detection,
        "segmentation": segmentation,
        "sentiment": sentiment,
    }
)
_JUDGES: Mapping[str, Any] = MappingProxyType(
    {
        "face": FaceJudge,
        "detection": DetectionJudge,
        "segmentation": SegmentationJudge,
        "sentiment": SentimentJudge,
        "translation": TranslationJudge,
    }
)
