"""Answers as aligned lines of text for people."""

from collections.abc import Container, Iterable, Mapping, Sequence

from clients.calls import ModelMetadata, VersionStatus
from clients.detection import DetectionResult
from clients.embeddings import FaceEmbedding, Identification, Verification
from clients.gallery import Binding, Person
from clients.segmentation import SegmentationResult
from clients.sentiment import SentimentResult
from clients.translation import AttentionResult, TranslationResult
from protocol.contracts import TensorSpec
from protocol.subwords import WORD_START

_TEXT_WIDTH = 100
_NUMBERS_SHOWN = 4
_SOURCES_SHOWN, _LEAST_SHARE = 3, 0.1
_SHOWN_SPACE = "\N{OPEN BOX}"


def table(rows: Iterable[Sequence[str]], align_right: Container[int] = ()) -> list[str]:
    """Returns rows of cells as lines with aligned columns.

    Args:
        rows: Cells as text; all rows have the same number.
        align_right: Columns (from 0) whose cells end at the same place, such as numbers.
    """
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = [">" if column in align_right else "<" for column in range(len(widths))]
    columns = list(zip(sides, widths, strict=True))
    return [
        "  ".join(
            f"{cell:{side}{width}}" for cell, (side, width) in zip(row, columns, strict=True)
        ).rstrip()
        for row in rows
    ]


def shortened(text: str, width: int = _TEXT_WIDTH) -> str:
    """Returns `text` on one line of at most `width` characters."""
    line = " ".join(text[: 4 * width].split())
    return line if len(line) <= width and len(text) <= 4 * width else line[: width - 3] + "..."


def sentiment_lines(results: Iterable[SentimentResult]) -> list[str]:
    """Returns one line a text: label, probability, the text, and whether it was cut."""
    return table(
        (
            f"{result.label:<8}",
            f"{result.probability:6.1%}",
            shortened(result.text) + (" [truncated]" if result.truncated else ""),
        )
        for result in results
    )


def translation_line(result: TranslationResult | AttentionResult) -> str:
    """Returns the translation, and whether its text was cut."""
    return result.translation + (" [truncated]" if result.truncated else "")


def alternative_lines(result: TranslationResult) -> list[str]:
    """Returns the translation, and one line an alternative: score and text."""
    rows = ((f"  {found.score:.3f}", found.translation) for found in result.alternatives)
    return [translation_line(result), *table(rows, align_right=[0])]


def attention_lines(result: AttentionResult) -> list[str]:
    """Returns the translation, and one line a token of it: where the model looked most."""
    rows = (
        (f"  {shown_token(token)}", _looked_at(result.source_tokens, weights))
        for token, weights in zip(result.target_tokens, result.attention.tolist(), strict=True)
    )
    return [translation_line(result), *table(rows)]


def shown_token(token: str) -> str:
    """Returns a token with a visible space in place of the mark that begins a word."""
    return token.replace(WORD_START, _SHOWN_SPACE)


def _looked_at(tokens: Sequence[str], weights: Sequence[float]) -> str:
    """Returns the tokens with the largest shares, and these; the first one in any case."""
    pairs = sorted(zip(weights, tokens, strict=True), key=lambda pair: -pair[0])[:_SOURCES_SHOWN]
    return ", ".join(
        f"{shown_token(token)} {weight:.2f}"
        for place, (weight, token) in enumerate(pairs)
        if place == 0 or weight >= _LEAST_SHARE
    )


def detection_lines(result: DetectionResult) -> list[str]:
    """Returns a heading with the number of objects by label, and one line an object."""
    counts = ", ".join(f"{count} {label}" for label, count in result.counts.items())
    rows = (
        (f"  {found.label}", f"{found.score:.3f}", *(f"{edge:.1f}" for edge in found.box_xyxy))
        for found in result.detections
    )
    heading = f"{result.source}: {counts or 'nothing found'}"
    return [heading, *table(rows, align_right=range(1, 6))]


def segmentation_lines(result: SegmentationResult, counts: Mapping[str, int]) -> list[str]:
    """Returns a heading with the size, and one line a class: share, and number of objects.

    Args:
        result: The classes of one image.
        counts: Number of objects of some classes.
    """
    rows = [
        (f"  {name}", f"{share:6.1%}", f"{counts[name]} objects" if name in counts else "")
        for name, share in result.shares.items()
    ]
    heading = f"{result.source}: {result.width} x {result.height} pixels"
    return [heading, *table(rows, align_right=[1])]


def embedding_lines(embeddings: Iterable[FaceEmbedding]) -> list[str]:
    """Returns one line a face with the first numbers of its vector."""
    return table(
        (
            found.source,
            found.origin,
            " ".join(f"{number:+.3f}" for number in found.vector[:_NUMBERS_SHOWN]) + " ...",
        )
        for found in embeddings
    )


def verification_line(answer: Verification) -> str:
    """Returns the verdict with distance and threshold."""
    verdict = "same person" if answer.same else "different people"
    return f"{verdict}: distance {answer.distance:.3f}, {limit_text(answer)}"


def identification_lines(found: Identification) -> list[str]:
    """Returns the name, and one line for each of the nearest people."""
    rows = [(f"  {entry.name}", f"{entry.distance:.3f}") for entry in found.candidates]
    return [
        f"{found.source}: {found.name or 'unknown'} ({limit_text(found)})",
        *table(rows, align_right=[1]),
    ]


def limit_text(answer: Verification | Identification) -> str:
    """Returns the threshold of an answer and the rate of false accepts it stands for."""
    rate = "" if answer.far is None else f" (false accepts {answer.far:.1%})"
    return f"threshold {answer.threshold:.3f}{rate}"


def gallery_lines(people: Iterable[Person], binding: Binding | None) -> list[str]:
    """Returns whose embeddings they are, a heading, and one line an example."""
    if binding is None:
        return ["the gallery is empty"]
    rows = [
        (person.name, str(example.id), example.enrolled, person.consent, example.source)
        for person in people
        for example in person.examples
    ]
    heading = f"embeddings of model {binding.model}, version {binding.version}"
    return [heading, *table([("NAME", "ID", "ENROLLED", "CONSENT", "SOURCE"), *rows])]


def saved_lines(saved: Iterable[str]) -> list[str]:
    """Returns one line a saved picture."""
    return [f"  saved {path}" for path in saved]


def status_lines(versions: Iterable[VersionStatus]) -> list[str]:
    """Returns a heading and one line a version."""
    rows = ((str(found.version), found.state, found.error) for found in versions)
    return table([("VERSION", "STATE", "ERROR"), *rows])


def metadata_lines(metadata: ModelMetadata) -> list[str]:
    """Returns the signatures with the name, dtype and shape of each input and output."""
    rows = [
        (signature.name, direction, *_tensor_cells(spec))
        for signature in metadata.signatures.values()
        for direction, specs in (("input", signature.inputs), ("output", signature.outputs))
        for spec in specs
    ]
    heading = f"model {metadata.model}, version {metadata.version}"
    return [heading, *table([("SIGNATURE", "", "NAME", "TENSOR", ""), *rows])]


def _tensor_cells(spec: TensorSpec) -> tuple[str, str, str]:
    return spec.name, str(spec), "optional" if spec.optional else ""
