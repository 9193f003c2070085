"""What the server counts: TensorFlow Serving's series, and our own beside them.

The page has two parts. The first speaks TensorFlow Serving's dialect (names with colons, counters
without `_total`, no HELP lines), so that dashboards made for it keep working. The second is the
usual Prometheus registry, labelled by model, version, signature and status code. Label values come
only from what is served: the name of an unknown model is counted as `unknown`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from serving.core.series import Counter, Histogram, HistogramSeries, Labels
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


class TfMetrics:
    """The series that TensorFlow Serving exposes and that have a meaning here."""

    def __init__(self) -> None:
        serving, batching = "/tensorflow/serving", "/tensorflow/serving/batching_session"
        saved_model = "/tensorflow/cc/saved_model"
        self.request_count = Counter(f"{serving}/request_count", "model_name", "status")
        self.request_latency = Histogram(
            f"{serving}/request_latency", _LATENCY_BUCKETS_US, "model_name", "API", "entrypoint"
        )
        self.runtime_latency = Histogram(
            f"{serving}/runtime_latency", _LATENCY_BUCKETS_US, "model_name", "API", "runtime"
        )
        self.request_example_counts = Histogram(
            f"{serving}/request_example_counts", _EXAMPLE_BUCKETS, "model"
        )
        self.request_example_count_total = Counter(
            f"{serving}/request_example_count_total", "model"
        )
        self.warmup_latency = Histogram(
            f"{serving}/model_warmup_latency", _LATENCY_BUCKETS_US, "model_path", "status"
        )
        self.warmup_records = Counter(
            f"{serving}/model_warmup_records_read", "model_path", "status"
        )
        self.queuing_latency = Histogram(
            f"{batching}/queuing_latency", _QUEUE_BUCKETS_US, "thread_pool_name"
        )
        self.wrapped_run_count = Counter(f"{batching}/wrapped_run_count")
        self.padding_size = Histogram(
            f"{batching}/padding_size", _BATCH_BUCKETS, "execution_batch_size"
        )
        self.input_batch_size = Histogram(f"{batching}/input_batch_size", _BATCH_BUCKETS)
        self.processed_batch_size = Histogram(f"{batching}/processed_batch_size", _BATCH_BUCKETS)
        self.load_attempt_count = Counter(
            f"{saved_model}/load_attempt_count", "model_path", "status"
        )
        self.load_latency = Counter(f"{saved_model}/load_latency", "model_path")

    def series(self) -> list[Counter | Histogram]:
        """All of them, in order of exposition."""
        return list(vars(self).values())

    def counter_total(self, path: str) -> int | None:
        """The total of the counter with this path; None if there is no such counter."""
        name = path.replace("/", ":")
        for series in self.series():
            if isinstance(series, Counter) and series.name == name:
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
        tf = metrics.tf
        self._tf = tf
        self._pool = metrics.thread_pool_name if batched else ""
        self._run_us = tf.runtime_latency.series(servable_id.name, api, runtime)
        self._rows = metrics.batch_rows.series(*labels)
        self._waits = metrics.queue_seconds.series(*labels)

    def started(
        self, rows: int, filled_up: int, requests: Sequence[int], waits_s: Sequence[float]
    ) -> None:
        """See `BatchObserver`."""
        self._rows.observe(rows)
        self._waits.observe_all(waits_s)
        if self._pool:
            tf = self._tf
            tf.wrapped_run_count.add()
            tf.padding_size.observe(filled_up - rows, str(filled_up))
            tf.processed_batch_size.observe(filled_up)
            tf.input_batch_size.series().observe_all(requests)
            waits_us = [seconds * 1e6 for seconds in waits_s]
            tf.queuing_latency.series(self._pool).observe_all(waits_us)

    def finished(self, seconds: float) -> None:
        """See `BatchObserver`."""
        self._run_us.observe(seconds * 1e6)


class ServerMetrics:
    """All metrics of one server.

    Args:
        thread_pool_name: Label of the batching series; empty where batching is off.
    """

    def __init__(self, thread_pool_name: str = "") -> None:
        self.tf = TfMetrics()
        self.thread_pool_name = thread_pool_name
        version = ("model", "version")
        queue = (*version, "signature")
        self.answered = Histogram("serving_request_seconds", _SECONDS_BUCKETS, *queue, "code")
        self.batch_rows = Histogram("serving_batch_rows", _BATCH_BUCKETS, *queue)
        self.queue_seconds = Histogram("serving_queue_seconds", _SECONDS_BUCKETS, *queue)
        self._depths: list[tuple[Labels, Callable[[], int]]] = []
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.registry.register(_OwnSeries(self))
        self.in_flight = Gauge(
            "serving_in_flight_requests", "Requests being answered now.", registry=self.registry
        )
        self.model_state = Gauge(
            "serving_model_state",
            "Life cycle of a version: 10 start, 20 loading, 30 available, 40 unloading.",
            version,
            registry=self.registry,
        )
        self.model_memory = Gauge(
            "serving_model_memory_bytes",
            "Growth of the process while a version was loaded and warmed up.",
            version,
            registry=self.registry,
        )

    def answers(self, servable_id: ServableId | None, signature: str, code: str) -> HistogramSeries:
        """The seconds of requests that end this way; None stands for an unknown model."""
        model = servable_id.name if servable_id is not None else UNKNOWN_MODEL
        version = str(servable_id.version) if servable_id is not None else ""
        return self.answered.series(model, version, signature, code)

    def memory_grew(self, servable_id: ServableId, size: int) -> None:
        """Shows by how many bytes the process grew for a version."""
        self.model_memory.labels(servable_id.name, str(servable_id.version)).set(size)

    def watch(self, servable_id: ServableId, signature: str, depth: Callable[[], int]) -> None:
        """Shows how many requests wait in a queue, until its version has ended."""
        labels = (servable_id.name, str(servable_id.version), signature)
        self._depths.append((labels, depth))

    def waiting(self) -> dict[Labels, int]:
        """Requests that wait now, by model, version and signature."""
        totals: dict[Labels, int] = {}
        for labels, depth in self._depths:
            totals[labels] = totals.get(labels, 0) + depth()
        return totals

    def state_changed(self, servable_id: ServableId, state: ServableState) -> None:
        """Shows a version's state, and forgets every series of a version that has ended."""
        labels = {"model": servable_id.name, "version": str(servable_id.version)}
        if state is not ServableState.END:
            self.model_state.labels(**labels).set(state)
            return
        self.model_state.remove_by_labels(labels)
        self.model_memory.remove_by_labels(labels)
        for series in (self.answered, self.batch_rows, self.queue_seconds):
            series.forget(labels)
        ended = (servable_id.name, str(servable_id.version))
        self._depths = [(own, depth) for own, depth in self._depths if own[:2] != ended]

    def forget_path(self, model_path: str) -> None:
        """Removes the series of a version folder."""
        for series in self.tf.series():
            if "model_path" in series.labels:
                series.forget({"model_path": model_path})

    def forget_model(self, name: str) -> None:
        """Removes the series of a model that is no longer served."""
        for series in self.tf.series():
            for label in {"model", "model_name"}.intersection(series.labels):
                series.forget({label: name})

    def render(self) -> bytes:
        """The page for the scraper."""
        tf_part = "".join(f"{line}\n" for line in self.tf.lines())
        return tf_part.encode() + generate_latest(self.registry)


class _OwnSeries(Collector):
    """Hands our own series to Prometheus' client library."""

    def __init__(self, metrics: ServerMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """The series as they are now."""
        metrics = self._metrics
        requests = CounterMetricFamily(
            "serving_requests", "Requests answered.", labels=metrics.answered.labels
        )
        for labels, series in metrics.answered.items():
            buckets, _ = series.read()
            requests.add_metric(labels, buckets[-1][1])
        yield requests
        yield _family(metrics.answered, "Time from a request's arrival to its answer.")
        yield _family(metrics.batch_rows, "Rows of each run of a model.")
        yield _family(metrics.queue_seconds, "Time that requests wait for a worker thread.")
        depth = GaugeMetricFamily(
            "serving_queue_depth", "Requests that wait now.", labels=metrics.batch_rows.labels
        )
        for labels, tasks in metrics.waiting().items():
            depth.add_metric(labels, tasks)
        yield depth


def _family(histogram: Histogram, text: str) -> HistogramMetricFamily:
    family = HistogramMetricFamily(histogram.name, text, labels=histogram.labels)
    for labels, series in histogram.items():
        buckets, total = series.read()
        named = [(_bucket_name(bound), float(count)) for bound, count in buckets]
        family.add_metric(labels, named, total)
    return family


def _bucket_name(bound: float) -> str:
    return "+Inf" if bound == float("inf") else str(bound)
