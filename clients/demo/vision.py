"""What the demo does with the models that see: it sends the samples that each version carries."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from clients import drawing, report
from clients.commands.images import PictureFolder
from clients.demo.latency import LatencySummary, repeated, time_concurrent, time_sequential
from clients.demo.repository import PublishedModel
from clients.detection import AsyncDetectionClient, DetectionClient
from clients.embeddings import FaceEmbedding, compare
from clients.face import AsyncFaceClient, FaceClient
from clients.gallery import Gallery
from clients.images import SUFFIXES
from clients.segmentation import AsyncSegmentationClient, SegmentationClient
from clients.typed import AsyncTaskClient
from protocol.version_folder import ASSETS_FOLDER, SAMPLES_FOLDER

_TIMED_S = 2.0
_CONCURRENCY = 8
_SHOWN = 4

Ask = Callable[[Any, bytes], Awaitable[object]]


def sample_images(folder: Path) -> list[Path]:
    """Returns the sample images that a version carries, by name.

    Args:
        folder: The version folder.
    """
    files = (folder / ASSETS_FOLDER / SAMPLES_FOLDER).glob("*")
    return sorted(file for file in files if file.suffix.lower() in SUFFIXES)


def demo_detection(target: str, model: PublishedModel, pictures: PictureFolder) -> Iterator[str]:
    """Yields what is found in the samples, where it is drawn, and how fast."""
    samples = sample_images(model.folder)
    if not samples:
        yield _no_samples(model)
        return
    with DetectionClient(target, model=model.name) as client:
        shown = samples[:_SHOWN]
        for file, result in zip(shown, client.detect(shown), strict=True):
            yield f"{file.name}: {_counted(result.counts)}"
            draw = partial(drawing.draw_detections, file, result)
            yield from report.saved_lines(pictures.save(result.source, "boxes", draw))
        yield _time_one(client.detect_one, samples)
    yield _time_many(AsyncDetectionClient, AsyncDetectionClient.detect_one, target, model, samples)


def demo_segmentation(target: str, model: PublishedModel, pictures: PictureFolder) -> Iterator[str]:
    """Yields the shares and objects of the samples, where they are drawn, and how fast."""
    samples = sample_images(model.folder)
    if not samples:
        yield _no_samples(model)
        return
    with SegmentationClient(target, model=model.name) as client:
        shown = samples[:_SHOWN]
        for file, result in zip(shown, client.segment(shown), strict=True):
            shares = (f"{name} {share:.1%}" for name, share in result.shares.items())
            yield f"{file.name}: {', '.join(shares)}"
            draw = partial(drawing.draw_mask, file, result)
            yield from report.saved_lines(pictures.save(result.source, "overlay", draw))
            for name in result.class_names[1:]:
                found = result.instances(name)
                yield f"  {found.count} objects of class {name}"
                outline = partial(drawing.draw_instances, file, found.labels)
                yield from report.saved_lines(
                    pictures.save(result.source, f"{name}-instances", outline)
                )
        yield _time_one(client.segment_one, samples)
    asynchronous = AsyncSegmentationClient
    yield _time_many(asynchronous, asynchronous.segment_one, target, model, samples)


def demo_face(target: str, model: PublishedModel, pictures: PictureFolder) -> Iterator[str]:
    """Yields who is verified and identified among the samples, and how fast.

    A sample is called `<person>_<number>`; the last one of each person is the one asked about,
    the others are enrolled in a gallery that goes when the demo ends.
    """
    people = _by_person(sample_images(model.folder))
    if len(people) < 2:
        yield _no_samples(model)
        return
    samples = [file for files in people.values() for file in files]
    yield "drawn faces resemble each other more than photographs do"
    with FaceClient(target, model=model.name) as client:
        faces = dict(zip(samples, client.embed(samples), strict=True))
        yield from _verify_samples(people, faces, pictures)
        with (
            tempfile.TemporaryDirectory(prefix="gallery-") as folder,
            Gallery(Path(folder, "people.gallery")) as gallery,
        ):
            yield from _identify_samples(people, faces, gallery, pictures)
        yield _time_one(client.embed_one, samples)
    yield _time_many(AsyncFaceClient, AsyncFaceClient.embed_one, target, model, samples)


def _verify_samples(
    people: Mapping[str, Sequence[Path]],
    faces: Mapping[Path, FaceEmbedding],
    pictures: PictureFolder,
) -> Iterator[str]:
    """Compares the first sample with another of that person, and with one of somebody else."""
    first_person, other_person = list(people.values())[:2]
    first = first_person[0]
    for second in (first_person[-1], other_person[0]):
        answer = compare(faces[first], faces[second])
        yield f"{first.name} and {second.name}: {report.verification_line(answer)}"
        draw = partial(drawing.draw_verification, first, second, answer)
        yield from report.saved_lines(pictures.save(str(second), "verify", draw))


def _identify_samples(
    people: Mapping[str, Sequence[Path]],
    faces: Mapping[Path, FaceEmbedding],
    gallery: Gallery,
    pictures: PictureFolder,
) -> Iterator[str]:
    """Enrols all samples but each person's last one, and asks who those last ones are."""
    for name, files in people.items():
        if len(files) > 1:
            gallery.enrol(name, [faces[file] for file in files[:-1]])
    photos = {name: files[0] for name, files in people.items()}
    known = [files[-1] for files in people.values() if len(files) > 1]
    found = [gallery.identify(faces[file]) for file in known]
    right = sum(answer.name == person_name(file) for file, answer in zip(known, found, strict=True))
    unknown = sum(answer.name is None for answer in found)
    yield f"gallery of {len(known)} people: {right} of {len(known)} named, {unknown} unknown"
    for file, answer in list(zip(known, found, strict=True))[:_SHOWN]:
        yield f"{file.name}: {answer.name or 'unknown'}"
        draw = partial(drawing.draw_identification, file, answer, photos)
        yield from report.saved_lines(pictures.save(str(file), "identify", draw))


def person_name(file: Path) -> str:
    """Returns whose face a sample shows."""
    return file.stem.rpartition("_")[0] or file.stem


def _by_person(files: Sequence[Path]) -> dict[str, list[Path]]:
    people: dict[str, list[Path]] = {}
    for file in files:
        people.setdefault(person_name(file), []).append(file)
    return people


def _no_samples(model: PublishedModel) -> str:
    folder = model.folder / ASSETS_FOLDER / SAMPLES_FOLDER
    return f"nothing to send: there are no sample images in {folder}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {label}" for label, count in counts.items()) or "nothing found"


def _time_one(ask: Callable[[bytes], object], samples: Sequence[Path]) -> str:
    images = [file.read_bytes() for file in samples]
    return time_sequential(ask, repeated(images, _TIMED_S)).line("one at a time")


def _time_many(
    client_class: type[AsyncTaskClient],
    ask: Ask,
    target: str,
    model: PublishedModel,
    samples: Sequence[Path],
) -> str:
    images = [file.read_bytes() for file in samples]

    async def run() -> LatencySummary:
        async with client_class(target, model=model.name) as client:
            return await time_concurrent(
                partial(ask, client), repeated(images, _TIMED_S), _CONCURRENCY
            )

    return asyncio.run(run()).line(f"{_CONCURRENCY} at a time")
