"""Counters and histograms that cost a request next to nothing, in TensorFlow Serving's dialect.

A series is looked up once, by its label values, and then counts by itself. That dialect has names
with colons, counters without `_total`, and no HELP lines.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

Labels = tuple[str, ...]
Series = TypeVar("Series")


class CounterSeries:
    """The value of a counter for one set of label values."""

    __slots__ = ("_lock", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self._lock = threading.Lock()

    def add(self, amount: float = 1) -> None:
        """Adds to the value."""
        with self._lock:
            self.value += amount


class HistogramSeries:
    """The buckets of a histogram for one set of label values.

    Args:
        bounds: Upper bounds of the buckets, increasing; one without a bound is added.
    """

    __slots__ = ("_bounds", "_counts", "_lock", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Records a value."""
        with self._lock:
            self._counts[bisect_left(self._bounds, value)] += 1
            self._sum += value

    def observe_all(self, values: Iterable[float]) -> None:
        """Records several values."""
        bounds, counts = self._bounds, self._counts
        with self._lock:
            for value in values:
                counts[bisect_left(bounds, value)] += 1
                self._sum += value

    def read(self) -> tuple[list[tuple[float, int]], float]:
        """Upper bound and cumulative count of each bucket, and the sum of all values."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        cumulative, buckets = 0, []
        for bound, count in zip((*self._bounds, float("inf")), counts, strict=True):
            cumulative += count
            buckets.append((bound, cumulative))
        return buckets, total


class _Family(Generic[Series]):
    """All series of one name."""

    def __init__(self, path: str, labels: Labels) -> None:
        self.name = path.replace("/", ":")
        self.labels = labels
        self._series: dict[Labels, Series] = {}
        self._lock = threading.Lock()

    def items(self) -> list[tuple[Labels, Series]]:
        """Each series with its label values."""
        return list(self._series.items())

    def series(self, *values: str) -> Series:
        """The series with these label values; keep it where it is used often."""
        found = self._series.get(values)
        if found is not None:
            return found
        with self._lock:
            return self._series.setdefault(values, self._new())

    def forget(self, values: Mapping[str, str]) -> None:
        """Removes the series with these label values; those not named may be any."""
        wanted = [(self.labels.index(name), value) for name, value in values.items()]
        with self._lock:
            self._series = {
                own: series
                for own, series in self._series.items()
                if any(own[position] != value for position, value in wanted)
            }

    def _new(self) -> Series:
        raise NotImplementedError


class Counter(_Family[CounterSeries]):
    """A counter.

    Args:
        path: Its name, with slashes for TensorFlow Serving's colons.
        labels: Names of its labels.
    """

    def __init__(self, path: str, *labels: str) -> None:
        super().__init__(path, labels)
        self._forgotten = 0.0

    def add(self, *values: str, amount: float = 1) -> None:
        """Adds to the series with these label values."""
        self.series(*values).add(amount)

    def total(self) -> float:
        """Everything ever added, to series since removed as well."""
        return self._forgotten + sum(series.value for _, series in self.items())

    def forget(self, values: Mapping[str, str]) -> None:
        """See `_Family`."""
        before = sum(series.value for _, series in self.items())
        super().forget(values)
        self._forgotten += before - sum(series.value for _, series in self.items())

    def lines(self) -> Iterator[str]:
        """The exposition text."""
        yield f"# TYPE {self.name} counter"
        for values, series in self.items():
            yield f"{self.name}{_label_text(self.labels, values)} {_number(series.value)}"

    def _new(self) -> CounterSeries:
        return CounterSeries()


class Histogram(_Family[HistogramSeries]):
    """A histogram with fixed upper bounds; `+Inf` is added.

    Args:
        path: Its name, with slashes for TensorFlow Serving's colons.
        bounds: Upper bounds of the buckets, increasing.
        labels: Names of its labels.
    """

    def __init__(self, path: str, bounds: Sequence[float], *labels: str) -> None:
        super().__init__(path, labels)
        self._bounds = bounds

    def observe(self, value: float, *values: str) -> None:
        """Records a value in the series with these label values."""
        self.series(*values).observe(value)

    def lines(self) -> Iterator[str]:
        """The exposition text."""
        yield f"# TYPE {self.name} histogram"
        names = (*self.labels, "le")
        for values, series in self.items():
            buckets, total = series.read()
            for bound, count in buckets:
                text = _label_text(names, (*values, _bound(bound)))
                yield f"{self.name}_bucket{text} {count}"
            yield f"{self.name}_sum{_label_text(self.labels, values)} {_number(total)}"
            yield f"{self.name}_count{_label_text(self.labels, values)} {buckets[-1][1]}"

    def _new(self) -> HistogramSeries:
        return HistogramSeries(self._bounds)


def _label_text(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _bound(value: float) -> str:
    return "+Inf" if value == float("inf") else f"{value:.6g}"
