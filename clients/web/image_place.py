"""A place of the form where images are uploaded, with small pictures of what is there."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from nicegui import events, ui

from clients.drawing import load_pixels
from clients.images import SUFFIXES, open_image
from clients.web.answers import Picture
from clients.web.form import ImageField
from clients.web.parts import show_image
from protocol.errors import InvalidRequestError

LARGEST_FILE_BYTES = 32 << 20
_PREVIEW_SIDE = 240  # pixels


@dataclass(frozen=True, eq=False)
class UploadedImage:
    """An image that was uploaded.

    Args:
        data: The bytes of its file.
        preview: A small picture of it.
    """

    data: bytes
    preview: Picture


class ImagePlace:
    """Takes images from the visitor.

    Args:
        wanted: Which images it takes.
        on_change: Is given the bytes of all files that are there now.
        on_error: Is told why files were not taken.
    """

    def __init__(
        self,
        wanted: ImageField,
        on_change: Callable[[tuple[bytes, ...]], None],
        on_error: Callable[[InvalidRequestError], None],
    ) -> None:
        self._wanted = wanted
        self._on_change = on_change
        self._on_error = on_error
        self._images: tuple[UploadedImage, ...] = ()

    def show(self) -> None:
        """Builds it."""
        upload = ui.upload(
            label=self._wanted.label,
            multiple=self._wanted.many,
            auto_upload=True,
            max_file_size=LARGEST_FILE_BYTES,
            on_multi_upload=self._on_upload,
            on_rejected=self._on_rejected,
        )
        upload.props["accept"] = ",".join(SUFFIXES)
        upload.classes("web-wide").props(f"flat bordered data-part=upload-{self._wanted.name}")
        self._previews = ui.element("div").classes("web-thumbnails")

    async def _on_upload(self, event: events.MultiUploadEventArguments) -> None:
        event.sender.run_method("reset")
        try:
            came = tuple([await _checked(file.name, await file.read()) for file in event.files])
        except InvalidRequestError as error:
            self._on_error(error)
        else:
            self._take((*self._images, *came) if self._wanted.many else came)

    def _on_rejected(self) -> None:
        self._on_error(
            InvalidRequestError(
                f"{self._wanted.label}: expected a JPEG or PNG file of at most "
                f"{LARGEST_FILE_BYTES >> 20} MiB, got another file"
            )
        )

    def _take(self, images: tuple[UploadedImage, ...]) -> None:
        self._images = images
        self._on_change(tuple(image.data for image in images))
        self._previews.clear()
        with self._previews:
            for image in images:
                show_image(image.preview.data_url, image.preview.caption)
            if images:
                ui.button("Remove", on_click=lambda: self._take(())).props("flat dense")


async def _checked(name: str, data: bytes) -> UploadedImage:
    """Decodes an uploaded file.

    Raises:
        InvalidRequestError: It is too large, or no image that can be read; the message names it.
    """
    if len(data) > LARGEST_FILE_BYTES:
        raise InvalidRequestError(
            f"{name}: expected at most {LARGEST_FILE_BYTES >> 20} MiB, got {len(data)} bytes"
        )
    open_image(data, name)
    try:
        return UploadedImage(data, await asyncio.to_thread(_preview, name, data))
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{name}: {error}") from error


def _preview(name: str, data: bytes) -> Picture:
    from PIL import Image

    image = Image.fromarray(load_pixels(data))
    image.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
    return Picture.of(name, image)
