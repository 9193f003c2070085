"""What the load tests send to a model of each task, and the clients that send it."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from clients import (
    AsyncDetectionClient,
    AsyncFaceClient,
    AsyncSegmentationClient,
    AsyncSentimentClient,
    AsyncTranslationClient,
    DetectionClient,
    FaceClient,
    SegmentationClient,
    SentimentClient,
    TranslationClient,
)
from clients.typed import AsyncTaskClient, TaskClient
from protocol import version_folder
from protocol.contracts import DETECTION, FACE, SEGMENTATION, SENTIMENT, TRANSLATION
from protocol.subwords import SubwordTokenizer
from protocol.version_folder import ASSETS_FOLDER, Manifest
from tests.bench.sentences import sentences
from tests.bench.texts import LONG_WORDS, SHORT_WORDS, TEXTS

SAMPLES_FOLDER = f"{ASSETS_FOLDER}/{version_folder.SAMPLES_FOLDER}"
REPETITIONS = 64
SHORT_TOKENS, LONG_TOKENS = 10, 40
SENTENCES = 64
BEAM_WIDTHS = (1, 4)


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
        options: further inputs of every request, by name.
    """

    name: str
    title: str
    input: str
    items: Sequence[Any]
    raw_batches: tuple[int, ...]
    raw_threads: int
    options: Mapping[str, int] = field(default_factory=dict)


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
    if task == TRANSLATION.task:
        return list(_texts_to_translate(folder))
    return [_images(folder / SAMPLES_FOLDER)]


def _texts_to_translate(folder: Path) -> Iterator[Workload]:
    tokenizer = SubwordTokenizer.from_folder(folder / ASSETS_FOLDER)
    texts: dict[str, Sequence[str]]
    if "dates" in Manifest.read(folder).model_name:
        from models.translation import dates  # imports Keras

        texts = {"dates": [pair.source for pair in dates.make_pairs(SENTENCES, seed=0)]}
    else:
        texts = {
            f"{tokens} tokens": sentences(tokenizer, tokens, SENTENCES)
            for tokens in (SHORT_TOKENS, LONG_TOKENS)
        }
    for name, items in texts.items():
        for width in BEAM_WIDTHS:
            title = f"{name}, beam {width}"
            yield Workload(title, title, "text", items, (1, 8), 1, {"beam_width": width})


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
    TRANSLATION.task: (TranslationClient, TranslationClient.translate_one),
}
_ASYNC_CLIENTS: Mapping[str, tuple[type[AsyncTaskClient], Callable[..., Awaitable[object]]]] = {
    FACE.task: (AsyncFaceClient, AsyncFaceClient.embed_one),
    DETECTION.task: (AsyncDetectionClient, AsyncDetectionClient.detect_one),
    SEGMENTATION.task: (AsyncSegmentationClient, AsyncSegmentationClient.segment_one),
    SENTIMENT.task: (AsyncSentimentClient, AsyncSentimentClient.classify_one),
    TRANSLATION.task: (AsyncTranslationClient, AsyncTranslationClient.translate_one),
}


def open_client(task: str, target: str, model: str) -> tuple[TaskClient, Callable[..., object]]:
    """Returns a blocking client, and its call for one item."""
    if task not in _CLIENTS:
        raise SystemExit(f"error: no load for the task {task!r}")
    kind, ask = _CLIENTS[task]
    client = kind(target, model=model)
    return client, partial(ask, client)


def open_async_client(
    task: str, target: str, model: str
) -> tuple[AsyncTaskClient, Callable[..., Awaitable[object]]]:
    """Returns an asyncio client, and its call for one item."""
    if task not in _ASYNC_CLIENTS:
        raise SystemExit(f"error: no load for the task {task!r}")
    kind, ask = _ASYNC_CLIENTS[task]
    client = kind(target, model=model)
    return client, partial(ask, client)
