"""What the load tests send to a model of each task, and the clients that send it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from clients import (
    AsyncDetectionClient,
    AsyncFaceClient,
    AsyncSegmentationClient,
    AsyncSentimentClient,
    DetectionClient,
    FaceClient,
    SegmentationClient,
    SentimentClient,
)
from clients.typed import AsyncTaskClient, TaskClient
from protocol import version_folder
from protocol.contracts import DETECTION, FACE, SEGMENTATION, SENTIMENT
from protocol.version_folder import ASSETS_FOLDER
from tests.bench.texts import LONG_WORDS, SHORT_WORDS, TEXTS

SAMPLES_FOLDER = f"{ASSETS_FOLDER}/{version_folder.SAMPLES_FOLDER}"
REPETITIONS = 64


@dataclass(frozen=True)
class Workload:
    """Items of one kind, each sent as a request of its own.

    Attributes:
        name: in results, and in commands to the load process.
        title: heading of its table.
        input: name of the signature's input.
        items: texts, or image files as bytes.
        raw_batches: batch sizes of the raw limits; the last is the one for concurrent requests.
        raw_threads: threads of the raw ONNX Runtime; 0 for one on each core.
    """

    name: str
    title: str
    input: str
    items: Sequence[Any]
    raw_batches: tuple[int, ...]
    raw_threads: int


def workloads(task: str, folder: Path) -> list[Workload]:
    """Returns what to send to a model.

    Args:
        task: what the model is for.
        folder: its version folder, which holds sample images where it takes images.
    """
    if task == SENTIMENT.task:
        words = {"short": SHORT_WORDS, "long": LONG_WORDS}
        return [
            Workload(kind, f"{kind} texts ({low}-{high} words)", "text", TEXTS[kind], (1, 32), 1)
            for kind, (low, high) in words.items()
        ]
    return [_images(folder / SAMPLES_FOLDER)]


def _images(folder: Path) -> Workload:
    files = [path.read_bytes() for path in sorted(folder.glob("*")) if path.is_file()]
    if not files:
        raise SystemExit(f"error: no sample images in {folder}")
    kib = sum(map(len, files)) / len(files) / 1024
    title = f"{len(files)} sample images (JPEG or PNG, {kib:.0f} KiB on average)"
    items = files * (REPETITIONS // len(files) + 1)
    return Workload("images", title, "image_bytes", items, (1, 8), 0)


# Of each task the client and its call for one item, blocking and asyncio.
_CLIENTS: Mapping[str, tuple[type[TaskClient], Callable[..., object]]] = {
    FACE.task: (FaceClient, FaceClient.embed_one),
    DETECTION.task: (DetectionClient, DetectionClient.detect_one),
    SEGMENTATION.task: (SegmentationClient, SegmentationClient.segment_one),
    SENTIMENT.task: (SentimentClient, SentimentClient.classify_one),
}
_ASYNC_CLIENTS: Mapping[str, tuple[type[AsyncTaskClient], Callable[..., Awaitable[object]]]] = {
    FACE.task: (AsyncFaceClient, AsyncFaceClient.embed_one),
    DETECTION.task: (AsyncDetectionClient, AsyncDetectionClient.detect_one),
    SEGMENTATION.task: (AsyncSegmentationClient, AsyncSegmentationClient.segment_one),
    SENTIMENT.task: (AsyncSentimentClient, AsyncSentimentClient.classify_one),
}


def open_client(task: str, target: str, model: str) -> tuple[TaskClient, Callable[[Any], object]]:
    """Returns a blocking client, and its call for one item."""
    if task not in _CLIENTS:
        raise SystemExit(f"error: no load for the task {task!r}")
    kind, ask = _CLIENTS[task]
    client = kind(target, model=model)
    return client, partial(ask, client)


def open_async_client(
    task: str, target: str, model: str
) -> tuple[AsyncTaskClient, Callable[[Any], Awaitable[object]]]:
    """Returns an asyncio client, and its call for one item."""
    if task not in _ASYNC_CLIENTS:
        raise SystemExit(f"error: no load for the task {task!r}")
    kind, ask = _ASYNC_CLIENTS[task]
    client = kind(target, model=model)
    return client, partial(ask, client)
