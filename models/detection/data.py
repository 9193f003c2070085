"""Labelled images: from Pascal VOC and COCO folders to batches.

A data folder is read as one of:

- Pascal VOC: `Annotations/NAME.xml` and `JPEGImages/NAME.*`, with optional lists of names in
  `ImageSets/Main/train.txt`, `val.txt` (or `dev.txt`), `test.txt`.
- COCO: json files, in the folder itself, in `annotations/` or one folder down, each with `images`,
  `annotations` and `categories`. A file whose name or folder contains train, val, valid, dev or
  test is that split. Images lie beside the json, or in `images/`, `SPLIT/` or `images/SPLIT/`.

Coordinates are kept as written: pixels from 0 at the left and top edge.
"""

import hashlib
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.common.images import IMAGE_SUFFIXES, read_image
from models.common.splits import (
    ALL,
    DEV,
    SPLIT_ALIASES,
    TRAIN,
    DataError,
    in_held_out_part,
)
from models.detection.metrics import Truth
from protocol.images import encode_png

SERVED_SUFFIXES = (".jpg", ".jpeg", ".png")
EXIF_ORIENTATION = 274
# Orientations of 5 and more swap width and height.
FIRST_TURNED_ORIENTATION = 5
# Rounding in annotation tools puts corners up to this far outside, in pixels; they are clipped.
OUTSIDE_TOLERANCE = 1.0


@dataclass(frozen=True)
class LabelledImage:
    """One image file and its boxes.

    Attributes:
        path: the image.
        height: pixels, upright (EXIF orientation applied).
        width: likewise.
        boxes_xyxy: float32 [M, 4], pixels.
        class_ids: int32 [M].
        ignored: bool [M]; crowds (COCO) and difficult objects (VOC) are neither learned nor counted
            as missed.
    """

    path: Path
    height: int
    width: int
    boxes_xyxy: np.ndarray
    class_ids: np.ndarray
    ignored: np.ndarray

    @property
    def truth(self) -> Truth:
        """What metrics compare detections with."""
        return Truth(self.boxes_xyxy, self.class_ids, self.ignored)


@dataclass(frozen=True)
class Source:
    """One data folder.

    Attributes:
        name: of the folder.
        splits: images by split: `all`, `train` and `dev` always, `test` where the folder has it.
        named: the splits that the folder itself tells apart; empty if it names none.
        digest: SHA-256 of images and labels.
    """

    name: str
    splits: dict[str, list[LabelledImage]]
    named: frozenset[str]
    digest: str


@dataclass(frozen=True)
class _Box:
    """A box as annotated, before any check."""

    label: str
    xyxy: tuple[float, float, float, float]
    ignored: bool = False


def load_source(folder: Path, labels: Sequence[str], dev_fraction: float) -> Source:
    """Reads a data folder of either layout.

    Where no list or file names a dev split, the part of the training images (of all images, where
    nothing is named) whose file name's hash falls below `dev_fraction` is dev.

    Args:
        folder: see the module's description.
        labels: the classes that may occur; ids count from 0 in this order.
        dev_fraction: share held out where there is no dev split.

    Raises:
        DataError: for an unknown layout, an unreadable file, an unknown class, a box outside its
            image or without area; the message names the file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such data folder")
    if (folder / "Annotations").is_dir():
        splits = _load_voc(folder, labels)
    elif files := _coco_files(folder):
        splits = _load_coco(folder, files, labels)
    else:
        there = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
        raise DataError(
            f"{folder}: expected Annotations and JPEGImages (Pascal VOC) or COCO json files; "
            f"found: {there}"
        )
    if not splits[ALL]:
        raise DataError(f"{folder}: no labelled images")
    named = frozenset(splits) - {ALL}
    _hold_out_dev(splits, dev_fraction)
    return Source(folder.name, splits, named, _digest(splits[ALL]))


def _hold_out_dev(splits: dict[str, list[LabelledImage]], fraction: float) -> None:
    """Adds the train and dev splits that a folder does not tell apart itself."""
    if DEV in splits:
        splits.setdefault(TRAIN, [])
        return
    names_nothing = set(splits) == {ALL}
    images = splits[ALL] if names_nothing else splits.get(TRAIN, [])
    held_out = [in_held_out_part(image.path.stem, fraction) for image in images]
    splits[DEV] = [image for image, out in zip(images, held_out, strict=True) if out]
    splits[TRAIN] = [image for image, out in zip(images, held_out, strict=True) if not out]


def _digest(images: Sequence[LabelledImage]) -> str:
    """Returns SHA-256 over names, labels and bytes of the images, in the order of their names."""
    digest = hashlib.sha256()
    for image in sorted(images, key=lambda image: image.path.name):
        digest.update(image.path.name.encode())
        digest.update(image.path.read_bytes())
        digest.update(image.boxes_xyxy.tobytes() + image.class_ids.tobytes())
    return digest.hexdigest()


# Pascal VOC


def _load_voc(folder: Path, labels: Sequence[str]) -> dict[str, list[LabelledImage]]:
    names = [path.stem for path in sorted((folder / "Annotations").glob("*.xml"))]
    by_name = {name: _read_voc_image(folder, name, labels) for name in names}
    splits = {ALL: list(by_name.values())}
    lists = folder / "ImageSets" / "Main"
    for stem, split in SPLIT_ALIASES.items():
        path = lists / f"{stem}.txt"
        if split == ALL or not path.is_file():
            continue
        listed = path.read_text(encoding="utf-8").split("\n")
        wanted = [line.split()[0] for line in listed if line.strip()]
        missing = [name for name in wanted if name not in by_name]
        if missing:
            raise DataError(f"{path}: no annotation for {', '.join(missing[:5])}")
        splits[split] = [by_name[name] for name in wanted]
    return splits


def _read_voc_image(folder: Path, name: str, labels: Sequence[str]) -> LabelledImage:
    annotation = folder / "Annotations" / f"{name}.xml"
    try:
        root = ElementTree.parse(annotation).getroot()
        boxes = [_read_voc_box(element) for element in root.findall("object")]
        stated = tuple(int(root.findtext(f"size/{side}") or 0) for side in ("height", "width"))
    except (ElementTree.ParseError, ValueError, OSError) as error:
        raise DataError(f"{annotation}: cannot be read: {error}") from error
    files = [folder / "JPEGImages" / f"{name}{suffix}" for suffix in IMAGE_SUFFIXES]
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        raise DataError(f"{annotation}: no image {files[0].with_suffix('')}.* beside it")
    return _check(path, annotation, boxes, labels, stated)


def _read_voc_box(element: ElementTree.Element) -> _Box:
    label = element.findtext("name")
    if label is None:
        raise ValueError("an object has no name")
    corners = []
    for corner in ("xmin", "ymin", "xmax", "ymax"):
        text = element.findtext(f"bndbox/{corner}")
        if text is None:
            raise ValueError(f"object {label!r} has no bndbox/{corner}")
        corners.append(float(text))
    x_min, y_min, x_max, y_max = corners
    difficult = (element.findtext("difficult") or "0").strip() == "1"
    return _Box(label.strip(), (x_min, y_min, x_max, y_max), difficult)


# COCO


def _coco_files(folder: Path) -> list[Path]:
    """Lists the folder's json files that hold labelled images."""
    found = [path for pattern in ("*.json", "*/*.json") for path in sorted(folder.glob(pattern))]
    return [path for path in found if '"categories"' in path.read_text(encoding="utf-8")]


def _load_coco(
    folder: Path, files: Sequence[Path], labels: Sequence[str]
) -> dict[str, list[LabelledImage]]:
    splits: dict[str, list[LabelledImage]] = {ALL: []}
    for path in files:
        split = _split_of(path, folder)
        images = _read_coco_file(folder, path, labels)
        splits[ALL] += images
        if split is not None:
            splits.setdefault(split, []).extend(images)
    return splits


def _split_of(path: Path, folder: Path) -> str | None:
    """Finds the split in the name of a json file or of its folder; None where there is none."""
    for text in (path.stem, "" if path.parent == folder else path.parent.name):
        words = re.findall(r"train|valid|val|dev|test", text.lower())
        if words:
            return SPLIT_ALIASES[words[-1]]
    return None


def _read_coco_file(folder: Path, path: Path, labels: Sequence[str]) -> list[LabelledImage]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {int(entry["id"]): str(entry["name"]) for entry in content["categories"]}
        boxes: dict[int, list[_Box]] = {int(entry["id"]): [] for entry in content["images"]}
        for entry in content["annotations"]:
            boxes[int(entry["image_id"])].append(_read_coco_box(entry, names))
        return [
            _check(
                _find_coco_image(folder, path, str(entry["file_name"])),
                path,
                boxes[int(entry["id"])],
                labels,
                (int(entry.get("height", 0)), int(entry.get("width", 0))),
            )
            for entry in content["images"]
        ]
    except KeyError as error:
        raise DataError(f"{path}: no entry {error}") from error
    except (ValueError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read: {error}") from error


def _read_coco_box(entry: Mapping[str, Any], names: Mapping[int, str]) -> _Box:
    x, y, width, height = (float(value) for value in entry["bbox"])
    label = names[int(entry["category_id"])]
    return _Box(label, (x, y, x + width, y + height), bool(entry.get("iscrowd", 0)))


def _find_coco_image(folder: Path, annotation: Path, name: str) -> Path:
    stem = annotation.stem.removeprefix("instances_")
    places = [
        annotation.parent,
        folder,
        folder / "images",
        folder / stem,
        folder / "images" / stem,
    ]
    for place in places:
        if (place / name).is_file():
            return place / name
    tried = ", ".join(str(place) for place in dict.fromkeys(places))
    raise DataError(f"{annotation}: no image {name}; looked in {tried}")


# Checks that both layouts share


def _check(
    path: Path,
    annotation: Path,
    boxes: Sequence[_Box],
    labels: Sequence[str],
    stated: tuple[int, ...],
) -> LabelledImage:
    """Makes a labelled image of what was read, or says what is wrong with it."""
    height, width = image_size(path)
    if all(stated) and stated != (height, width):
        raise DataError(
            f"{annotation}: says {path.name} is {stated[1]}x{stated[0]}, "
            f"but the image is {width}x{height}"
        )
    for box in boxes:
        _check_box(box, annotation, path.name, labels, height, width)
    corners = np.array([box.xyxy for box in boxes], np.float32).reshape(-1, 4)
    return LabelledImage(
        path,
        height,
        width,
        np.clip(corners, 0, np.array([width, height] * 2, np.float32)),
        np.array([labels.index(box.label) for box in boxes], np.int32),
        np.array([box.ignored for box in boxes], bool),
    )


def _check_box(
    box: _Box, annotation: Path, image: str, labels: Sequence[str], height: int, width: int
) -> None:
    if box.label not in labels:
        raise DataError(
            f"{annotation}: unknown class {box.label!r} in {image}; expected {', '.join(labels)}"
        )
    x_min, y_min, x_max, y_max = box.xyxy
    if not np.isfinite(box.xyxy).all() or x_max <= x_min or y_max <= y_min:
        raise DataError(f"{annotation}: a box {box.xyxy} of {image} has no area")
    outside = max(-x_min, -y_min, x_max - width, y_max - height)
    if outside > OUTSIDE_TOLERANCE:
        raise DataError(
            f"{annotation}: box {box.xyxy} lies outside the {width}x{height} image {image}"
        )


def image_size(path: Path) -> tuple[int, int]:
    """Reads an image's height and width from its header, turned upright.

    Raises:
        DataError: if the file is no image; the message names it.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(EXIF_ORIENTATION, 1) >= FIRST_TURNED_ORIENTATION
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image: {error}") from error
    return (width, height) if turned else (height, width)


def read_served_bytes(path: Path) -> bytes:
    """Returns an image file's bytes as a server takes them: JPEG and PNG as is, others as PNG."""
    if path.suffix.lower() in SERVED_SUFFIXES:
        return path.read_bytes()
    return encode_png(read_image(path))
