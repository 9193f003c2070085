"""Images as callers have them - files, bytes, arrays, Pillow images - turned into requests.

Files and bytes are sent as they are: the served model decodes them. Arrays and Pillow images are
sent as pixels, those of one size together. Nothing here needs Pillow.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
import numpy.typing as npt

from clients.calls import Prediction
from clients.typed import Script, ServedModel
from protocol.contracts import SERVING_DEFAULT, TENSORS
from protocol.errors import ContractError, InvalidRequestError
from protocol.images import MAX_PIXELS, image_size

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

ImageLike: TypeAlias = Union[str, Path, bytes, npt.NDArray[Any], "PilImage"]
"""A JPEG or PNG file, the bytes of one, uint8 [H, W, 3] RGB or [H, W] grey, or a Pillow image."""

SUFFIXES = (".jpeg", ".jpg", ".png")
_HEADER_BYTES = 1 << 18  # most files tell their size within so many bytes
_EXPECTED_LIST = "expected a list of images or a folder; for one image there are methods in _one"
_DEEP_MODES = ("I", "F")  # Pillow's 16- and 32-bit modes begin so


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image as the bytes of a file, read when they are needed.

    Args:
        name: Its path, or its place among the images, such as `images[2]`.
        content: The bytes, or the file that holds them.
        size_bytes: How many bytes they are.
        pixel_count: How many pixels the file declares.
    """

    name: str
    content: bytes | Path
    size_bytes: int
    pixel_count: int

    def read(self) -> bytes:
        """Returns the bytes.

        Raises:
            InvalidRequestError: The file cannot be read any more.
        """
        if isinstance(self.content, bytes):
            return self.content
        try:
            return self.content.read_bytes()
        except OSError as error:
            raise InvalidRequestError(f"{self.name}: {error.strerror}") from error


@dataclass(frozen=True, eq=False)
class PixelImage:
    """An image as its pixels.

    Args:
        name: Its place among the images, such as `images[2]`.
        pixels: uint8 [H, W, 3], RGB.
    """

    name: str
    pixels: npt.NDArray[np.uint8]

    @property
    def size_bytes(self) -> int:
        """How many bytes are sent."""
        return self.pixels.nbytes

    @property
    def pixel_count(self) -> int:
        """How many pixels it has."""
        return self.pixels.size // 3


ImageSource: TypeAlias = EncodedImage | PixelImage


@dataclass(frozen=True, eq=False)
class ImageAnswer:
    """What a model says about one image.

    Args:
        source: The image's path, or its place among the images.
        outputs: The image's row of each output, by name.
        signature: Signature that answered.
        model: Name of the model that answered.
        version: Version that answered; None if the server did not say.
    """

    source: str
    outputs: Mapping[str, Any]
    signature: str
    model: str
    version: int | None


def image_files(folder: Path | str) -> list[Path]:
    """Returns the image files of a folder by name; its sub-folders are not searched.

    Raises:
        InvalidRequestError: It is no folder, or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidRequestError(f"{folder}: expected a folder of images, found none there")
    entries = (entry for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES)
    files = sorted(entry for entry in entries if entry.is_file())
    if not files:
        raise InvalidRequestError(
            f"{folder}: no image files; expected names ending in {', '.join(sorted(SUFFIXES))}"
        )
    return files


def open_images(images: Iterable[ImageLike] | Path | str) -> list[ImageSource]:
    """Checks images before any is sent.

    Args:
        images: Any number of images, or one folder, whose image files are taken by name.

    Raises:
        InvalidRequestError: One image was given instead of a list, a file is missing, of another
            format or too large, or an array has another dtype or shape; the message names the
            image.
    """
    if isinstance(images, (str, Path)):
        images = _folder_files(Path(images))
    if _is_image(images):
        raise InvalidRequestError(f"images: {_EXPECTED_LIST}, got one {type(images).__name__}")
    return [open_image(image, f"images[{index}]") for index, image in enumerate(images)]


def open_image(image: ImageLike, name: str = "image") -> ImageSource:
    """Checks one image; see `open_images`.

    Args:
        image: The image.
        name: What to call an image that has no path.
    """
    if isinstance(image, (str, Path)):
        return _open_file(Path(image), name)
    if isinstance(image, bytes):
        return EncodedImage(name, image, len(image), _declared_pixels(image, name))
    if isinstance(image, np.ndarray):
        return PixelImage(name, _checked_pixels(image, name))
    if _is_pillow(image):
        return PixelImage(name, _pillow_pixels(image, name))
    raise InvalidRequestError(
        f"{name}: expected a path, bytes, a uint8 array or a Pillow image, "
        f"got {type(image).__name__}"
    )


def ask_images(
    served: ServedModel,
    sources: Sequence[ImageSource],
    options: Mapping[str, npt.ArrayLike] | None = None,
    pixel_signature: str = TENSORS,
) -> Script[list[ImageAnswer]]:
    """Sends images in as few requests as the limits allow; answer i belongs to image i.

    Args:
        served: The model to ask.
        sources: The images, as `open_images` returns them.
        options: Further inputs, sent with every request.
        pixel_signature: Signature that takes pixels.

    Raises:
        InvalidRequestError: An image is larger than a message may be; nothing was sent.
        ContractError: The model's answer is not that of the task.
    """
    _check_sizes(served, sources)
    answers: dict[int, ImageAnswer] = {}
    for chunk in _chunks(served, sources):
        rows = [sources[index] for index in chunk]
        found = yield from _ask(served, rows, options or {}, pixel_signature)
        answers.update(zip(chunk, found, strict=True))
    return [answers[index] for index in range(len(sources))]


def _ask(
    served: ServedModel,
    rows: Sequence[ImageSource],
    options: Mapping[str, npt.ArrayLike],
    pixel_signature: str,
) -> Script[list[ImageAnswer]]:
    """Sends images in one request; if it is refused, finds and names the image to blame."""
    signature, inputs = _request(rows, pixel_signature)
    try:
        prediction = yield from served.ask({**inputs, **options}, len(rows), signature)
    except ContractError:
        raise
    except InvalidRequestError as error:
        if len(rows) == 1:
            raise InvalidRequestError(f"{rows[0].name}: {error}") from error
        for image in rows:
            yield from _ask(served, [image], options, pixel_signature)
        raise
    return [_answer(image.name, prediction, signature, row) for row, image in enumerate(rows)]


def _request(
    rows: Sequence[ImageSource], pixel_signature: str
) -> tuple[str, dict[str, npt.NDArray[Any]]]:
    """Returns the signature and the inputs for images that are all of one kind."""
    pixels = [image.pixels for image in rows if isinstance(image, PixelImage)]
    if pixels:
        return pixel_signature, {"image": np.stack(pixels)}
    encoded = np.empty(len(rows), dtype=object)
    encoded[:] = [image.read() for image in rows if isinstance(image, EncodedImage)]
    return SERVING_DEFAULT, {"image_bytes": encoded}


def _answer(source: str, prediction: Prediction, signature: str, row: int) -> ImageAnswer:
    outputs = {name: output[row] for name, output in prediction.outputs.items() if output.ndim}
    return ImageAnswer(source, outputs, signature, prediction.model, prediction.version)


def _chunks(served: ServedModel, sources: Sequence[ImageSource]) -> Iterator[list[int]]:
    """Yields the indices of images that go together: of one kind, and within the limits."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(sources):
        kind = image.pixels.shape if isinstance(image, PixelImage) else ()
        groups.setdefault(kind, []).append(index)
    for group in groups.values():
        yield from _split(group, sources, served)


def _split(
    group: Iterable[int], sources: Sequence[ImageSource], served: ServedModel
) -> Iterator[list[int]]:
    """Cuts a group where the next image would be one, or bytes or pixels, too many."""
    chunk: list[int] = []
    chunk_bytes = chunk_pixels = 0
    for index in group:
        image = sources[index]
        chunk_bytes += image.size_bytes
        chunk_pixels += image.pixel_count
        full = len(chunk) == served.batch_size
        if chunk and (full or chunk_bytes > served.request_bytes or chunk_pixels > MAX_PIXELS):
            yield chunk
            chunk, chunk_bytes, chunk_pixels = [], image.size_bytes, image.pixel_count
        chunk.append(index)
    if chunk:
        yield chunk


def _check_sizes(served: ServedModel, sources: Iterable[ImageSource]) -> None:
    if served.item_bytes is None:
        return
    for image in sources:
        if image.size_bytes > served.item_bytes:
            raise InvalidRequestError(
                f"{image.name}: {image.size_bytes} bytes do not fit into a message; "
                f"the client's max_message_bytes leaves room for {served.item_bytes}"
            )


def _folder_files(path: Path) -> list[Path]:
    if not path.is_dir():
        raise InvalidRequestError(f"images: {_EXPECTED_LIST}, got the path {path}")
    return image_files(path)


def _open_file(path: Path, name: str) -> EncodedImage:
    if path.is_dir():
        raise InvalidRequestError(
            f"{name}: {path} is a folder; give it alone, or list its files with image_files"
        )
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER_BYTES)
        size_bytes = path.stat().st_size
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidRequestError(f"{name}: {path}: {reason}") from error
    try:
        pixel_count = _declared_pixels(start, name)
    except InvalidRequestError:  # perhaps only because the header goes on
        content = EncodedImage(str(path), path, size_bytes, 0).read()
        pixel_count = _declared_pixels(content, f"{name}: {path}")
    return EncodedImage(str(path), path, size_bytes, pixel_count)


def _declared_pixels(data: bytes, name: str) -> int:
    """Returns how many pixels a file says it has; refuses what the server would refuse, too."""
    try:
        height, width = image_size(data)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{name}: {error}") from error
    return height * width


def _checked_pixels(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    """Returns uint8 [H, W, 3]; a grey image gets three equal channels."""
    grey = array.ndim == 2
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] == 3)):
        raise InvalidRequestError(
            f"{name}: expected uint8 of shape [H, W, 3] (RGB) or [H, W] (grey), "
            f"got {array.dtype} of shape {list(array.shape)}"
        )
    if not array.size:
        raise InvalidRequestError(f"{name}: expected pixels, got shape {list(array.shape)}")
    return np.repeat(array[:, :, None], 3, axis=2) if grey else array


def _pillow_pixels(image: Any, name: str) -> npt.NDArray[np.uint8]:
    """Returns uint8 [H, W, 3] as Pillow converts to RGB: alpha is dropped, grey repeated."""
    if image.mode.startswith(_DEEP_MODES):
        raise InvalidRequestError(
            f"{name}: a Pillow image of mode {image.mode!r} has no 8-bit pixels; "
            "scale it to mode 'L' first, or send the file itself"
        )
    return _checked_pixels(np.asarray(image.convert("RGB")), name)


def _is_image(images: object) -> bool:
    """Whether this is one image, and not a list of them."""
    if isinstance(images, np.ndarray):
        return images.ndim in (2, 3)
    return isinstance(images, (str, Path, bytes)) or _is_pillow(images)


def _is_pillow(image: object) -> bool:
    """Whether this is a Pillow image; whoever made it has imported Pillow already."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)
