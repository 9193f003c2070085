"""Answers as aligned lines of text for people."""

from collections.abc import Container, Iterable, Sequence

from clients.calls import ModelMetadata, VersionStatus
from clients.sentiment import SentimentResult
from protocol.contracts import TensorSpec

_TEXT_WIDTH = 100


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
