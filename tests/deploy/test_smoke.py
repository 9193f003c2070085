"""What `make smoke` looks at, against a Prometheus and a Grafana made of canned answers."""

import json
import runpy
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import clients.command_line
from clients.demo.repository import published_models
from export.served_models import SERVED

DASHBOARDS = Path("serving/docker/grafana/dashboards")


@pytest.fixture(scope="module")
def smoke(repository: Path) -> dict[str, Any]:
    return runpy.run_path(str(repository / "serving/docker/smoke.py"))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for model in SERVED:
        for version in ("9", "10"):
            (tmp_path / model / version / "assets" / "samples").mkdir(parents=True)
    (tmp_path / ".staging" / "1").mkdir(parents=True)
    return tmp_path


class Answers:
    """Canned answers: which queries have no data, and which dashboards Grafana has."""

    def __init__(self) -> None:
        self.empty: set[str] = set()
        self.dashboards = ["service", "model"]
        self.address = ""

    def of(self, path: str) -> Any:
        parts = urlsplit(path)
        if parts.path == "/api/search":
            return [{"uid": uid} for uid in self.dashboards]
        [expression] = parse_qs(parts.query)["query"]
        series = [{"metric": {"model_name": model}} for model in SERVED]
        return {"data": {"result": [] if expression in self.empty else series}}


@pytest.fixture
def answers() -> Iterator[Answers]:
    canned = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(canned.of(self.path)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    canned.address = f"127.0.0.1:{server.server_address[1]}"
    yield canned
    server.shutdown()
    server.server_close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of the client that were run; each succeeds."""
    lines: list[list[str]] = []
    monkeypatch.setattr(clients.command_line, "main", lambda line: lines.append(line) or 0)
    return lines


@pytest.fixture
def run(smoke: dict[str, Any], models: Path, repository: Path, answers: Answers) -> Any:
    def arguments() -> int:
        status: int = smoke["main"](
            [
                "--target=engine:8500",
                f"--prometheus={answers.address}",
                f"--grafana={answers.address}",
                f"--repository={models}",
                f"--dashboards={repository / DASHBOARDS}",
                "--wait=0",
            ]
        )
        return status

    return arguments


@pytest.mark.parametrize("model", SERVED)
def test_the_client_understands_what_a_model_is_asked(smoke, models: Path, model: str) -> None:
    [published] = [each for each in published_models(models) if each.name == model]
    line = [*smoke["question"](published), "--target", "engine:8500"]
    parsed = clients.command_line.build_parser().parse_args(line)
    assert parsed.target == "engine:8500"
    images = [str(image) for image in vars(parsed).get("images", [])]
    assert images in ([], [str(models / model / "10" / "assets" / "samples")])


def test_every_model_is_asked_twice(run: Any, asked: list[list[str]]) -> None:
    assert run() == 0
    assert len(asked) == 2 * len(SERVED)


def test_an_empty_panel_is_told(run: Any, asked: list, answers: Answers, smoke, capsys, repository):
    queries = smoke["panel_queries"](repository / DASHBOARDS)
    [requests] = [query for query in queries if query.place == "Service: Requests"]
    answers.empty = {requests.expression}
    assert run() == 1
    assert f"no data in Service: Requests: {requests.expression}" in capsys.readouterr().err


def test_drift_and_the_embedded_servers_own_series_may_be_empty(
    run: Any, asked: list, answers: Answers, smoke, repository: Path
) -> None:
    queries = smoke["panel_queries"](repository / DASHBOARDS)
    own = {query.expression for query in queries if ":tensorflow" not in query.expression} - {"up"}
    answers.empty = {*own, "serving_model_state"}
    assert run() == 0
    answers.empty = own
    assert run() == 1


def test_a_model_without_an_answer_and_a_missing_dashboard_are_told(
    run: Any, answers: Answers, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(clients.command_line, "main", lambda line: int(line[0] == "sentiment"))
    answers.dashboards = ["service"]
    assert run() == 1
    told = capsys.readouterr().err
    assert "sentiment gave no answer" in told
    assert "Grafana has no dashboard model" in told


def test_no_published_model_is_a_problem(run: Any, models: Path, capsys) -> None:
    for model in SERVED:
        (models / model).rename(models / f".{model}")
    assert run() == 1
    assert "holds no model" in capsys.readouterr().err
