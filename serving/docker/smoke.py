"""Asks every published model, and looks at what Prometheus and Grafana show of it.

Each model is asked twice: a rate needs two scrapes that differ. Then every panel of the dashboards
must have data. Two kinds may be empty: the index of drift, which needs more requests than these,
and, beside TensorFlow Serving, the series that only the embedded server has.
"""

import argparse
import json
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients import command_line
from clients.demo.repository import PublishedModel, published_models

_COUNTED = ":tensorflow:serving:request_count"
_OWN_SERIES = ("serving_", "process_")
_NEEDS_MUCH = "serving_drift_psi"
_HTTP_S = 10
_PAUSE_S = 1.0


@dataclass(frozen=True)
class PanelQuery:
    """A query of a dashboard.

    Attributes:
        place: dashboard and panel, for people.
        expression: PromQL; asks for all models where the reader of the dashboard chooses one.
    """

    place: str
    expression: str

    def may_be_empty(self, embedded: bool) -> bool:
        """Whether it has no data although all is well."""
        if self.expression.startswith(_NEEDS_MUCH):
            return True
        return not embedded and any(name in self.expression for name in _OWN_SERIES)


def panel_queries(folder: Path) -> list[PanelQuery]:
    """Reads the queries of all dashboards in a folder."""
    return [
        PanelQuery(f"{board['title']}: {panel['title']}", target["expr"].replace("$model", ".+"))
        for board in map(_read_json, sorted(folder.glob("*.json")))
        for panel in board["panels"]
        for target in panel["targets"]
    ]


def question(model: PublishedModel) -> list[str]:
    """Returns the arguments of the client that ask a model something it can answer."""
    samples = str(model.folder / "assets" / "samples")
    return {
        "face": ["face", "embed", samples],
        "detection": ["detect", samples],
        "segmentation": ["segment", samples],
        "sentiment": ["sentiment", "A joy from start to end."],
        "translation": ["translation", "Where is the train station?"],
        "translation_dates": ["translation", "--task", "dates", "3 mai 1979"],
    }[model.name]


@dataclass(frozen=True)
class Prometheus:
    """Answers queries.

    Attributes:
        address: host:port.
    """

    address: str

    def query(self, expression: str) -> list[Any]:
        """Returns the series that an expression has now."""
        query = urllib.parse.urlencode({"query": expression})
        series: list[Any] = _fetch(f"http://{self.address}/api/v1/query?{query}")["data"]["result"]
        return series

    def counted_models(self) -> set[str]:
        """Returns the models whose requests it has seen."""
        return {series["metric"].get("model_name", "") for series in self.query(_COUNTED)}

    def empty(self, queries: Sequence[PanelQuery]) -> list[PanelQuery]:
        """Returns the queries without data."""
        return [query for query in queries if not self.query(query.expression)]


def missing_dashboards(grafana: str, folder: Path) -> set[str]:
    """Returns the dashboards that Grafana has not loaded."""
    loaded = {found["uid"] for found in _fetch(f"http://{grafana}/api/search?type=dash-db")}
    return {_read_json(file)["uid"] for file in folder.glob("*.json")} - loaded


def _fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=_HTTP_S) as answer:
        return json.load(answer)


def _read_json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def ask(models: Sequence[PublishedModel], target: str) -> list[PublishedModel]:
    """Asks each model once; returns those that gave no answer."""
    return [model for model in models if command_line.main([*question(model), "--target", target])]


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    """Asks again and again; returns whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_S)
    return True


def problems(arguments: argparse.Namespace) -> Iterator[str]:
    """Goes through everything, and tells what is not as it should be."""
    prometheus = Prometheus(arguments.prometheus)
    models = published_models(arguments.repository)
    if not models:
        yield f"{arguments.repository} holds no model"
        return
    unanswered = ask(models, arguments.target)
    yield from (f"{model.name} gave no answer" for model in unanswered)
    answered = [model for model in models if model not in unanswered]
    names = {model.name for model in answered}
    if not wait_until(lambda: names <= prometheus.counted_models(), arguments.wait):
        yield f"Prometheus has not seen {', '.join(names - prometheus.counted_models())}"
    ask(answered, arguments.target)

    embedded = bool(prometheus.query("serving_model_state"))
    queries = panel_queries(arguments.dashboards)
    needed = [query for query in queries if not query.may_be_empty(embedded)]
    wait_until(lambda: not prometheus.empty(needed), arguments.wait)
    empty = prometheus.empty(needed)
    yield from (f"no data in {query.place}: {query.expression}" for query in empty)
    print(f"dashboards: {len(needed) - len(empty)} of {len(queries)} queries have data")
    if arguments.grafana:
        missing = missing_dashboards(arguments.grafana, arguments.dashboards)
        yield from (f"Grafana has no dashboard {uid}" for uid in sorted(missing))


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 if all is well; else says what is not."""
    parser = argparse.ArgumentParser(description="Ask every model, and look at the dashboards.")
    parser.add_argument("--target", required=True, help="gRPC address of the engine, host:port")
    parser.add_argument("--prometheus", required=True, help="its address, host:port")
    parser.add_argument("--grafana", help="the same; not looked at if left out")
    parser.add_argument("--repository", type=Path, required=True, help="the published models")
    parser.add_argument("--dashboards", type=Path, required=True, help="folder of the dashboards")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds for data (%(default)s)")
    found = list(problems(parser.parse_args(argv)))
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
