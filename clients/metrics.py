"""Prometheus metrics of a client; needs the package prometheus-client, and only when used."""

from typing import Any

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ClientMetrics:
    """Counts and times the calls of the clients it is given to.

    `client_requests_total{model,code}`, `client_request_seconds{model}` (a histogram, retries
    included) and `client_retries_total{model}`. Calls about no model have the label "".

    Args:
        registry: A `prometheus_client.CollectorRegistry`; None for the default one, which takes
            one `ClientMetrics` in a process: share it between clients.

    Raises:
        ImportError: prometheus-client is not installed.
    """

    def __init__(self, registry: Any = None) -> None:
        try:
            import prometheus_client as prometheus
        except ImportError as error:
            raise ImportError(
                "ClientMetrics needs the package prometheus-client: pip install prometheus-client"
            ) from error
        registry = prometheus.REGISTRY if registry is None else registry
        self._requests = prometheus.Counter(
            "client_requests_total",
            "Finished calls by model and gRPC status.",
            ("model", "code"),
            registry=registry,
        )
        self._seconds = prometheus.Histogram(
            "client_request_seconds",
            "Duration of calls in seconds, retries included.",
            ("model",),
            registry=registry,
            buckets=BUCKETS_S,
        )
        self._retries = prometheus.Counter(
            "client_retries_total",
            "Attempts after the first one.",
            ("model",),
            registry=registry,
        )

    def finished(self, model: str, code: str, seconds: float) -> None:
        """Counts one finished call."""
        self._requests.labels(model, code).inc()
        self._seconds.labels(model).observe(seconds)

    def retried(self, model: str) -> None:
        """Counts one retry."""
        self._retries.labels(model).inc()
