"""A real Prometheus scrapes the server with the shipped rules: alerts fire, and resolve after."""

import asyncio
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from protocol.drift import FEWEST, Distribution, Reference
from serving.core.manager import ModelChoice

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="prometheus is not installed (Debian)"
    ),
]

X = {"x": np.ones((1, 3), np.float32)}
WAIT_S = 60.0
# The rules look at minutes; here at seconds.
SHORTER = ((r"\[\dm\]", "[6s]"), (r"offset \dm", "offset 6s"), (r"for: \d+m", "for: 1s"))
REFERENCE = Reference(
    {
        "words": Distribution.of(np.array([1, 2, 3] * 100)),
        "class": Distribution.of(np.array(["negative", "positive"])),
    }
)


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def firing(self) -> set[str]:
        """Names of the alerts that fire, with the model each is about."""
        alerts = (await asyncio.to_thread(self._get, "alerts"))["alerts"]
        return {
            f"{each['labels']['alertname']} {_model(each['labels'])}".strip()
            for each in alerts
            if each["state"] == "firing"
        }

    async def until(self, alert: str, fires: bool = True) -> None:
        """Waits until an alert fires, or does not any more."""
        deadline = time.monotonic() + WAIT_S
        while (alert in await self.firing()) != fires:
            assert time.monotonic() < deadline, f"{alert}: {await self.firing()}"
            await asyncio.sleep(0.2)

    async def values(self, expression: str) -> list[Any]:
        """Answers a query."""
        query = urllib.parse.urlencode({"query": expression})
        found: list[Any] = (await asyncio.to_thread(self._get, f"query?{query}"))["result"]
        return found

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]


def _model(labels: dict[str, str]) -> str:
    return labels.get("model") or labels.get("model_name", "")


@pytest.fixture
def prometheus(repository: Path, tmp_path: Path, free_port) -> Iterator[Any]:
    """Starts a Prometheus that scrapes a port five times in two seconds."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(port: int) -> Prometheus:
        rules = tmp_path / "rules"
        rules.mkdir()
        for file in (repository / "serving/docker/config/rules").glob("*.yml"):
            text = file.read_text()
            for pattern, shorter in SHORTER:
                text = re.sub(pattern, shorter, text)
            (rules / file.name).write_text(text)
        config = (repository / "serving/docker/config/prometheus.yml").read_text()
        config = config.replace("engine:8501", f"localhost:{port}")
        config = config.replace("scrape_interval: 5s", "scrape_interval: 400ms")
        config = config.replace("scrape_timeout: 4s", "scrape_timeout: 400ms")
        config = config.replace("evaluation_interval: 5s", "evaluation_interval: 400ms")
        (tmp_path / "prometheus.yml").write_text(config)
        own = free_port()
        processes.append(
            subprocess.Popen(
                [
                    "prometheus", f"--config.file={tmp_path / 'prometheus.yml'}",
                    f"--storage.tsdb.path={tmp_path / 'data'}",
                    f"--web.listen-address=127.0.0.1:{own}", "--log.level=error",
                ],
            )
        )  # fmt: skip
        return Prometheus(f"http://127.0.0.1:{own}")

    yield start
    for process in processes:
        process.terminate()
        process.wait(20)


async def ready(prometheus: Prometheus) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            await prometheus.firing()
        except OSError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        else:
            return


async def ask(running: Any, model: str, inputs: Any, times: int) -> None:
    for _ in range(times):
        try:
            await running.predict(model, inputs)
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0)


async def test_alerts_fire_and_resolve(
    model_folders, start_server, make_manifest, prometheus, monkeypatch, repository
) -> None:
    model_folders.half_plus_two(1)
    model_folders.half_plus_two(1, name="other")
    model_folders.half_plus_two(1, name="lookup")
    model_folders.sentiment(manifest=make_manifest(reference=REFERENCE))
    running = await start_server(
        model_config_file=str(model_folders.config_file("half", "other", "lookup", "sentiment")),
        drift_samples_per_second=1e6,
    )
    watcher = prometheus(running.rest_port)
    await ready(watcher)
    find = running.server.manager.find
    half, other = (find(ModelChoice(name)).servable for name in ("half", "other"))

    # Good traffic, and errors that are the callers' own: nothing fires.
    for _ in range(20):
        await ask(running, "half", X, 5)
        await ask(running, "half", {"y": X["x"]}, 5)
        await asyncio.sleep(0.1)
    assert await watcher.firing() == set()

    # Errors of the service, and a slow model.
    def broken(signature: str, tensors: Any) -> Any:
        raise ZeroDivisionError("broken")

    def slow(signature: str, tensors: Any) -> Any:
        time.sleep(1.5)
        return run(signature, tensors)

    run = other.run
    monkeypatch.setattr(half, "run", broken)
    monkeypatch.setattr(other, "run", slow)
    load = asyncio.gather(*(ask(running, "other", X, 3) for _ in range(2)))
    for _ in range(30):
        await ask(running, "half", X, 5)
        await asyncio.sleep(0.1)
    await load
    await watcher.until("ErrorsHigh half")
    await watcher.until("LatencyHigh other")
    monkeypatch.undo()
    assert "ErrorsHigh sentiment" not in await watcher.firing()

    # A queue that fills.
    gate = threading.Event()

    def held(signature: str, tensors: Any) -> Any:
        gate.wait(WAIT_S)
        return run(signature, tensors)

    monkeypatch.setattr(other, "run", held)
    waiting = [asyncio.create_task(ask(running, "other", X, 1)) for _ in range(150)]
    await watcher.until("QueueFilling other")
    gate.set()
    await asyncio.gather(*waiting)
    monkeypatch.undo()

    # Texts unlike those of the reference.
    texts = {"text": np.array([b"good film good film good film"] * FEWEST, dtype=object)}
    await ask(running, "sentiment", texts, 2)
    await watcher.until("ModelDrifts sentiment")

    # No panel of the dashboards is empty.
    for file in sorted((repository / "serving/docker/grafana/dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                expression = target["expr"].replace("$model", "sentiment")
                assert await watcher.values(expression), f"{file.name}: {panel['title']}"

    # A version that does not load.
    model_folders.broken(2, name="other")
    await watcher.until("LoadFailed")

    # A model without a version.
    shutil.rmtree(model_folders.model("lookup") / "1")
    await watcher.until("ModelUnavailable lookup")
    model_folders.half_plus_two(2, name="lookup")

    await ask(running, "sentiment", {"text": np.array([b"good film"] * 2000, dtype=object)}, 2)
    for alert in ("ErrorsHigh half", "LatencyHigh other", "QueueFilling other", "LoadFailed"):
        await watcher.until(alert, fires=False)
    await watcher.until("ModelUnavailable lookup", fires=False)
    assert "EngineDown" not in await watcher.firing()
    await running.server.stop()
    await watcher.until("EngineDown")
