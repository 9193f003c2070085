"""Tokens, rates, the access log and the request log, as callers and operators see them."""

import json
import shutil
from typing import Any

import aiohttp
import grpc
import numpy as np
import pytest

from protocol import services
from protocol.messages import HealthCheckRequest
from protocol.version_folder import WARMUP_FILE
from protocol.warmup import read_warmup
from serving.faces.shells import address

X = np.ones((1, 3), np.float32)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def start_half(model_folders, start_server) -> Any:
    """Starts a server of `half` with further flags."""
    model_folders.half_plus_two(1)
    return lambda **flags: start_server(
        model_name="half", model_base_path=str(model_folders.model("half")), **flags
    )


async def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


async def test_calls_need_a_token_and_health_checks_do_not(
    start_half, make_request, tmp_path
) -> None:
    (tmp_path / "tokens").write_text("shop s3cret")
    running = await start_half(auth_tokens_file=str(tmp_path / "tokens"))
    predict = running.stub(services.PREDICT)
    request = make_request("half", {"x": X})
    assert await code_of(predict(request)) is grpc.StatusCode.UNAUTHENTICATED
    await predict(request, metadata=[("authorization", "Bearer s3cret")])
    await running.stub(services.HEALTH_CHECK)(HealthCheckRequest())


async def test_http_calls_need_a_token_too(start_half, tmp_path) -> None:
    (tmp_path / "tokens").write_text("shop s3cret")
    path = tmp_path / "access.log"
    running = await start_half(auth_tokens_file=str(tmp_path / "tokens"), access_log=str(path))
    base = f"http://localhost:{running.rest_port}"
    token = {"authorization": "Bearer s3cret", "traceparent": TRACE}
    async with aiohttp.ClientSession(base) as session:
        for page in ("/v1/models/half", "/monitoring/prometheus/metrics"):
            async with session.get(page) as answer:
                assert answer.status == 401
                assert "is missing" in (await answer.json())["error"]
            async with session.get(page, headers=token) as answer:
                assert answer.status == 200
        async with session.get("/healthz") as answer:
            assert answer.status == 200
    await running.server.stop()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["code"] for line in lines] == ["401", "200", "401", "200"]
    assert lines[1]["method"] == "GET /v1/models/half"
    assert lines[1]["traceparent"] == TRACE


async def test_calls_beyond_the_rate_are_refused_at_once(start_half) -> None:
    running = await start_half(requests_per_second_per_client=0.01, request_burst_per_client=2)
    for _ in range(2):
        await running.predict("half", {"x": X})
    assert await code_of(running.predict("half", {"x": X})) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_the_access_log_has_a_line_for_each_call(start_half, make_request, tmp_path) -> None:
    path = tmp_path / "access.log"
    running = await start_half(access_log=str(path))
    metadata = [("traceparent", TRACE)]
    await running.stub(services.PREDICT)(make_request("half", {"x": X}), metadata=metadata)
    await code_of(running.predict("halb", {}))
    await running.server.stop()
    good, bad = [json.loads(line) for line in path.read_text().splitlines()]
    assert good.items() >= {"method": services.PREDICT.path, "code": "OK"}.items()
    assert good["traceparent"] == TRACE
    assert good["ms"] > 0
    assert good["peer"].startswith("ipv")
    assert bad["code"] == "NOT_FOUND"
    assert "Latest(halb)" in bad["error"]


async def test_sampled_requests_can_be_replayed_as_warm_up(
    model_folders, start_server, tmp_path
) -> None:
    model_folders.half_plus_two(1)
    model_folders.half_plus_two(1, name="quiet")
    prefix = tmp_path / "logs" / "half"
    config = model_folders.config_file(
        text=f"""
        model_config_list {{
          config {{
            name: "half" base_path: "{model_folders.model("half")}" model_platform: "tensorflow"
            logging_config {{
              log_collector_config {{ filename_prefix: "{prefix}" }}
              sampling_config {{ sampling_rate: 1.0 }}
            }}
          }}
          config {{
            name: "quiet" base_path: "{model_folders.model("quiet")}" model_platform: "tensorflow"
          }}
        }}
        """
    )
    running = await start_server(model_config_file=str(config))
    answers = [await running.predict("half", {"x": X * n}) for n in range(3)]
    await running.predict("quiet", {"x": X})
    await code_of(running.predict("half", {}))
    await running.server.stop()
    logs = read_warmup(prefix.with_name("half.tfrecord"))
    assert [log.predict_log.response for log in logs] == answers
    assert logs[0].log_metadata.model_spec.version.value == 1
    assert logs[0].log_metadata.sampling_config.sampling_rate == 1.0

    staged = model_folders.half_plus_two(2, name="warm")
    (staged / WARMUP_FILE).parent.mkdir(parents=True)
    shutil.copy(prefix.with_name("half.tfrecord"), staged / WARMUP_FILE)
    warm = await start_server(model_name="warm", model_base_path=str(model_folders.model("warm")))
    assert await warm.states("warm") == {2: 30}


@pytest.mark.parametrize(
    ("peer", "expected"),
    [("ipv4:10.0.0.1:40", "ipv4:10.0.0.1"), ("ipv6:[::1]:40", "ipv6:[::1]"), ("unix:", "unix:")],
)
def test_the_address_is_the_peer_without_its_port(peer: str, expected: str) -> None:
    assert address(peer) == expected
