"""Models that keep the contracts of their tasks and know next to nothing.

The vision models know only how red a pixel is; the translation model says words backwards.
"""

import io
from typing import Any

import numpy as np
from PIL import Image

from protocol.tensors import to_ndarray

BOXES = 3
SCORE = 0.9
THRESHOLDS = (0.2, 0.05)
BEAM_WIDTH = 4
MAX_WORDS = 40

Outputs = dict[str, np.ndarray[Any, Any]]


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    """Returns pixels as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def red_box(
    height: int = 20, width: int = 30, box: tuple[int, int, int, int] = (5, 4, 15, 10)
) -> np.ndarray[Any, Any]:
    """Returns a black image with a red box, given as left, top, right, bottom."""
    left, top, right, bottom = box
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[top:bottom, left:right, 0] = 255
    return pixels


def plain(red: int, green: int, blue: int, side: int = 8) -> np.ndarray[Any, Any]:
    """Returns an image of one colour; to the face model, a colour is a person."""
    return np.full((side, side, 3), (red, green, blue), np.uint8)


def sent_images(request: Any) -> list[np.ndarray[Any, Any]]:
    """Returns the pixels of the images in a request."""
    if "image" in request.inputs:
        return list(to_ndarray(request.inputs["image"]))
    encoded = to_ndarray(request.inputs["image_bytes"])
    return [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded]


def detect_red(request: Any) -> Outputs:
    """Finds one box around all red pixels; says so if its score is above the threshold."""
    images = sent_images(request)
    threshold = (
        float(to_ndarray(request.inputs["score_threshold"]))
        if "score_threshold" in request.inputs
        else 0.25
    )
    outputs: Outputs = {
        "boxes_xyxy": np.zeros((len(images), BOXES, 4), np.float32),
        "scores": np.zeros((len(images), BOXES), np.float32),
        "class_ids": np.full((len(images), BOXES), -1, np.int32),
        "labels": np.full((len(images), BOXES), b"", object),
        "num_detections": np.zeros(len(images), np.int32),
    }
    for row, image in enumerate(images):
        rows, columns = np.nonzero(image[..., 0] > 128)
        if len(rows) and threshold <= SCORE:
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            outputs["boxes_xyxy"][row, 0] = box
            outputs["scores"][row, 0] = SCORE
            outputs["class_ids"][row, 0] = 1
            outputs["labels"][row, 0] = b"red"
            outputs["num_detections"][row] = 1
    return outputs


def segment_red(request: Any) -> Outputs:
    """Says class 1, "nucleus", where a pixel is red."""
    images = sent_images(request)
    masks = [(image[..., 0] > 128).astype(np.uint8) for image in images]
    names = np.tile(np.array([b"background", b"nucleus"], object), (len(images), 1))
    if request.model_spec.signature_name == "serving_default":
        return {
            "mask_png": np.array([png(mask) for mask in masks], object),
            "height": np.array([mask.shape[0] for mask in masks], np.int32),
            "width": np.array([mask.shape[1] for mask in masks], np.int32),
            "class_names": names,
        }
    outputs: Outputs = {"mask": np.stack(masks), "class_names": names}
    if request.model_spec.signature_name == "probability":
        outputs["probability"] = np.eye(2, dtype=np.float32)[outputs["mask"]]
    return outputs


def embed_colour(request: Any) -> Outputs:
    """Returns the mean colour as a vector of length 1; black is the fourth direction."""
    images = sent_images(request)
    embedding = np.zeros((len(images), 128), np.float32)
    for row, image in enumerate(images):
        embedding[row, :3] = image.reshape(-1, 3).mean(axis=0)
        embedding[row, 3] = 1
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    return {
        "embedding": embedding,
        "threshold": np.tile(np.array(THRESHOLDS, np.float32), (len(images), 1)),
    }


def translate_backwards(request: Any) -> Outputs:
    """Says the words of each text from the last to the first, in capitals.

    Alternative k ends with k exclamation marks, and its score is -k. A token looks at the word it
    came from.
    """
    words = [text.decode().split() for text in to_ndarray(request.inputs["text"])]
    read = [row[:MAX_WORDS] for row in words]
    said = [" ".join(row[::-1]).upper() for row in read]
    beam_width = _number(request, "beam_width", BEAM_WIDTH)
    outputs: Outputs = {
        "translation": _strings(said),
        "score": np.zeros(len(words), np.float32),
        "truncated": np.array([len(row) > MAX_WORDS for row in words], bool),
    }
    if request.model_spec.signature_name == "attention":
        return outputs | _attention_backwards(read)
    alternatives = _number(request, "alternatives", 0) or beam_width
    if alternatives > beam_width:
        raise ValueError(f"alternatives: expected 0..{beam_width}, got {alternatives}")
    places = range(alternatives)
    outputs["alternatives"] = _table([[text + "!" * place for place in places] for text in said])
    scores = np.arange(0, -alternatives, -1, dtype=np.float32)
    outputs["alternative_scores"] = np.tile(scores, (len(words), 1))
    return outputs


def _attention_backwards(read: list[list[str]]) -> Outputs:
    size = 1 + max(map(len, read), default=0)
    attention = np.zeros((len(read), size, size), np.float32)
    for weights, row in zip(attention, read, strict=True):
        weights[: len(row), : len(row)] = np.eye(len(row))[::-1]
        weights[len(row), len(row)] = 1
    sources = [["\u2581" + word for word in row] for row in read]
    targets = [[word.upper() for word in row[::-1]] for row in sources]
    ends = [["</s>", *[""] * (size - 1 - len(row))] for row in read]
    return {
        "attention": attention,
        "source_tokens": _table([row + end for row, end in zip(sources, ends, strict=True)]),
        "target_tokens": _table([row + end for row, end in zip(targets, ends, strict=True)]),
    }


def _number(request: Any, name: str, default: int) -> int:
    return int(to_ndarray(request.inputs[name])) if name in request.inputs else default


def _strings(texts: list[str]) -> np.ndarray[Any, Any]:
    return np.array([text.encode() for text in texts], object)


def _table(rows: list[list[str]]) -> np.ndarray[Any, Any]:
    return np.array([[text.encode() for text in row] for row in rows], object)


MODELS = {
    "detection": detect_red,
    "segmentation": segment_red,
    "face": embed_colour,
    "translation": translate_backwards,
    "translation_dates": translate_backwards,
}
