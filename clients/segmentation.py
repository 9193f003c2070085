"""Classes of pixels: clients that turn images into masks."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clients.images import (
    EncodedImage,
    ImageAnswer,
    ImageLike,
    ImageSource,
    ask_images,
    open_image,
    open_images,
)
from clients.instances import Instances, label_instances
from clients.png import read_grey_png
from clients.typed import AsyncTaskClient, Script, ServedModel, TaskClient, TaskSpec
from protocol.contracts import PROBABILITY, SEGMENTATION, SERVING_DEFAULT, TENSORS
from protocol.errors import ContractError, InvalidRequestError

_SPEC = TaskSpec(SEGMENTATION, batch_size=4)


@dataclass(frozen=True, eq=False)
class SegmentationResult:
    """The class of each pixel of one image.

    Args:
        source: Path of the image, or its place among the images, such as `images[2]`.
        mask: Class of each pixel, uint8 [H, W], of the size of the image as it was given.
        class_names: Name of each class; the first is the background.
        model: Name of the model that answered.
        version: Version that answered; None if the server did not say.
        probability: How sure the model is of each class, float32 [H, W, C]; None unless it was
            asked for.
    """

    source: str
    mask: npt.NDArray[np.uint8]
    class_names: tuple[str, ...]
    model: str
    version: int | None
    probability: npt.NDArray[np.float32] | None = None

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.mask.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.mask.shape[0])

    @cached_property
    def shares(self) -> dict[str, float]:
        """Share of the pixels of each class, in [0, 1], in the model's order."""
        counts = np.bincount(self.mask.ravel(), minlength=len(self.class_names))
        return dict(zip(self.class_names, (counts / self.mask.size).tolist(), strict=True))

    def instances(self, class_name: str | None = None) -> Instances:
        """Tells the single objects of a class apart; see `clients.instances`.

        Args:
            class_name: The class; None where there is only one beside the background.

        Raises:
            InvalidRequestError: There is no such class, or it is not clear which is meant.
        """
        class_id = self._class_id(class_name)
        probability = None if self.probability is None else self.probability[..., class_id]
        return label_instances(self.mask, class_id, probability)

    def _class_id(self, class_name: str | None) -> int:
        if class_name is None and len(self.class_names) == 2:
            return 1
        if class_name not in self.class_names:
            raise InvalidRequestError(
                f"class_name: expected one of {', '.join(self.class_names)}, got {class_name!r}"
            )
        return self.class_names.index(class_name)


class SegmentationClient(TaskClient):
    """Segments images with a served segmentation model; see `TaskClient` for the arguments."""

    spec = _SPEC

    def segment(
        self, images: Iterable[ImageLike] | Path | str, *, timeout_s: float | None = None
    ) -> list[SegmentationResult]:
        """Finds the class of each pixel of images; answer i belongs to image i.

        Args:
            images: Files, bytes of files, uint8 arrays [H, W, 3] or [H, W], Pillow images, mixed
                as you like; or one folder, whose image files are taken by name.
            timeout_s: Deadline of each request in seconds; None takes the config's.

        Raises:
            InvalidRequestError: An image cannot be sent; nothing was sent.
            ContractError: The served model is not a segmentation model.
            ServiceError: The call failed; the class tells the gRPC status.
        """
        return self._run(_segment(self._served, open_images(images)), timeout_s)

    def segment_one(
        self, image: ImageLike, *, timeout_s: float | None = None
    ) -> SegmentationResult:
        """Finds the class of each pixel of one image; see `segment`."""
        return self._run(_segment(self._served, [open_image(image)]), timeout_s)[0]

    def probabilities(
        self, images: Iterable[ImageLike], *, timeout_s: float | None = None
    ) -> list[SegmentationResult]:
        """Segments images given as pixels, and tells how sure the model is of each class.

        Args:
            images: uint8 arrays [H, W, 3] or [H, W], or Pillow images.
            timeout_s: Deadline of each request in seconds; None takes the config's.

        Raises:
            InvalidRequestError: An image cannot be sent, or is a file; nothing was sent.
            ContractError: The served model is not a segmentation model.
            ServiceError: The call failed; the class tells the gRPC status.
        """
        return self._run(_probabilities(self._served, open_images(images)), timeout_s)


class AsyncSegmentationClient(AsyncTaskClient):
    """The asyncio twin of `SegmentationClient`: the same methods, awaited."""

    spec = _SPEC

    async def segment(
        self, images: Iterable[ImageLike] | Path | str, *, timeout_s: float | None = None
    ) -> list[SegmentationResult]:
        """Finds the class of each pixel of images; see `SegmentationClient.segment`."""
        return await self._run(_segment(self._served, open_images(images)), timeout_s)

    async def segment_one(
        self, image: ImageLike, *, timeout_s: float | None = None
    ) -> SegmentationResult:
        """Finds the class of each pixel of one image; see `segment`."""
        return (await self._run(_segment(self._served, [open_image(image)]), timeout_s))[0]

    async def probabilities(
        self, images: Iterable[ImageLike], *, timeout_s: float | None = None
    ) -> list[SegmentationResult]:
        """Tells how sure the model is; see `SegmentationClient.probabilities`."""
        return await self._run(_probabilities(self._served, open_images(images)), timeout_s)


def _segment(served: ServedModel, sources: list[ImageSource]) -> Script[list[SegmentationResult]]:
    answers = yield from ask_images(served, sources, pixel_signature=TENSORS)
    return [_result(answer) for answer in answers]


def _probabilities(
    served: ServedModel, sources: list[ImageSource]
) -> Script[list[SegmentationResult]]:
    for source in sources:
        if isinstance(source, EncodedImage):
            raise InvalidRequestError(
                f"{source.name}: probabilities need pixels; expected a uint8 array or a Pillow "
                "image, got a file or its bytes"
            )
    answers = yield from ask_images(served, sources, pixel_signature=PROBABILITY)
    return [_result(answer) for answer in answers]


def _result(answer: ImageAnswer) -> SegmentationResult:
    mask = _mask(answer)
    names = tuple(name.decode(errors="replace") for name in answer.outputs["class_names"])
    if mask.max() >= len(names):
        raise ContractError(
            f"{answer.source}: model {answer.model!r} names {len(names)} classes, "
            f"but its mask holds class {mask.max()}"
        )
    return SegmentationResult(
        source=answer.source,
        mask=mask,
        class_names=names,
        model=answer.model,
        version=answer.version,
        probability=answer.outputs.get("probability"),
    )


def _mask(answer: ImageAnswer) -> npt.NDArray[np.uint8]:
    """Returns the mask, uint8 [H, W], decoded if it came as a file."""
    if answer.signature != SERVING_DEFAULT:
        mask: npt.NDArray[np.uint8] = answer.outputs["mask"]
        return mask
    mask = read_grey_png(answer.outputs["mask_png"])
    shape = (int(answer.outputs["height"]), int(answer.outputs["width"]))
    if mask.shape != shape:
        raise ContractError(
            f"{answer.source}: model {answer.model!r} says the mask has shape {list(shape)}, "
            f"but it has {list(mask.shape)}"
        )
    return mask
