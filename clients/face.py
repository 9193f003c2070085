"""Faces: clients that turn images of faces into embeddings, compare them, and name people."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from clients.embeddings import (
    FALSE_ACCEPT_RATES,
    FaceEmbedding,
    Identification,
    Verification,
    compare,
    thresholds_of,
)
from clients.gallery import IDENTIFY_FAR, TOP, Gallery
from clients.images import (
    ImageAnswer,
    ImageLike,
    ImageSource,
    ask_images,
    image_files,
    open_image,
    open_images,
)
from clients.typed import AsyncTaskClient, Script, ServedModel, TaskClient, TaskSpec
from protocol.contracts import FACE
from protocol.errors import InvalidRequestError

_SPEC = TaskSpec(FACE, batch_size=32)
_VERIFY_FAR = FALSE_ACCEPT_RATES[0]


@dataclass(frozen=True)
class EnrolledPhotos:
    """Photos of one person that were added to a gallery.

    Args:
        name: The person.
        sources: Paths of the photos.
        ids: Ids of the examples, in the same order.
    """

    name: str
    sources: tuple[str, ...]
    ids: tuple[int, ...]


class FaceClient(TaskClient):
    """Recognises faces with a served face model; see `TaskClient` for the arguments.

    Each image shows one face, upright and roughly centred: nothing here searches for faces.
    """

    spec = _SPEC

    def embed(
        self, images: Iterable[ImageLike] | Path | str, *, timeout_s: float | None = None
    ) -> list[FaceEmbedding]:
        """Turns images of faces into vectors; answer i belongs to image i.

        Args:
            images: Files, bytes of files, uint8 arrays [H, W, 3] or [H, W], Pillow images, mixed
                as you like; or one folder, whose image files are taken by name.
            timeout_s: Deadline of each request in seconds; None takes the config's.

        Raises:
            InvalidRequestError: An image cannot be sent; nothing was sent.
            ContractError: The served model is not a face model.
            ServiceError: The call failed; the class tells the gRPC status.
        """
        return self._run(_embed(self._served, open_images(images)), timeout_s)

    def embed_one(self, image: ImageLike, *, timeout_s: float | None = None) -> FaceEmbedding:
        """Turns one image of a face into a vector; see `embed`."""
        return self._run(_embed(self._served, [open_image(image)]), timeout_s)[0]

    def verify(
        self,
        first: ImageLike,
        second: ImageLike,
        *,
        far: float = _VERIFY_FAR,
        threshold: float | None = None,
        timeout_s: float | None = None,
    ) -> Verification:
        """Says whether two images show the same person.

        Args:
            first: One image.
            second: The other.
            far: Rate at which different people may be taken for the same, 0.01 or 0.001. The
                version that answers says which distance that is.
            threshold: A squared distance of your own, 0 to 4, instead of a rate.
            timeout_s: Deadline of each request in seconds; None takes the config's.

        Raises:
            InvalidRequestError: An image, the rate or the threshold is of no use.
            FailedPreconditionError: The server changed versions between the two images.
            ServiceError: The call failed; the class tells the gRPC status.
        """
        embeddings = self.embed([first, second], timeout_s=timeout_s)
        return compare(*embeddings, far=far, threshold=threshold)

    def identify(
        self,
        image: ImageLike,
        gallery: Gallery,
        *,
        far: float = IDENTIFY_FAR,
        threshold: float | None = None,
        top: int = TOP,
        timeout_s: float | None = None,
    ) -> Identification:
        """Says who of a gallery an image shows; see `Gallery.identify`."""
        embedding = self.embed_one(image, timeout_s=timeout_s)
        return gallery.identify(embedding, far=far, threshold=threshold, top=top)

    def enrol(
        self,
        gallery: Gallery,
        name: str,
        images: Iterable[ImageLike] | Path | str,
        *,
        consent: str = "",
        timeout_s: float | None = None,
    ) -> tuple[int, ...]:
        """Adds images of a person who has agreed to it to a gallery; see `Gallery.enrol`."""
        embeddings = self.embed(images, timeout_s=timeout_s)
        return gallery.enrol(name, embeddings, consent=consent)

    def enrol_folder(
        self,
        gallery: Gallery,
        folder: Path | str,
        *,
        consent: str = "",
        timeout_s: float | None = None,
    ) -> Iterator[EnrolledPhotos]:
        """Adds everybody in a folder of people to a gallery, person by person.

        Photos that are in the gallery under the same name and path are left out, so that an
        import that stopped half-way may be repeated.

        Args:
            gallery: Where to add them.
            folder: Holds one folder a person, named after them, with photos of one face each.
            consent: Where everybody's consent is recorded.
            timeout_s: Deadline of each request in seconds; None takes the config's.

        Yields:
            Each person with new photos, once they are in the gallery.

        Raises:
            InvalidRequestError: There are no such folders, or one holds no images.
            ServiceError: A call failed; the person before is in the gallery, this one is not.
        """
        for name, files in _new_photos(gallery, Path(folder)):
            ids = self.enrol(gallery, name, files, consent=consent, timeout_s=timeout_s)
            yield EnrolledPhotos(name, tuple(map(str, files)), ids)


class AsyncFaceClient(AsyncTaskClient):
    """The asyncio twin of `FaceClient`: the same methods, awaited; galleries work in threads."""

    spec = _SPEC

    async def embed(
        self, images: Iterable[ImageLike] | Path | str, *, timeout_s: float | None = None
    ) -> list[FaceEmbedding]:
        """Turns images of faces into vectors; see `FaceClient.embed`."""
        return await self._run(_embed(self._served, open_images(images)), timeout_s)

    async def embed_one(self, image: ImageLike, *, timeout_s: float | None = None) -> FaceEmbedding:
        """Turns one image of a face into a vector; see `embed`."""
        return (await self._run(_embed(self._served, [open_image(image)]), timeout_s))[0]

    async def verify(
        self,
        first: ImageLike,
        second: ImageLike,
        *,
        far: float = _VERIFY_FAR,
        threshold: float | None = None,
        timeout_s: float | None = None,
    ) -> Verification:
        """Says whether two images show the same person; see `FaceClient.verify`."""
        embeddings = await self.embed([first, second], timeout_s=timeout_s)
        return compare(*embeddings, far=far, threshold=threshold)

    async def identify(
        self,
        image: ImageLike,
        gallery: Gallery,
        *,
        far: float = IDENTIFY_FAR,
        threshold: float | None = None,
        top: int = TOP,
        timeout_s: float | None = None,
    ) -> Identification:
        """Says who of a gallery an image shows; see `Gallery.identify`."""
        embedding = await self.embed_one(image, timeout_s=timeout_s)
        return await asyncio.to_thread(
            gallery.identify, embedding, far=far, threshold=threshold, top=top
        )

    async def enrol(
        self,
        gallery: Gallery,
        name: str,
        images: Iterable[ImageLike] | Path | str,
        *,
        consent: str = "",
        timeout_s: float | None = None,
    ) -> tuple[int, ...]:
        """Adds images of a person who has agreed to it to a gallery; see `Gallery.enrol`."""
        embeddings = await self.embed(images, timeout_s=timeout_s)
        return await asyncio.to_thread(gallery.enrol, name, embeddings, consent=consent)

    async def enrol_folder(
        self,
        gallery: Gallery,
        folder: Path | str,
        *,
        consent: str = "",
        timeout_s: float | None = None,
    ) -> AsyncIterator[EnrolledPhotos]:
        """Adds everybody in a folder of people to a gallery; see `FaceClient.enrol_folder`."""
        people = await asyncio.to_thread(lambda: list(_new_photos(gallery, Path(folder))))
        for name, files in people:
            ids = await self.enrol(gallery, name, files, consent=consent, timeout_s=timeout_s)
            yield EnrolledPhotos(name, tuple(map(str, files)), ids)


def _embed(served: ServedModel, sources: list[ImageSource]) -> Script[list[FaceEmbedding]]:
    answers = yield from ask_images(served, sources)
    return [_embedding(answer) for answer in answers]


def _embedding(answer: ImageAnswer) -> FaceEmbedding:
    return FaceEmbedding(
        source=answer.source,
        vector=answer.outputs["embedding"],
        model=answer.model,
        version=answer.version,
        thresholds=thresholds_of(answer.outputs["threshold"]),
    )


def _new_photos(gallery: Gallery, folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yields people and those of their photos that are not in the gallery yet."""
    folders = _people_folders(folder)
    photos = {person.name: image_files(person) for person in folders}
    enrolled: Mapping[str, set[str]] = {
        person.name: {example.source for example in person.examples} for person in gallery.people()
    }
    for name, files in photos.items():
        new = [file for file in files if str(file) not in enrolled.get(name, ())]
        if new:
            yield name, new


def _people_folders(folder: Path) -> list[Path]:
    found = sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    visible = [entry for entry in found if not entry.name.startswith(".")]
    if not visible:
        raise InvalidRequestError(f"{folder}: expected a folder with one folder a person")
    return visible
