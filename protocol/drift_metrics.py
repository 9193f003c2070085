"""Reports of drift as Prometheus gauges, from a server or from a client; needs prometheus-client.

| gauge | labels |
|---|---|
| `serving_drift_psi` | model, version, feature |
| `serving_feature_observations`, `serving_feature_mean` | model, version, feature |
| `serving_class_share` | model, version, feature, class |
"""

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from protocol.drift import FeatureReport

_LABELS = ("model", "version", "feature")


def drift_metrics(
    reports: Mapping[tuple[str, str], Sequence[FeatureReport]],
) -> Iterator[Metric]:
    """Writes reports, by model and version, as gauges."""
    index = GaugeMetricFamily(
        "serving_drift_psi",
        "Population stability index of a feature against the version's reference.",
        labels=_LABELS,
    )
    values = GaugeMetricFamily(
        "serving_feature_observations", "Values in the window that is compared.", labels=_LABELS
    )
    mean = GaugeMetricFamily("serving_feature_mean", "Mean of these values.", labels=_LABELS)
    shares = GaugeMetricFamily(
        "serving_class_share", "Share of a class among them.", labels=(*_LABELS, "class")
    )
    for version, features in reports.items():
        for feature in features:
            labels = (*version, feature.name)
            values.add_metric(labels, feature.observations)
            if feature.index is not None:
                index.add_metric(labels, feature.index)
            if feature.mean is not None:
                mean.add_metric(labels, feature.mean)
            for name, share in feature.shares.items():
                shares.add_metric((*labels, name or "other"), share)
    yield from (index, values, mean, shares)
