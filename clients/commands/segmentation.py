"""`segment`: find the class of each pixel of images."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients import drawing, report
from clients.commands.images import (
    PictureFolder,
    add_images,
    add_save,
    in_batches,
    listed_images,
)
from clients.commands.options import OK, add_command, add_model, client_config, client_options
from clients.commands.output import print_json, print_lines
from clients.instances import Instances
from clients.segmentation import SegmentationClient, SegmentationResult

if TYPE_CHECKING:
    from PIL.Image import Image

_EXAMPLES = """\
  python -m clients segment slide.png
  python -m clients segment slides/ --save pictures --instances
"""


def add_commands(commands: Any) -> None:
    """Describes the command and its options."""
    command = add_command(commands, "segment", "find the class of each pixel", _EXAMPLES)
    add_images(command)
    add_save(command, "masks and the images with masks over them")
    command.add_argument(
        "--instances", action="store_true", help="tell the single objects of each class apart"
    )
    add_model(command, SegmentationClient.spec, "images")
    command.set_defaults(run=run_segment)


def run_segment(arguments: argparse.Namespace) -> int:
    """Segments the given images; prints the share of each class and saves the masks."""
    files = listed_images(arguments.images)
    pictures = PictureFolder(arguments.save)
    with SegmentationClient(client_config(arguments), **client_options(arguments)) as client:
        for batch in in_batches(files, arguments.batch_size):
            for file, result in zip(batch, client.segment(batch), strict=True):
                instances = _instances(result) if arguments.instances else {}
                saved = _save(pictures, file, result, instances)
                counts = {name: found.count for name, found in instances.items()}
                if arguments.json:
                    print_json([_document(result, counts, saved)])
                else:
                    lines = report.segmentation_lines(result, counts)
                    print_lines([*lines, *report.saved_lines(saved)])
    return OK


def _instances(result: SegmentationResult) -> dict[str, Instances]:
    """Returns the objects of each class but the background."""
    return {name: result.instances(name) for name in result.class_names[1:]}


def _save(
    pictures: PictureFolder,
    file: Path,
    result: SegmentationResult,
    instances: dict[str, Instances],
) -> list[str]:
    saved = pictures.save(result.source, "mask", partial(_mask_picture, result))
    overlay = partial(drawing.draw_mask, file, result)
    saved += pictures.save(result.source, "overlay", overlay)
    for name, found in instances.items():
        outlines = partial(drawing.draw_instances, file, found.labels)
        saved += pictures.save(result.source, f"{name}-instances", outlines)
    return saved


def _mask_picture(result: SegmentationResult) -> "Image":
    from PIL import Image

    return Image.fromarray(result.mask)


def _document(
    result: SegmentationResult, counts: dict[str, int], saved: list[str]
) -> dict[str, Any]:
    """Returns what is printed as JSON; the mask itself is in the saved file."""
    return {
        "source": result.source,
        "width": result.width,
        "height": result.height,
        "shares": result.shares,
        "instances": counts,
        "model": result.model,
        "version": result.version,
        "saved": saved,
    }
