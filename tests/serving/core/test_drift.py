from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.drift import FEWEST, Distribution, DriftWatch, Reference
from protocol.errors import InvalidRequestError
from protocol.features import WatchedVersion
from serving.core.drift import DriftMonitor, Sampler
from serving.core.servable import ServableId

WORDS = Distribution.of(np.array([1, 2, 3] * 100))
REFERENCE = Reference({"words": WORDS, "class": Distribution.of(np.array(["positive"] * 9))})


@pytest.fixture
def executor() -> Any:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def watched(read: Any) -> WatchedVersion:
    return WatchedVersion(read, DriftWatch(REFERENCE))


def texts(*values: bytes) -> dict[str, Any]:
    return {"text": np.array(values, dtype=object)}


def test_samples_are_some_time_apart(executor) -> None:
    now = [5.0]
    sampler = Sampler(watched(lambda *_: {}), executor, 2, lambda: now[0])
    wanted = []
    for now[0] in (5, 5.1, 6.9, 7, 7.1, 20, 20.1):
        wanted.append(sampler.wants_one())
    assert wanted == [True, False, False, True, False, True, False]


def test_a_sample_that_can_not_be_read_harms_nothing(executor) -> None:
    def read(inputs: Any, outputs: Any) -> Any:
        raise outputs["error"]

    sampler = Sampler(watched(read), executor, 0)
    for error in (InvalidRequestError("no image"), KeyError("words")):
        sampler.take({}, {"error": error})
    executor.submit(lambda: None).result()
    assert sampler.watch.report()[0].observations == 0


def test_versions_without_a_reference_are_not_watched(
    executor, model_folders, make_manifest
) -> None:
    monitor = DriftMonitor(executor, 1)
    plain = model_folders.half_plus_two(1)
    known = model_folders.sentiment(manifest=make_manifest())
    for name, folder in (("half", plain), ("sentiment", known)):
        monitor.open(ServableId(name, 1), folder)
        assert monitor.sampler(ServableId(name, 1), "serving_default") is None
    assert next(iter(monitor.collect())).samples == []


def test_a_watched_version(executor, model_folders, make_manifest) -> None:
    folder = model_folders.sentiment(manifest=make_manifest(reference=REFERENCE))
    servable_id = ServableId("sentiment", 1)
    switched_off = DriftMonitor(executor, 0)
    switched_off.open(servable_id, folder)
    assert switched_off.sampler(servable_id, "serving_default") is None
    monitor = DriftMonitor(executor, 1)
    monitor.open(servable_id, folder)
    assert monitor.sampler(servable_id, "tensors") is None
    sampler = monitor.sampler(servable_id, "serving_default")
    assert sampler is not None
    assert monitor.sampler(servable_id, "serving_default") is sampler
    monitor.forget(servable_id)
    assert monitor.sampler(servable_id, "serving_default") is not sampler


async def test_drift_shows_on_the_metrics_page(
    model_folders, make_manifest, start_server, running_samples
) -> None:
    model_folders.sentiment(manifest=make_manifest(reference=REFERENCE))
    running = await start_server(
        model_name="sentiment",
        model_base_path=str(model_folders.model("sentiment")),
        drift_samples_per_second=1e6,
    )
    for _ in range(FEWEST // 50):
        await running.predict("sentiment", texts(*[b"good film , good film"] * 50))
    running_samples(running)
    page = running.server.metrics.render().decode()
    labels = 'feature="words",model="sentiment",version="1"'
    assert f"serving_feature_observations{{{labels}}} {float(FEWEST)}" in page
    [line] = [line for line in page.splitlines() if f"serving_drift_psi{{{labels}}}" in line]
    assert float(line.split()[-1]) > 0.2
    assert 'serving_class_share{class="positive",feature="class"' in page
    assert f"serving_feature_mean{{{labels}}} 4.0" in page


@pytest.fixture
def running_samples() -> Any:
    """Waits until the samples that were taken have been read."""

    def wait(running: Any) -> None:
        running.server._executors.samples.submit(lambda: None).result()

    return wait


def test_a_damaged_manifest_is_no_reason_to_stop(executor, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": "manifest/1"}')
    monitor = DriftMonitor(executor, 1)
    monitor.open(ServableId("x", 1), tmp_path)
    assert monitor.sampler(ServableId("x", 1), "serving_default") is None
