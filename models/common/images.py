"""Images and masks from files, as training and evaluation read them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from models.common.splits import DataError
from protocol.errors import InvalidRequestError
from protocol.images import decode_image

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".pgm", ".ppm", ".bmp", ".tif", ".tiff")
_SERVED_FORMATS = (b"\xff\xd8", b"\x89PNG")
_UNREADABLE = (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError)


def find_images(folder: Path) -> list[Path]:
    """Lists the image files directly in a folder, by name.

    Raises:
        DataError: if there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise DataError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    return files


def read_image(path: Path) -> np.ndarray:
    """Reads an image in colour, turned upright; JPEG and PNG exactly as a server decodes them.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        DataError: if the file is missing or no image; the message names it.
    """
    try:
        data = path.read_bytes()
        if data.startswith(_SERVED_FORMATS):
            return decode_image(data)
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (InvalidRequestError, *_UNREADABLE) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error


def read_mask(path: Path) -> np.ndarray:
    """Reads a mask; the values of its pixels, or their palette indices, are kept.

    Returns:
        uint8 [H, W].

    Raises:
        DataError: if the file is missing, no image, or has several channels of different content.
    """
    try:
        with Image.open(path) as image:
            values = np.asarray(image if image.mode in ("L", "P") else image.convert("RGB"))
            if image.mode == "1":
                values = np.asarray(image.convert("L"))
    except _UNREADABLE as error:
        raise DataError(f"{path} cannot be read as a mask: {error}") from error
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise DataError(f"{path}: a mask has one channel, this one has colours")
        values = values[..., 0]
    return values


def resize_image(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes with a triangle filter that widens when shrinking, so that nothing aliases.

    `tf.image.resize(antialias=True)` and ONNX's Resize (linear, antialias) compute the same
    before rounding.

    Args:
        image: uint8 [H, W, 3] or [H, W].
        height: of the result, pixels.
        width: of the result, pixels.

    Returns:
        uint8 [height, width, 3] or [height, width].
    """
    if image.shape[:2] == (height, width):
        return image
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def encode_jpeg(image: np.ndarray) -> bytes:
    """Packs uint8 [H, W] or [H, W, 3] as a JPEG file of good quality."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "jpeg", quality=90)
    return stream.getvalue()
