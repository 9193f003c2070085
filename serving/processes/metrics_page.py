"""One metrics page out of those of several processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

# Series that tell a state, not an amount: of all processes the largest counts.
_STATES = (
    "serving_model_state",
    "serving_drift_psi",
    "serving_feature_mean",
    "serving_class_share",
)
# Of these the smallest.
_STARTS = ("process_start_time_seconds",)


def merge(pages: Sequence[bytes]) -> bytes:
    """Adds up samples of the same name and labels; comments come from the first page with them.

    Args:
        pages: In Prometheus' text format, without timestamps.
    """
    values: dict[str, float] = {}
    lines: dict[str, None] = {}  # comments and series in the order they were first seen
    for page in pages:
        for line in page.decode().splitlines():
            if not line or line.startswith("#"):
                lines.setdefault(line)
                continue
            series, _, text = line.rpartition(" ")
            value = float(text)
            lines.setdefault(series)
            known = values.get(series)
            values[series] = value if known is None else _combine(series)(known, value)
    merged = _grouped(lines, values)
    return ("\n".join(merged) + "\n").encode()


def _combine(series: str) -> Callable[[float, float], float]:
    name = series.partition("{")[0]
    if name in _STATES:
        return max
    return min if name in _STARTS else float.__add__


def _grouped(lines: dict[str, None], values: dict[str, float]) -> list[str]:
    """Puts each series below the comments of its metric, wherever it was first seen."""
    groups: dict[str, list[str]] = {}
    metric = ""
    for line in lines:
        if line.startswith("#"):
            metric = line.split()[2]
            groups.setdefault(metric, []).append(line)
        elif line:
            groups.setdefault(_metric_of(line, groups, metric), []).append(
                f"{line} {_number(values[line])}"
            )
    return [line for group in groups.values() for line in group]


def _metric_of(series: str, groups: dict[str, list[str]], latest: str) -> str:
    name = series.partition("{")[0]
    if name in groups:
        return name
    for suffix in ("_bucket", "_sum", "_count", "_total", "_created"):
        if name.endswith(suffix) and name.removesuffix(suffix) in groups:
            return name.removesuffix(suffix)
    return latest


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)
