"""What was measured, as medians, as a table for people and as one for documentation."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from clients.report import table

HEADING = ("", "at once", "requests/s", "of raw", "p50 ms", "p99 ms", "CPU µs", "client µs", "MB")
START, END = "<!-- figures: `make bench-serving` writes what follows -->", "<!-- end of figures -->"


@dataclass(frozen=True)
class Figures:
    """One case in one round, or the medians of several.

    Attributes:
        per_second: requests (raw: rows) answered per second.
        p50_ms: median latency of a request (raw: of a batch).
        p99_ms: its 99th percentile.
        cpu_us: processor time of the server's processes (raw: the engine's) per request.
        client_cpu_us: processor time of the client per request; 0 if there is none.
        memory_mb: largest resident memory so far, all processes of the server together.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    client_cpu_us: float
    memory_mb: float


@dataclass
class Findings:
    """All about one model.

    Attributes:
        title: of the model.
        rounds: the figures of every round, by contender and then by requests at once.
        failures: why a contender has no figures, or no more.
    """

    title: str
    rounds: dict[str, dict[int, list[Figures]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    failures: dict[str, str] = field(default_factory=dict)

    def medians(self) -> dict[str, dict[int, Figures]]:
        """Returns the median of each figure over the rounds."""
        return {
            name: {size: median(rounds) for size, rounds in sizes.items()}
            for name, sizes in self.rounds.items()
        }


def median(rounds: Sequence[Figures]) -> Figures:
    """Takes the median of each figure."""
    names = [each.name for each in fields(Figures)]
    return Figures(
        **{name: statistics.median(getattr(one, name) for one in rounds) for name in names}
    )


def rows(findings: Findings) -> list[tuple[str, ...]]:
    """Returns a heading, and one row for each contender and number of requests at once.

    The first contender is the raw limit: each row is compared with its largest batch that is not
    larger than the requests at once.
    """
    medians = findings.medians()
    limits = next(iter(medians.values()))
    found = [HEADING]
    for name, sizes in medians.items():
        for size, figures in sorted(sizes.items()):
            limit = limits[max(batch for batch in limits if batch <= size)]
            found.append(_row(name, size, figures, limit))
    return found


def text_lines(findings: Findings) -> list[str]:
    """Returns the title and the table as aligned text."""
    lines = table(rows(findings), align_right=range(1, len(HEADING)))
    return [findings.title, *lines, *_failures(findings), ""]


def markdown_lines(findings: Findings) -> list[str]:
    """Returns the title and the table in Markdown; a contender's name stands in its first row."""
    heading, *body = rows(findings)
    lines = [f"### {findings.title}", "", _markdown_row(heading), "|---|" + "---:|" * 8]
    above = ""
    for name, *cells in body:
        lines.append(_markdown_row(("" if name == above else name, *cells)))
        above = name
    return [*lines, "", *(f"{failure}\n" for failure in _failures(findings))]


def around_figures(document: Path) -> tuple[str, str]:
    """Returns what stands before and after the figures of a document.

    Raises:
        SystemExit: there is no such document, or it lacks the marks between which they stand.
    """
    text = document.read_text(encoding="utf-8") if document.is_file() else ""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise SystemExit(f"error: {document} must have the lines {START!r} and {END!r}")
    return before, after


def write_markdown(document: Path, heading: str, all_findings: Sequence[Findings]) -> None:
    """Replaces the figures of a document.

    Raises:
        SystemExit: the document has no place for them.
    """
    before, after = around_figures(document)
    lines = [line for findings in all_findings for line in markdown_lines(findings)]
    body = "\n".join([START, "", heading, "", *lines, END])
    document.write_text(before + body + after, encoding="utf-8")


def _failures(findings: Findings) -> list[str]:
    return [f"{name}: {reason}" for name, reason in findings.failures.items()]


def _row(name: str, size: int, figures: Figures, limit: Figures) -> tuple[str, ...]:
    return (
        name,
        str(size),
        _rounded(figures.per_second),
        f"{figures.per_second / limit.per_second:.2f}",
        _rounded(figures.p50_ms),
        _rounded(figures.p99_ms),
        _rounded(figures.cpu_us),
        _rounded(figures.client_cpu_us) if figures.client_cpu_us else "-",
        f"{figures.memory_mb:,.0f}",
    )


def _rounded(value: float) -> str:
    """Keeps about three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
