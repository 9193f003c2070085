"""Objects in images: clients that turn images into labelled boxes."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clients.images import (
    ImageAnswer,
    ImageLike,
    ImageSource,
    ask_images,
    open_image,
    open_images,
)
from clients.typed import AsyncTaskClient, Script, ServedModel, TaskClient, TaskSpec
from protocol.contracts import DETECTION
from protocol.errors import ContractError, InvalidRequestError

_SPEC = TaskSpec(DETECTION, batch_size=8)


@dataclass(frozen=True)
class Detection:
    """One object in an image.

    Args:
        label: Name of its class.
        class_id: Index of its class.
        score: How sure the model is, in [0, 1].
        box_xyxy: Left, top, right and bottom edge in pixels of the image as it was given.
    """

    label: str
    class_id: int
    score: float
    box_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True)
class DetectionResult:
    """The objects in one image.

    Args:
        source: Path of the image, or its place among the images, such as `images[2]`.
        detections: The objects; the surest comes first.
        model: Name of the model that answered.
        version: Version that answered; None if the server did not say.
    """

    source: str
    detections: tuple[Detection, ...]
    model: str
    version: int | None

    @property
    def counts(self) -> dict[str, int]:
        """Number of objects by label; the most frequent comes first."""
        return dict(Counter(found.label for found in self.detections).most_common())


class DetectionClient(TaskClient):
    """Finds objects with a served detection model; see `TaskClient` for the arguments."""

    spec = _SPEC

    def detect(
        self,
        images: Iterable[ImageLike] | Path | str,
        *,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        timeout_s: float | None = None,
    ) -> list[DetectionResult]:
        """Finds the objects in images; answer i belongs to image i.

        Args:
            images: Files, bytes of files, uint8 arrays [H, W, 3] or [H, W], Pillow images, mixed
                as you like; or one folder, whose image files are taken by name.
            score_threshold: Boxes below this score are left out, in [0, 1]; None leaves it to
                the model.
            iou_threshold: Of two boxes of a class that overlap by more, the surer one stays, in
                [0, 1]; None leaves it to the model.
            timeout_s: Deadline of each request in seconds; None takes the config's.

        Raises:
            InvalidRequestError: An image or a threshold cannot be sent; nothing was sent.
            ContractError: The served model is not a detection model.
            ServiceError: The call failed; the class tells the gRPC status.
        """
        script = _detect(self._served, open_images(images), score_threshold, iou_threshold)
        return self._run(script, timeout_s)

    def detect_one(
        self,
        image: ImageLike,
        *,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        timeout_s: float | None = None,
    ) -> DetectionResult:
        """Finds the objects in one image; see `detect`."""
        script = _detect(self._served, [open_image(image)], score_threshold, iou_threshold)
        return self._run(script, timeout_s)[0]


class AsyncDetectionClient(AsyncTaskClient):
    """The asyncio twin of `DetectionClient`: the same methods, awaited."""

    spec = _SPEC

    async def detect(
        self,
        images: Iterable[ImageLike] | Path | str,
        *,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        timeout_s: float | None = None,
    ) -> list[DetectionResult]:
        """Finds the objects in images; see `DetectionClient.detect`."""
        script = _detect(self._served, open_images(images), score_threshold, iou_threshold)
        return await self._run(script, timeout_s)

    async def detect_one(
        self,
        image: ImageLike,
        *,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        timeout_s: float | None = None,
    ) -> DetectionResult:
        """Finds the objects in one image; see `detect`."""
        script = _detect(self._served, [open_image(image)], score_threshold, iou_threshold)
        return (await self._run(script, timeout_s))[0]


def _detect(
    served: ServedModel,
    sources: list[ImageSource],
    score_threshold: float | None,
    iou_threshold: float | None,
) -> Script[list[DetectionResult]]:
    thresholds = {"score_threshold": score_threshold, "iou_threshold": iou_threshold}
    options = {
        name: _checked_threshold(name, value)
        for name, value in thresholds.items()
        if value is not None
    }
    answers = yield from ask_images(served, sources, options)
    return [_result(answer) for answer in answers]


def _checked_threshold(name: str, value: float) -> npt.NDArray[np.float32]:
    if not 0 <= value <= 1:
        raise InvalidRequestError(f"{name}: expected a number from 0 to 1, got {value}")
    return np.array(value, np.float32)


def _result(answer: ImageAnswer) -> DetectionResult:
    columns = [answer.outputs[name] for name in ("labels", "class_ids", "scores", "boxes_xyxy")]
    room = {len(column) for column in columns}
    count = int(answer.outputs["num_detections"])
    if len(room) > 1 or not 0 <= count <= min(room):
        raise ContractError(
            f"{answer.source}: model {answer.model!r} counts {count} detections, "
            f"but its outputs have room for {sorted(room)}"
        )
    rows = zip(*(column[:count] for column in columns), strict=True)
    found = tuple(_detection(*row) for row in rows)
    return DetectionResult(answer.source, found, answer.model, answer.version)


def _detection(
    label: bytes, class_id: np.int32, score: np.float32, box: npt.NDArray[np.float32]
) -> Detection:
    left, top, right, bottom = box.tolist()
    return Detection(
        label=label.decode(errors="replace"),
        class_id=int(class_id),
        score=float(score),
        box_xyxy=(left, top, right, bottom),
    )
