"""`face`: embed and compare faces; keep a gallery of known people and name who is on a photo."""

import argparse
import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from clients import drawing, report
from clients.commands.images import (
    PictureFolder,
    add_images,
    add_save,
    in_batches,
    listed_images,
)
from clients.commands.options import (
    OK,
    UsageError,
    add_command,
    add_model,
    client_config,
    client_options,
    positive_int,
)
from clients.commands.output import print_json, print_lines
from clients.embeddings import FALSE_ACCEPT_RATES, FaceEmbedding, Identification
from clients.face import EnrolledPhotos, FaceClient
from clients.gallery import IDENTIFY_FAR, TOP, Gallery

_EXAMPLES = """\
  python -m clients face verify one.jpg other.jpg --save pictures
  python -m clients face enrol Ada ada_1.jpg ada_2.jpg --gallery people.gallery --consent "form 17"
  python -m clients face enrol --people photos/ --gallery people.gallery
  python -m clients face identify visitor.jpg --gallery people.gallery
  python -m clients face remove Ada --gallery people.gallery

Embeddings are biometric data: enrol people who have agreed to it. `remove` deletes a person from
the file for good; backups of the file are yours to look after.
"""


def add_commands(commands: Any) -> None:
    """Describes the commands and their options."""
    what = "compare faces, and name people of a gallery"
    face = commands.add_parser(
        "face",
        help=what,
        description=f"{what.capitalize()}.",
        epilog=f"examples:\n{_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = face.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_embed(actions)
    _add_verify(actions)
    _add_identify(actions)
    _add_enrol(actions)
    _add_list(actions)
    _add_remove(actions)


def run_embed(arguments: argparse.Namespace) -> int:
    """Prints the vectors of faces."""
    files = listed_images(arguments.images)
    with _client(arguments) as client:
        for batch in in_batches(files, arguments.batch_size):
            embeddings = client.embed(batch)
            if arguments.json:
                print_json(map(_embedding_document, embeddings))
            else:
                print_lines(report.embedding_lines(embeddings))
    return OK


def run_verify(arguments: argparse.Namespace) -> int:
    """Says whether two images, or an image and a person of a gallery, are the same person."""
    if (arguments.person is None) == (arguments.second is None):
        raise UsageError("verify: expected either two images, or one and --person NAME")
    pictures = PictureFolder(arguments.save)
    first, second = _image(arguments.first), arguments.second
    limits = {"far": arguments.far, "threshold": arguments.threshold}
    with _client(arguments) as client:
        if second is not None:
            answer = client.verify(first, _image(second), **limits)
        else:
            with _known_gallery(arguments) as gallery:
                answer = gallery.verify(arguments.person, client.embed_one(first), **limits)
                second = _photos(gallery).get(arguments.person)
    draw = partial(drawing.draw_verification, first, second, answer)
    saved = [] if second is None else pictures.save(str(first), "verify", draw)
    if arguments.json:
        print_json([{**dataclasses.asdict(answer), "saved": saved}])
    else:
        print_lines([report.verification_line(answer), *report.saved_lines(saved)])
    return OK


def run_identify(arguments: argparse.Namespace) -> int:
    """Names the people on images."""
    files = listed_images(arguments.images)
    pictures = PictureFolder(arguments.save)
    with _client(arguments) as client, _known_gallery(arguments) as gallery:
        photos = _photos(gallery)
        for batch in in_batches(files, arguments.batch_size):
            for file, embedding in zip(batch, client.embed(batch), strict=True):
                found = gallery.identify(
                    embedding,
                    far=arguments.far,
                    threshold=arguments.threshold,
                    top=arguments.top,
                )
                draw = partial(drawing.draw_identification, file, found, photos)
                _print_identification(
                    arguments, found, pictures.save(found.source, "identify", draw)
                )
    return OK


def run_enrol(arguments: argparse.Namespace) -> int:
    """Adds a person, or a folder of people, to a gallery."""
    if (arguments.people is None) == (not arguments.name or not arguments.images):
        raise UsageError("enrol: expected either NAME and images, or --people DIR")
    with _client(arguments) as client, Gallery(arguments.gallery) as gallery:
        if arguments.people is not None:
            added = client.enrol_folder(gallery, arguments.people, consent=arguments.consent)
            for photos in added:
                _print_enrolled(arguments, photos)
            return OK
        files = listed_images(arguments.images)
        ids = client.enrol(gallery, arguments.name, files, consent=arguments.consent)
    _print_enrolled(arguments, EnrolledPhotos(arguments.name, tuple(map(str, files)), ids))
    return OK


def run_list(arguments: argparse.Namespace) -> int:
    """Prints the people of a gallery and their examples."""
    with _known_gallery(arguments) as gallery:
        people, binding = gallery.people(), gallery.binding
    if arguments.json:
        print_json(dataclasses.asdict(person) for person in people)
    else:
        print_lines(report.gallery_lines(people, binding))
    return OK


def run_remove(arguments: argparse.Namespace) -> int:
    """Deletes people, or single examples, from a gallery."""
    if not arguments.names and not arguments.example:
        raise UsageError("remove: expected names, or --example ID")
    with _known_gallery(arguments) as gallery:
        for name in arguments.names:
            count = gallery.remove(name)
            _print_removed(arguments, {"removed": name, "examples": count})
        for example in arguments.example:
            gallery.remove_example(example)
            _print_removed(arguments, {"removed": example, "examples": 1})
    return OK


def _add_embed(actions: Any) -> None:
    embed = add_command(actions, "embed", "turn images of faces into vectors")
    add_images(embed)
    add_model(embed, FaceClient.spec, "images")
    embed.set_defaults(run=run_embed)


def _add_verify(actions: Any) -> None:
    verify = add_command(actions, "verify", "say whether two faces are the same person's")
    verify.add_argument("first", type=Path, metavar="IMAGE", help="one image")
    verify.add_argument("second", nargs="?", type=Path, metavar="IMAGE", help="the other")
    verify.add_argument("--person", metavar="NAME", help="compare with this person of the gallery")
    _add_gallery(verify, required=False)
    _add_limits(verify, FALSE_ACCEPT_RATES[0])
    add_save(verify, "both faces with the verdict")
    add_model(verify, FaceClient.spec, "images")
    verify.set_defaults(run=run_verify)


def _add_identify(actions: Any) -> None:
    identify = add_command(actions, "identify", "say who of a gallery an image shows")
    add_images(identify)
    _add_gallery(identify)
    _add_limits(identify, IDENTIFY_FAR)
    identify.add_argument(
        "--top",
        type=positive_int,
        default=TOP,
        metavar="N",
        help="number of nearest people to show (default: %(default)s)",
    )
    add_save(identify, "each face beside its nearest people")
    add_model(identify, FaceClient.spec, "images")
    identify.set_defaults(run=run_identify)


def _add_enrol(actions: Any) -> None:
    enrol = add_command(actions, "enrol", "add people who have agreed to it to a gallery")
    enrol.add_argument("name", nargs="?", metavar="NAME", help="the person")
    enrol.add_argument(
        "images", nargs="*", type=Path, metavar="IMAGE", help="photos, or a folder of photos"
    )
    enrol.add_argument(
        "--people", type=Path, metavar="DIR", help="a folder with one folder of photos a person"
    )
    enrol.add_argument(
        "--consent", default="", metavar="TEXT", help="where the consent is recorded"
    )
    _add_gallery(enrol)
    add_model(enrol, FaceClient.spec, "images")
    enrol.set_defaults(run=run_enrol)


def _add_list(actions: Any) -> None:
    listing = add_command(actions, "list", "list the people of a gallery")
    _add_gallery(listing)
    listing.set_defaults(run=run_list)


def _add_remove(actions: Any) -> None:
    remove = add_command(actions, "remove", "delete people or examples from a gallery for good")
    remove.add_argument("names", nargs="*", metavar="NAME", help="people to delete")
    remove.add_argument(
        "--example",
        type=int,
        action="append",
        default=[],
        metavar="ID",
        help="delete one example, as `list` numbers them; may be repeated",
    )
    _add_gallery(remove)
    remove.set_defaults(run=run_remove)


def _add_gallery(command: argparse.ArgumentParser, required: bool = True) -> None:
    command.add_argument(
        "--gallery", type=Path, required=required, metavar="FILE", help="the gallery's file"
    )


def _add_limits(command: argparse.ArgumentParser, far: float) -> None:
    command.add_argument(
        "--far",
        type=float,
        choices=FALSE_ACCEPT_RATES,
        default=far,
        help="rate at which different people may be taken for the same (default: %(default)s)",
    )
    command.add_argument(
        "--threshold",
        type=float,
        metavar="DISTANCE",
        help="largest squared distance of the same person, 0 to 4, instead of --far",
    )


def _client(arguments: argparse.Namespace) -> FaceClient:
    return FaceClient(client_config(arguments), **client_options(arguments))


def _image(path: Path) -> Path:
    """Returns the path of one image file that must be there."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    return path


def _known_gallery(arguments: argparse.Namespace) -> Gallery:
    """Opens a gallery that must be there."""
    if arguments.gallery is None:
        raise UsageError("--person needs --gallery FILE")
    if not arguments.gallery.is_file():
        raise UsageError(f"there is no gallery {arguments.gallery}; `face enrol` makes one")
    return Gallery(arguments.gallery)


def _photos(gallery: Gallery) -> Mapping[str, Path]:
    """Returns the first photo of each person that is still where it was enrolled from."""
    photos: dict[str, Path] = {}
    for person in gallery.people():
        for example in person.examples:
            if person.name not in photos and Path(example.source).is_file():
                photos[person.name] = Path(example.source)
    return photos


def _embedding_document(embedding: FaceEmbedding) -> dict[str, Any]:
    return {
        "source": embedding.source,
        "embedding": embedding.vector.tolist(),
        "model": embedding.model,
        "version": embedding.version,
        "thresholds": {f"{rate:g}": limit for rate, limit in embedding.thresholds.items()},
    }


def _print_identification(
    arguments: argparse.Namespace, found: Identification, saved: list[str]
) -> None:
    if arguments.json:
        print_json([{**dataclasses.asdict(found), "saved": saved}])
    else:
        print_lines([*report.identification_lines(found), *report.saved_lines(saved)])


def _print_enrolled(arguments: argparse.Namespace, photos: EnrolledPhotos) -> None:
    if arguments.json:
        print_json([dataclasses.asdict(photos)])
    else:
        print_lines([f"{photos.name}: {len(photos.ids)} photos enrolled"])


def _print_removed(arguments: argparse.Namespace, document: dict[str, Any]) -> None:
    if arguments.json:
        print_json([document])
    else:
        print_lines([f"{document['removed']}: {document['examples']} examples deleted"])
