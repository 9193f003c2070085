"""Writes the Grafana dashboards beside this file: `python make_dashboards.py`.

A dashboard is a list of panels, and a panel is a title, a unit and queries; the rest is layout.
Series that begin with a colon are TensorFlow Serving's, which both engines have; those that begin
with `serving_` are the embedded server's.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}

_WIDTH, _HEIGHT, _COLUMNS = 12, 8, 2
_VERSION = 41  # of Grafana's dashboard schema

_REQUESTS = ":tensorflow:serving:request_count"
_LATENCY_US = ":tensorflow:serving:request_latency"


@dataclass(frozen=True)
class Query:
    """A line of a panel.

    Attributes:
        expression: PromQL.
        legend: name of each series, with labels in double braces.
    """

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """A graph over time.

    Attributes:
        title: what it shows.
        unit: as Grafana calls it.
        queries: its lines.
    """

    title: str
    unit: str
    queries: tuple[Query, ...]


@dataclass(frozen=True)
class Dashboard:
    """A page of panels.

    Attributes:
        uid: its address within Grafana, and the name of its file.
        title: its name.
        panels: from left to right, two in a row.
        by_model: whether the reader picks models.
    """

    uid: str
    title: str
    panels: tuple[Panel, ...]
    by_model: bool = False


def _rate(series: str, labels: str) -> str:
    return f"sum by ({labels}) (rate({series}[1m]))"


def _quantile(share: float, histogram: str, labels: str, selector: str = "") -> str:
    buckets = _rate(f"{histogram}_bucket{selector}", f"{labels}, le")
    return f"histogram_quantile({share}, {buckets})"


def _latency(share: float, selector: str = "") -> str:
    return f"{_quantile(share, _LATENCY_US, 'model_name', selector)} / 1e6"


_OF_MODEL = '{model_name=~"$model"}'
_OWN = '{model=~"$model"}'

SERVICE = Dashboard(
    "service",
    "Service",
    (
        Panel(
            "Requests",
            "reqps",
            (Query(_rate(_REQUESTS, "model_name"), "{{model_name}}"),),
        ),
        Panel(
            "Answers by status",
            "reqps",
            (Query(_rate(_REQUESTS, "status"), "{{status}}"),),
        ),
        Panel(
            "Latency, 99 % of requests below",
            "s",
            (Query(_latency(0.99), "{{model_name}}"),),
        ),
        Panel("Engines that answer", "none", (Query("up", "{{instance}}"),)),
        Panel(
            "Requests being answered, and waiting",
            "none",
            (
                Query("sum(serving_in_flight_requests)", "being answered"),
                Query("sum(serving_queue_depth)", "waiting"),
            ),
        ),
        Panel(
            "Versions that answer",
            "none",
            (Query("count by (model) (serving_model_state == 30)", "{{model}}"),),
        ),
        Panel(
            "Processor", "percentunit", (Query("rate(process_cpu_seconds_total[1m])", "{{job}}"),)
        ),
        Panel(
            "Memory",
            "bytes",
            (
                Query("process_resident_memory_bytes", "{{job}}"),
                Query("sum by (model) (serving_model_memory_bytes)", "loading {{model}}"),
            ),
        ),
    ),
)

MODEL = Dashboard(
    "model",
    "Model",
    (
        Panel(
            "Answers by status",
            "reqps",
            (Query(_rate(f"{_REQUESTS}{_OF_MODEL}", "status"), "{{status}}"),),
        ),
        Panel(
            "Latency",
            "s",
            (
                Query(_latency(0.5, _OF_MODEL), "half below"),
                Query(_latency(0.99, _OF_MODEL), "99 % below"),
            ),
        ),
        Panel(
            "Requests by version",
            "reqps",
            (
                Query(
                    _rate(f"serving_requests_total{_OWN}", "version, signature"),
                    "version {{version}}, {{signature}}",
                ),
            ),
        ),
        Panel(
            "Rows in a run",
            "none",
            (
                Query(
                    _rate(f"serving_batch_rows_sum{_OWN}", "signature")
                    + " / "
                    + _rate(f"serving_batch_rows_count{_OWN}", "signature"),
                    "{{signature}}",
                ),
            ),
        ),
        Panel(
            "Time in the queue, 99 % below",
            "s",
            (
                Query(
                    _quantile(0.99, "serving_queue_seconds", "signature", _OWN),
                    "{{signature}}",
                ),
            ),
        ),
        Panel(
            "Drift: stability index of each feature",
            "none",
            (Query(f"serving_drift_psi{_OWN}", "{{feature}}, version {{version}}"),),
        ),
        Panel(
            "Features, mean",
            "none",
            (Query(f"serving_feature_mean{_OWN}", "{{feature}}, version {{version}}"),),
        ),
        Panel(
            "Classes",
            "percentunit",
            (Query(f"serving_class_share{_OWN}", "{{feature}} {{class}}"),),
        ),
    ),
    by_model=True,
)

DASHBOARDS = (SERVICE, MODEL)


def document(dashboard: Dashboard) -> dict[str, Any]:
    """Returns a dashboard as Grafana reads it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "schemaVersion": _VERSION,
        "tags": ["keras-model-service"],
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_model_variable()] if dashboard.by_model else []},
        "panels": [_panel(number, panel) for number, panel in enumerate(dashboard.panels)],
    }


def _model_variable() -> dict[str, Any]:
    query = f"label_values({_REQUESTS}, model_name)"
    return {
        "name": "model",
        "label": "Model",
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": "model"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "includeAll": False,
        "multi": False,
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, _COLUMNS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": DATASOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": DATASOURCE,
                "expr": query.expression,
                "legendFormat": query.legend,
            }
            for place, query in enumerate(panel.queries)
        ],
    }


def text(dashboard: Dashboard) -> str:
    """Returns the content of a dashboard's file."""
    return json.dumps(document(dashboard), indent=2) + "\n"


def main() -> int:
    """Writes all dashboards."""
    for dashboard in DASHBOARDS:
        (FOLDER / f"{dashboard.uid}.json").write_text(text(dashboard), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
