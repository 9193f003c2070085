"""Pictures of answers: boxes with labels, masks with a legend, outlines, faces side by side.

Needs Pillow, which the rest of the clients does without: `pip install '.[vision]'`.
"""

import colorsys
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from clients.detection import Detection, DetectionResult
from clients.embeddings import Candidate, Identification, Verification
from clients.images import ImageLike, PixelImage, open_image
from clients.report import limit_text, shortened
from clients.segmentation import SegmentationResult
from protocol.errors import InvalidRequestError
from protocol.images import decode_image

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as BitmapFont

Colour = tuple[int, int, int]

_WHITE, _BLACK, _GREY = (255, 255, 255), (0, 0, 0), (64, 64, 64)
_GREEN, _RED = (22, 128, 57), (190, 30, 45)
_SHORTEST_LONG_SIDE = 640  # smaller images are enlarged so that labels do not hide them
_MASK_OPACITY = 0.5
_FACE_SIDE = 160
_MARGIN = 12
_CAPTION_WIDTH = 14  # letters of a name below a face
_GOLDEN_RATIO = 0.618033988749895


def require_pillow() -> None:
    """Makes sure that pictures can be drawn.

    Raises:
        ImportError: Pillow is not installed; the message says how to.
    """
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise ImportError("pictures need Pillow: pip install '.[vision]'") from error


def draw_detections(image: ImageLike, result: DetectionResult) -> "Image":
    """Draws the boxes of an image with their labels and scores.

    Args:
        image: The image that was sent.
        result: What was found in it.

    Returns:
        A copy, RGB; a small image is enlarged by a whole factor.

    Raises:
        InvalidRequestError: The image cannot be read.
        ImportError: Pillow is not installed.
    """
    pixels = load_pixels(image)
    canvas = _Canvas.on(pixels, _enlargement(pixels))
    for found in reversed(result.detections):  # the surest is drawn last, on top
        canvas.box(found)
    return canvas.image


def draw_mask(image: ImageLike, result: SegmentationResult) -> "Image":
    """Lays the classes over an image in colours, with their names and shares as a legend.

    Args:
        image: The image that was sent.
        result: Its mask; class 0, the background, stays as it is.

    Returns:
        RGB; a small image is enlarged by a whole factor.

    Raises:
        InvalidRequestError: The image cannot be read, or has another size than the mask.
        ImportError: Pillow is not installed.
    """
    pixels = _pixels_under(image, result.mask)
    colours = np.array([class_colour(index) for index in range(256)], np.float32)
    opacity = np.where(result.mask > 0, np.float32(_MASK_OPACITY), 0)[..., None]  # [H, W, 1]
    blended = pixels * (1 - opacity) + colours[result.mask] * opacity
    canvas = _Canvas.on(blended.astype(np.uint8), _enlargement(pixels))
    canvas.legend(
        (f"{name} {share:.1%}", class_colour(index))
        for index, (name, share) in enumerate(result.shares.items())
        if index and share
    )
    return canvas.image


def draw_instances(image: ImageLike, labels: npt.NDArray[np.int32]) -> "Image":
    """Outlines the single objects of an image and says how many there are.

    Args:
        image: The image that was sent.
        labels: Number of the object of each pixel, int32 [H, W]; 0 is none.

    Returns:
        RGB; a small image is enlarged by a whole factor.

    Raises:
        InvalidRequestError: The image cannot be read, or has another size.
        ImportError: Pillow is not installed.
    """
    scale = _enlargement(labels)
    enlarged = np.kron(_pixels_under(image, labels), np.ones((scale, scale, 1), np.uint8))
    numbers = np.kron(labels, np.ones((scale, scale), np.int32))
    outline = _outlines(numbers)
    colours = np.array([class_colour(index) for index in range(256)], np.uint8)
    enlarged[outline] = colours[1 + numbers[outline] % 255]
    canvas = _Canvas.on(enlarged, 1)
    count = len(np.unique(labels[labels > 0]))
    canvas.legend([(f"{count} objects", _GREY)])
    return canvas.image


def draw_verification(first: ImageLike, second: ImageLike, verification: Verification) -> "Image":
    """Puts two faces side by side, with their distance and the verdict below.

    Raises:
        InvalidRequestError: An image cannot be read.
        ImportError: Pillow is not installed.
    """
    verdict = "same person" if verification.same else "different people"
    lines = [verdict, f"distance {verification.distance:.3f}, {limit_text(verification)}"]
    colour = _GREEN if verification.same else _RED
    return _panel([(_face(first), "", colour), (_face(second), "", colour)], lines, colour)


def draw_identification(
    probe: ImageLike, identification: Identification, photos: Mapping[str, ImageLike]
) -> "Image":
    """Puts a face beside the people nearest to it, with their distances and the verdict.

    Args:
        probe: The image that was sent.
        identification: Who it is.
        photos: A photo of a person by name, where there is one.

    Raises:
        InvalidRequestError: An image cannot be read.
        ImportError: Pillow is not installed.
    """
    known = identification.name is not None
    colour = _GREEN if known else _RED
    tiles = [(_face(probe), "asked", colour)]
    for candidate in identification.candidates:
        near = candidate.distance <= identification.threshold
        tiles.append(
            (_candidate_face(candidate, photos), _caption(candidate), _GREEN if near else _GREY)
        )
    return _panel(tiles, [identification.name or "unknown", limit_text(identification)], colour)


def class_colour(class_id: int) -> Colour:
    """Returns the colour of a class, far from those of the classes before it."""
    hue = class_id * _GOLDEN_RATIO % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def load_pixels(image: ImageLike) -> npt.NDArray[np.uint8]:
    """Returns the pixels of an image as the server sees them, uint8 [H, W, 3].

    Raises:
        InvalidRequestError: It cannot be read.
        ImportError: Pillow is not installed.
    """
    require_pillow()
    source = open_image(image)
    return source.pixels if isinstance(source, PixelImage) else decode_image(source.read())


@dataclass(frozen=True)
class _Canvas:
    """A picture being drawn, in the coordinates of the image it began with.

    Args:
        image: The picture.
        draw: Draws on it.
        scale: Pixels of the picture for each pixel of the image.
        font: For all text on it.
        line_width: In pixels of the picture.
    """

    image: "Image"
    draw: "ImageDraw"
    scale: int
    font: "FreeTypeFont | BitmapFont"
    line_width: int

    @classmethod
    def on(cls, pixels: npt.NDArray[np.uint8], scale: int) -> "_Canvas":
        """Starts a picture with an image, uint8 [H, W, 3], enlarged by a whole factor."""
        from PIL import Image, ImageDraw, ImageFont

        image = Image.fromarray(pixels)
        image = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
        size = max(12, min(image.size) // 36)
        font = ImageFont.load_default(size)
        return cls(image, ImageDraw.Draw(image), scale, font, max(2, size // 8))

    def box(self, found: Detection) -> None:
        """Draws one box; what lies outside the image is cut off."""
        left, top, right, bottom = self._within(found.box_xyxy)
        colour = class_colour(found.class_id)
        self.draw.rectangle((left, top, right, bottom), outline=colour, width=self.line_width)
        self.label(left, top, f"{found.label} {found.score:.2f}", colour)

    def label(self, left: float, bottom: float, text: str, colour: Colour) -> None:
        """Writes text on a coloured ground whose lower left corner is given, if it fits there."""
        width, height = self._text_size(text)
        left = max(0, min(left, self.image.width - width))
        top = max(0, min(bottom - height, self.image.height - height))
        self.draw.rectangle((left, top, left + width, top + height), fill=colour)
        self.draw.text((left + 2, top + 1), text, fill=_ink(colour), font=self.font)

    def legend(self, entries: Iterable[tuple[str, Colour]]) -> None:
        """Lists names with their colours from the upper left corner on."""
        bottom = 0
        for text, colour in entries:
            bottom += self._text_size(text)[1]
            self.label(0, bottom, text, colour)

    def _within(self, box: Sequence[float]) -> tuple[float, float, float, float]:
        """Returns a box in pixels of the picture, inside it, edges in order."""
        width, height = self.image.size
        columns = sorted(min(max(edge * self.scale, 0), width - 1) for edge in box[0::2])
        rows = sorted(min(max(edge * self.scale, 0), height - 1) for edge in box[1::2])
        return columns[0], rows[0], columns[1], rows[1]

    def _text_size(self, text: str) -> tuple[int, int]:
        """Returns width and height of the ground below a text."""
        box = self.font.getbbox(text)
        return math.ceil(box[2]) + 4, math.ceil(self.font.getbbox("Ag")[3]) + 4


def _panel(
    tiles: Sequence[tuple["Image", str, Colour]], lines: Sequence[str], colour: Colour
) -> "Image":
    """Puts framed faces in a row, each with a caption, and lines of text below."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(14)
    step, line_height = _FACE_SIDE + _MARGIN, 20
    width = max(_MARGIN + step * len(tiles), 360)
    panel = Image.new("RGB", (width, step + line_height * (1 + len(lines)) + _MARGIN), _WHITE)
    draw = ImageDraw.Draw(panel)
    for column, (face, caption, frame) in enumerate(tiles):
        left = _MARGIN + column * step
        panel.paste(face, (left, _MARGIN))
        draw.rectangle(
            (left - 3, _MARGIN - 3, left + _FACE_SIDE + 2, step + 2), outline=frame, width=3
        )
        draw.text((left, step + 3), caption, fill=_BLACK, font=font)
    for row, line in enumerate(lines, start=1):
        draw.text((_MARGIN, step + 5 + row * line_height), line, fill=colour, font=font)
    return panel


def _face(image: ImageLike) -> "Image":
    """Returns the middle square of an image in the size of a panel's tiles."""
    from PIL import Image, ImageOps

    return ImageOps.fit(Image.fromarray(load_pixels(image)), (_FACE_SIDE, _FACE_SIDE))


def _candidate_face(candidate: Candidate, photos: Mapping[str, ImageLike]) -> "Image":
    """Returns the photo of a candidate, or a grey tile where there is none."""
    from PIL import Image

    if candidate.name in photos:
        return _face(photos[candidate.name])
    return Image.new("RGB", (_FACE_SIDE, _FACE_SIDE), (210, 210, 210))


def _caption(candidate: Candidate) -> str:
    return f"{shortened(candidate.name, _CAPTION_WIDTH)} {candidate.distance:.3f}"


def _pixels_under(image: ImageLike, mask: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    pixels = load_pixels(image)
    if pixels.shape[:2] != mask.shape:
        raise InvalidRequestError(
            f"image: expected the size of its mask, {list(mask.shape)}, "
            f"got {list(pixels.shape[:2])}"
        )
    return pixels


def _outlines(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Returns the pixels of objects that have a neighbour outside their object, [H, W]."""
    around = np.pad(labels, 1)
    middle = around[1:-1, 1:-1]
    neighbours = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
    edge = np.zeros(labels.shape, np.bool_)
    for neighbour in neighbours:
        edge |= middle != neighbour
    return edge & (middle > 0)


def _enlargement(pixels: npt.NDArray[np.generic]) -> int:
    long_side: int = max(pixels.shape[:2])
    return math.ceil(_SHORTEST_LONG_SIDE / long_side)


def _ink(ground: Colour) -> Colour:
    """Returns black or white, whichever is easier to read on a ground.

    Source: ITU-R BT.601, luma.
    """
    red, green, blue = ground
    return _BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else _WHITE
