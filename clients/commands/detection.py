"""`detect`: find objects in images."""

import argparse
import dataclasses
from functools import partial
from typing import Any

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
from clients.detection import DetectionClient

_EXAMPLES = """\
  python -m clients detect photo.jpg
  python -m clients detect photos/ --save pictures --score-threshold 0.5
  python -m clients detect --json photos/ > detections.jsonl
"""


def add_commands(commands: Any) -> None:
    """Describes the command and its options."""
    command = add_command(commands, "detect", "find objects in images", _EXAMPLES)
    add_images(command)
    add_save(command, "the images with boxes and labels")
    command.add_argument(
        "--score-threshold",
        type=float,
        metavar="SCORE",
        help="leave out boxes below this score, 0 to 1 (default: the model's)",
    )
    command.add_argument(
        "--iou-threshold",
        type=float,
        metavar="IOU",
        help="of two boxes that overlap by more keep one, 0 to 1 (default: the model's)",
    )
    add_model(command, DetectionClient.spec, "images")
    command.set_defaults(run=run_detect)


def run_detect(arguments: argparse.Namespace) -> int:
    """Finds the objects in the given images; prints and draws them."""
    files = listed_images(arguments.images)
    pictures = PictureFolder(arguments.save)
    with DetectionClient(client_config(arguments), **client_options(arguments)) as client:
        for batch in in_batches(files, arguments.batch_size):
            results = client.detect(
                batch,
                score_threshold=arguments.score_threshold,
                iou_threshold=arguments.iou_threshold,
            )
            for file, result in zip(batch, results, strict=True):
                draw = partial(drawing.draw_detections, file, result)
                saved = pictures.save(result.source, "boxes", draw)
                if arguments.json:
                    print_json([{**dataclasses.asdict(result), "saved": saved}])
                else:
                    print_lines([*report.detection_lines(result), *report.saved_lines(saved)])
    return OK
