"""Several server processes behind one port, seen by a client, a scraper and an operator."""

import os
import signal
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import psutil
import pytest

from protocol import messages, services
from protocol.errors import UnavailableError
from protocol.services import Method
from serving.processes.supervisor import reserved

X = np.ones((1, 3), np.float32)
METRICS = "/monitoring/prometheus/metrics"

pytestmark = pytest.mark.e2e


@pytest.fixture(params=["grpcio", "nghttp2"])
def grpc_face(request) -> str:
    return request.param


@pytest.fixture
def started(model_folders, server_process) -> Any:
    """Two servers of `half`, behind one port."""
    model_folders.half_plus_two(1)
    config = model_folders.config_file("half")
    server = server_process("--server_processes=2", f"--model_config_file={config}")
    until(lambda: sum("Running gRPC ModelServer" in line for line in server.log) == 2)
    until(lambda: sum("Exporting HTTP" in line for line in server.log) == 2)
    return server


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def call(port: int, method: Method, request: Any) -> Any:
    """Calls over a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"localhost:{port}", options) as channel:
        stub = channel.unary_unary(
            method.path, lambda message: message.SerializeToString(), method.response.FromString
        )
        return stub(request, timeout=10)


def workers(server: Any) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def page(port: int) -> str:
    with urllib.request.urlopen(f"http://localhost:{port}{METRICS}", timeout=10) as answer:
        return str(answer.read().decode())


def test_both_answer_and_are_counted_together(started, make_request) -> None:
    assert len(workers(started)) == 2
    request = make_request("half", {"x": X})
    for _ in range(20):
        answer = call(started.port, services.PREDICT, request)
        assert answer.outputs["y"].float_val[0] == 2.5
    line = ':tensorflow:serving:request_count{model_name="half",status="OK"} 20'
    for _ in range(4):
        assert line in page(started.rest_port).splitlines()


def test_a_reload_reaches_both(started, model_folders, make_request) -> None:
    model_folders.half_plus_two(1, name="other")
    request = messages.ReloadConfigRequest()
    for name in ("half", "other"):
        request.config.model_config_list.config.add(
            name=name, base_path=str(model_folders.model(name)), model_platform="tensorflow"
        )
    answer = call(started.port, services.HANDLE_RELOAD_CONFIG, request)
    assert answer.status.error_code == 0
    for _ in range(20):
        call(started.port, services.PREDICT, make_request("other", {"x": X}))


def test_one_that_is_killed_is_replaced(started, make_request) -> None:
    victim = workers(started)[0]
    victim.kill()
    until(lambda: sum("Running gRPC ModelServer" in line for line in started.log) == 3)
    assert victim.pid not in [each.pid for each in workers(started)]
    for _ in range(10):
        call(started.port, services.PREDICT, make_request("half", {"x": X}))


def test_sigterm_stops_all(started) -> None:
    children = workers(started)
    os.kill(started.process.pid, signal.SIGTERM)
    assert started.wait() == 0
    assert not any(child.is_running() for child in children)


def test_a_parent_that_is_killed_takes_its_servers_along(started) -> None:
    children = workers(started)
    started.process.kill()
    until(lambda: not any(child.is_running() for child in children))


def test_a_wrong_start_is_not_tried_again(server_process) -> None:
    server = server_process("--server_processes=2", "--model_config_file=/no/such", wait=False)
    assert server.wait() == 255


def test_a_taken_port_is_an_error(free_port) -> None:
    port = free_port()
    with reserved(port), pytest.raises(UnavailableError, match=f"Can not listen on .*{port}"):
        reserved(port)
