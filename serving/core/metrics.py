"""What the server counts: TensorFlow Serving's series, and our own beside them.

The page has two parts. The first speaks TensorFlow Serving's dialect (names with colons, counters
without `_total`, no HELP lines), so that dashboards made for it keep working. The second is the
usual Prometheus registry, labelled by model, version, signature and status code. Label values come
only from what is served: the name of an unknown model is counted as `unknown`.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from serving.core.servable import ServableId, ServableState

UNKNOWN_MODEL = "unknown"

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LATENCY_BUCKETS_US = tuple(10 * 1.8**i for i in range(33))
_QUEUE_BUCKETS_US = tuple(100 * 1.2**i for i in range(52))
_BATCH_BUCKETS = tuple(float(2**i) for i in range(14))
_EXAMPLE_BUCKETS = tuple(float(2**i) for i in range(15))
_SECONDS_BUCKETS = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
)  # fmt: skip

Labels = tuple[str, ...]
Recorder = Callable[[float], None]
Value = TypeVar("Value")


class TfCounter:
    """A counter with TensorFlow Serving's name rule: `/tensorflow/x` is `:tensorflow:x`."""

    def __init__(self, path: str, *labels: str) -> None:
        self.name = path.replace("/", ":")
        self.labels = labels
        self._values: dict[Labels, float] = {}
        self._total = 0.0
        self._lock = threading.Lock()

    def add(self, *values: str, amount: float = 1) -> None:
        """Adds to the series with these label values."""
        with self._lock:
            self._values[values] = self._values.get(values, 0) + amount
            self._total += amount

    def total(self) -> float:
        """Everything ever added, to series since removed as well."""
        return self._total

    def forget(self, label: str, value: str) -> None:
        """Removes the series where `label` has this value."""
        with self._lock:
            self._values = _without(self._values, self.labels, label, value)

    def lines(self) -> Iterator[str]:
        """The exposition text."""
        yield f"# TYPE {self.name} counter"
        for values, value in list(self._values.items()):
            yield f"{self.name}{_label_text(self.labels, values)} {_number(value)}"


class TfHistogram:
    """A histogram with fixed upper bounds; `+Inf` is added."""

    def __init__(self, path: str, bounds: Sequence[float], *labels: str) -> None:
        self.name = path.replace("/", ":")
        self.labels = labels
        self._bounds = bounds
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        self._lock = threading.Lock()

    def observe(self, value: float, *values: str) -> None:
        """Records a value in the series with these label values."""
        bucket = bisect_left(self._bounds, value)
        with self._lock:
            counts = self._counts.get(values)
            if counts is None:
                counts = self._counts[values] = [0] * (len(self._bounds) + 1)
                self._sums[values] = 0.0
            counts[bucket] += 1
            self._sums[values] += value

    def forget(self, label: str, value: str) -> None:
        """Removes the series where `label` has this value."""
        with self._lock:
            self._counts = _without(self._counts, self.labels, label, value)
            self._sums = _without(self._sums, self.labels, label, value)

    def lines(self) -> Iterator[str]:
        """The exposition text."""
        yield f"# TYPE {self.name} histogram"
        with self._lock:
            series = [(values, list(c), self._sums[values]) for values, c in self._counts.items()]
        names = (*self.labels, "le")
        for values, counts, total in series:
            cumulative = 0
            for bound, count in zip((*self._bounds, float("inf")), counts, strict=True):
                cumulative += count
                text = _label_text(names, (*values, _bound(bound)))
                yield f"{self.name}_bucket{text} {cumulative}"
            yield f"{self.name}_sum{_label_text(self.labels, values)} {_number(total)}"
            yield f"{self.name}_count{_label_text(self.labels, values)} {cumulative}"


class TfMetrics:
    """The series that TensorFlow Serving exposes and that have a meaning here."""

    def __init__(self) -> None:
        serving, batching = "/tensorflow/serving", "/tensorflow/serving/batching_session"
        saved_model = "/tensorflow/cc/saved_model"
        self.request_count = TfCounter(f"{serving}/request_count", "model_name", "status")
        self.request_latency = TfHistogram(
            f"{serving}/request_latency", _LATENCY_BUCKETS_US, "model_name", "API", "entrypoint"
        )
        self.runtime_latency = TfHistogram(
            f"{serving}/runtime_latency", _LATENCY_BUCKETS_US, "model_name", "API", "runtime"
        )
        self.request_example_counts = TfHistogram(
            f"{serving}/request_example_counts", _EXAMPLE_BUCKETS, "model"
        )
        self.request_example_count_total = TfCounter(
            f"{serving}/request_example_count_total", "model"
        )
        self.warmup_latency = TfHistogram(
            f"{serving}/model_warmup_latency", _LATENCY_BUCKETS_US, "model_path", "status"
        )
        self.warmup_records = TfCounter(
            f"{serving}/model_warmup_records_read", "model_path", "status"
        )
        self.queuing_latency = TfHistogram(
            f"{batching}/queuing_latency", _QUEUE_BUCKETS_US, "thread_pool_name"
        )
        self.wrapped_run_count = TfCounter(f"{batching}/wrapped_run_count")
        self.padding_size = TfHistogram(
            f"{batching}/padding_size", _BATCH_BUCKETS, "execution_batch_size"
        )
        self.input_batch_size = TfHistogram(f"{batching}/input_batch_size", _BATCH_BUCKETS)
        self.processed_batch_size = TfHistogram(f"{batching}/processed_batch_size", _BATCH_BUCKETS)
        self.load_attempt_count = TfCounter(
            f"{saved_model}/load_attempt_count", "model_path", "status"
        )
        self.load_latency = TfCounter(f"{saved_model}/load_latency", "model_path")

    def series(self) -> list[TfCounter | TfHistogram]:
        """All of them, in order of exposition."""
        return list(vars(self).values())

    def counter_total(self, path: str) -> int | None:
        """The total of the counter with this path; None if there is no such counter."""
        name = path.replace("/", ":")
        for series in self.series():
            if isinstance(series, TfCounter) and series.name == name:
                return int(series.total())
        return None

    def lines(self) -> Iterator[str]:
        """The exposition text."""
        for series in self.series():
            yield from series.lines()


class QueueMetrics:
    """Observes one batch queue for one signature of one version.

    Args:
        metrics: Where everything is counted.
        servable_id: The version.
        signature: The signature.
        runtime: The engine's name.
        api: The call's name.
        batched: Whether its runs count among TensorFlow Serving's batching sessions.
    """

    def __init__(
        self,
        metrics: ServerMetrics,
        servable_id: ServableId,
        signature: str,
        runtime: str,
        api: str = "Predict",
        *,
        batched: bool = True,
    ) -> None:
        labels = (servable_id.name, str(servable_id.version), signature)
        self._tf = metrics.tf
        self._model = servable_id.name
        self._runtime = runtime
        self._api = api
        self._pool = metrics.thread_pool_name if batched else ""
        self._rows = metrics.batch_rows.labels(*labels)
        self._waits = metrics.queue_seconds.labels(*labels)
        self._depth = metrics.queue_depth.labels(*labels)
        self._waiting = 0

    def queued(self, tasks: int) -> None:
        """See `BatchObserver`."""
        # The queues of several APIs share a gauge.
        self._depth.inc(tasks - self._waiting)
        self._waiting = tasks

    def started(
        self, rows: int, filled_up: int, requests: Sequence[int], waits_s: Sequence[float]
    ) -> None:
        """See `BatchObserver`."""
        self._rows.observe(rows)
        for seconds in waits_s:
            self._waits.observe(seconds)
        if self._pool:
            self._batched(rows, filled_up, requests, waits_s)

    def _batched(
        self, rows: int, filled_up: int, requests: Sequence[int], waits_s: Sequence[float]
    ) -> None:
        self._tf.wrapped_run_count.add()
        self._tf.padding_size.observe(filled_up - rows, str(filled_up))
        self._tf.processed_batch_size.observe(filled_up)
        for size in requests:
            self._tf.input_batch_size.observe(size)
        for seconds in waits_s:
            self._tf.queuing_latency.observe(seconds * 1e6, self._pool)

    def finished(self, seconds: float) -> None:
        """See `BatchObserver`."""
        self._tf.runtime_latency.observe(seconds * 1e6, self._model, self._api, self._runtime)


class ServerMetrics:
    """All metrics of one server.

    Args:
        thread_pool_name: Label of the batching series; empty where batching is off.
    """

    def __init__(self, thread_pool_name: str = "") -> None:
        self.tf = TfMetrics()
        self.thread_pool_name = thread_pool_name
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        version = ("model", "version")
        request = (*version, "signature", "code")
        queue = (*version, "signature")
        self.requests = Counter(
            "serving_requests", "Requests answered.", request, registry=self.registry
        )
        self.request_seconds = Histogram(
            "serving_request_seconds",
            "Time from a request's arrival to its answer.",
            request,
            buckets=_SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.batch_rows = Histogram(
            "serving_batch_rows",
            "Rows of each run of a model.",
            queue,
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )
        self.queue_seconds = Histogram(
            "serving_queue_seconds",
            "Time that requests wait for a worker thread.",
            queue,
            buckets=_SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "serving_queue_depth", "Requests that wait now.", queue, registry=self.registry
        )
        self.in_flight = Gauge(
            "serving_in_flight_requests", "Requests being answered now.", registry=self.registry
        )
        self.model_state = Gauge(
            "serving_model_state",
            "Life cycle of a version: 10 start, 20 loading, 30 available, 40 unloading.",
            version,
            registry=self.registry,
        )
        self._recorders: dict[Labels, Recorder] = {}

    def answered(self, servable_id: ServableId | None, signature: str, code: str) -> Recorder:
        """The recorder of requests that end this way; None stands for an unknown model."""
        model = servable_id.name if servable_id is not None else UNKNOWN_MODEL
        version = str(servable_id.version) if servable_id is not None else ""
        labels = (model, version, signature, code)
        recorder = self._recorders.get(labels)
        if recorder is None:
            recorder = self._recorders[labels] = self._recorder(labels)
        return recorder

    def state_changed(self, servable_id: ServableId, state: ServableState) -> None:
        """Shows a version's state, and forgets every series of a version that has ended."""
        labels = (servable_id.name, str(servable_id.version))
        if state is ServableState.END:
            self._forget(labels)
        else:
            self.model_state.labels(*labels).set(state)

    def forget_path(self, model_path: str) -> None:
        """Removes the series of a version folder."""
        for series in self.tf.series():
            if "model_path" in series.labels:
                series.forget("model_path", model_path)

    def forget_model(self, name: str) -> None:
        """Removes the series of a model that is no longer served."""
        for series in self.tf.series():
            for label in {"model", "model_name"}.intersection(series.labels):
                series.forget(label, name)

    def render(self) -> bytes:
        """The page for the scraper."""
        tf_part = "".join(f"{line}\n" for line in self.tf.lines())
        return tf_part.encode() + generate_latest(self.registry)

    def _recorder(self, labels: Labels) -> Recorder:
        count = self.requests.labels(*labels)
        histogram = self.request_seconds.labels(*labels)

        def record(seconds: float) -> None:
            count.inc()
            histogram.observe(seconds)

        return record

    def _forget(self, version: Labels) -> None:
        for labels in [labels for labels in self._recorders if labels[:2] == version]:
            del self._recorders[labels]
        matching = {"model": version[0], "version": version[1]}
        for metric in (
            self.requests,
            self.request_seconds,
            self.batch_rows,
            self.queue_seconds,
            self.queue_depth,
            self.model_state,
        ):
            metric.remove_by_labels(matching)


def _without(
    series: dict[Labels, Value], names: Sequence[str], label: str, value: str
) -> dict[Labels, Value]:
    position = names.index(label)
    return {values: item for values, item in series.items() if values[position] != value}


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
