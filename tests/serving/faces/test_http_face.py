import asyncio
from typing import Any

import aiohttp
import numpy as np
import pytest

X = np.ones((1, 3), np.float32)


@pytest.fixture
async def running(model_folders, start_server) -> Any:
    model_folders.half_plus_two(1)
    model_folders.broken(1, name="broken")
    config = model_folders.config_file("half", "broken")
    return await start_server(model_config_file=str(config), enable_batching=True)


@pytest.fixture
def get(running) -> Any:
    """Fetches a path; gives the status and the text or document."""

    async def get(path: str) -> tuple[int, Any]:
        async with (
            aiohttp.ClientSession(f"http://localhost:{running.rest_port}") as session,
            session.get(path) as response,
        ):
            is_json = response.content_type == "application/json"
            return response.status, await (response.json() if is_json else response.text())

    return get


async def test_liveness_is_not_readiness(get, running) -> None:
    assert await get("/healthz") == (200, "ok\n")
    status, document = await get("/readyz")
    assert status == 503
    assert document == {
        "ready": False,
        "draining": False,
        "models": {"half": True, "broken": False},
    }
    assert (await get("/readyz?models=half"))[0] == 200
    assert (await get("/readyz?models=half,other"))[0] == 503
    running.server.data_plane.drain()
    assert (await get("/readyz?models=half"))[0] == 503
    assert (await get("/healthz"))[0] == 200


async def test_model_status(get) -> None:
    entry = {
        "version": "1",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    for path in ("/v1/models/half", "/v1/models/half/versions/1", "/v1/models/half/labels/x"):
        assert await get(path) == (200, {"model_version_status": [entry]})
    status, document = await get("/v1/models/broken")
    [entry] = document["model_version_status"]
    assert status == 200
    assert entry["status"]["error_code"] == "DATA_LOSS"


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/v1/models/halb", 404, "Could not find any versions of model halb"),
        ("/v1/models/half/versions/9", 404, "Could not find version 9 of model half"),
        (f"/v1/models/half/versions/{2**63}", 400, "Failed to convert version"),
        ("/v1/model", 400, "Malformed request: GET /v1/model"),
        ("/readyz/", 404, "No page /readyz/"),
        ("/nothing", 404, "No page /nothing"),
    ],
)
async def test_mistakes(get, path, status, text) -> None:
    found, document = await get(path)
    assert found == status
    assert text in document["error"]


async def test_metrics(get, running) -> None:
    await running.predict("half", {"x": X})
    for name in ("halb", "any other"):
        with pytest.raises(Exception, match="NOT_FOUND"):
            await running.predict(name, {"x": X})
    with pytest.raises(Exception, match="FAILED_PRECONDITION"):
        await running.predict("half", {"x": X}, signature="unheard")
    status, page = await get("/monitoring/prometheus/metrics")
    assert status == 200
    lines = page.splitlines()
    assert ':tensorflow:serving:request_count{model_name="half",status="OK"} 1' in lines
    assert ':tensorflow:serving:request_count{model_name="unknown",status="NOT_FOUND"} 2' in lines
    for name in ("request_latency", "runtime_latency"):
        assert any(
            line.startswith(f':tensorflow:serving:{name}_count{{model_name="half",API="Predict"')
            for line in lines
        )
    labels = 'code="OK",model="half",signature="serving_default",version="1"'
    assert f"serving_requests_total{{{labels}}} 1.0" in lines
    failed = 'code="FAILED_PRECONDITION",model="half",signature="",version="1"'
    assert f"serving_requests_total{{{failed}}} 1.0" in lines
    queue = 'model="half",signature="serving_default",version="1"'
    assert f"serving_batch_rows_sum{{{queue}}} 1.0" in lines
    assert f"serving_queue_seconds_count{{{queue}}} 1.0" in lines
    assert f"serving_queue_depth{{{queue}}} 0.0" in lines
    assert "serving_in_flight_requests 0.0" in lines
    assert 'serving_model_state{model="half",version="1"} 30.0' in lines
    assert "halb" not in page
    assert "unheard" not in page


async def test_series_go_with_their_version(get, running, model_folders) -> None:
    await running.predict("half", {"x": X})
    model_folders.half_plus_two(2)
    await running.until(lambda: running.state("half", 1) == 50)
    await running.predict("half", {"x": X})
    _, page = await get("/monitoring/prometheus/metrics")
    assert 'model="half",version="1"' not in page
    assert 'signature="serving_default",version="1"' not in page
    assert 'signature="serving_default",version="2"' in page
    assert f'model_path="{model_folders.model("half")}/1"' not in page


async def test_the_metrics_path_is_configurable(model_folders, start_server, tmp_path) -> None:
    model_folders.half_plus_two(1)
    config = tmp_path / "monitoring.config"
    config.write_text('prometheus_config { enable: true path: "/metrics" }')
    running = await start_server(
        model_name="half",
        model_base_path=str(model_folders.model("half")),
        monitoring_config_file=str(config),
    )
    async with aiohttp.ClientSession(f"http://localhost:{running.rest_port}") as session:
        async with session.get("/metrics") as response:
            assert response.status == 200
        async with session.get("/monitoring/prometheus/metrics") as response:
            assert response.status == 404


async def test_a_server_on_its_way_out_takes_no_new_predictions(running) -> None:
    body = {"instances": [[1, 2, 3]]}
    async with aiohttp.ClientSession(f"http://localhost:{running.rest_port}") as session:
        async with session.post("/v1/models/half:predict", json=body) as response:
            assert response.status == 200
        running.server.data_plane.drain()
        async with session.post("/v1/models/half:predict", json=body) as response:
            assert response.status == 503
        async with session.get("/v1/models/half") as response:
            assert response.status == 200


async def test_rest_requests_under_way_finish(model_folders, start_server) -> None:
    model_folders.slow()
    running = await start_server(
        model_name="slow", model_base_path=str(model_folders.model("slow"))
    )
    in_flight = running.server.metrics.registry.get_sample_value
    async with aiohttp.ClientSession(f"http://localhost:{running.rest_port}") as session:
        call = asyncio.create_task(
            session.post("/v1/models/slow:predict", json={"instances": [200.0]})
        )
        async with asyncio.timeout(20):
            while in_flight("serving_in_flight_requests") != 1.0:
                await asyncio.sleep(0)
        await running.server.stop(drain_timeout_s=20)
        async with await call as response:
            assert response.status == 200
            assert await response.json() == {"predictions": [200.0]}
