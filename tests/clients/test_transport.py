"""Deadlines, retries, errors, credentials and limits against a real gRPC server."""

import asyncio
import dataclasses
import datetime
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from clients import Backoff, ClientConfig, TlsConfig
from clients.calls import health_call, predict_call
from clients.transport import AsyncTransport, Transport
from protocol import errors, services
from protocol.errors import (
    DeadlineExceededError,
    ServiceError,
    UnavailableError,
    UnknownError,
    error_from_status,
)

PREDICT = predict_call("sentiment", {"text": ["good"]})

Send = Callable[..., Any]


class RecordingObserver:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.retries: list[str] = []

    def finished(self, model: str, code: str, seconds: float) -> None:
        self.calls.append((model, code))

    def retried(self, model: str) -> None:
        self.retries.append(model)


def send_blocking(config: ClientConfig, call: Any, waits: list[float], observer: Any) -> Any:
    transport = Transport(config, observer, waits.append)
    try:
        return transport.send(call)
    finally:
        transport.close()


def send_async(config: ClientConfig, call: Any, waits: list[float], observer: Any) -> Any:
    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def run() -> Any:
        transport = AsyncTransport(config, observer, sleep)
        try:
            return await transport.send(call)
        finally:
            await transport.close()

    return asyncio.run(run())


@pytest.fixture(params=[send_blocking, send_async], ids=["blocking", "async"])
def send(request: pytest.FixtureRequest) -> Send:
    """Sends one call with either transport: send(config, call, waits=[], observer=None)."""

    def run(
        config: ClientConfig, call: Any, waits: list[float] | None = None, observer: Any = None
    ) -> Any:
        return request.param(config, call, [] if waits is None else waits, observer)

    return run


def test_answers(send: Send, config: ClientConfig) -> None:
    assert send(config, PREDICT)["label"].tolist() == [b"positive"]


@pytest.mark.parametrize(
    "code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
)
def test_every_status_becomes_its_error(
    send: Send, server: Any, config: ClientConfig, code: grpc.StatusCode
) -> None:
    server.fail(services.PREDICT, code, "the reason")
    with pytest.raises(ServiceError, match="the reason") as caught:
        send(config, PREDICT)
    assert type(caught.value) is type(error_from_status(code, ""))
    assert caught.value.status is (
        grpc.StatusCode.UNKNOWN if type(caught.value) is UnknownError else code
    )
    assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_unavailable_is_retried(send: Send, server: Any, config: ClientConfig) -> None:
    server.fail_times(services.PREDICT, 2, grpc.StatusCode.UNAVAILABLE)
    waits: list[float] = []
    observer = RecordingObserver()
    send(config, PREDICT, waits, observer)
    assert len(server.calls) == 3
    assert len(waits) == 2
    assert observer.retries == ["sentiment"] * 2
    assert observer.calls == [("sentiment", "OK")]


@pytest.mark.parametrize(("policy", "asked"), [("pick_first", 1), ("round_robin", 2)])
def test_calls_stay_with_one_server_or_take_turns(
    two_servers: tuple[Any, Any], policy: str, asked: int
) -> None:
    addresses = (server.target.replace("localhost", "127.0.0.1") for server in two_servers)
    config = ClientConfig(f"ipv4:{','.join(addresses)}", load_balancing=policy)
    transport = Transport(config)
    deadline = time.monotonic() + 10
    try:
        for _ in range(20):
            transport.send(PREDICT)
        while asked == 2 and not all(server.calls for server in two_servers):
            assert time.monotonic() < deadline, "one of them is never asked"
            transport.send(PREDICT)
    finally:
        transport.close()
    assert sum(bool(server.calls) for server in two_servers) == asked


def test_retries_end(send: Send, server: Any, config: ClientConfig) -> None:
    server.fail(services.PREDICT, grpc.StatusCode.UNAVAILABLE, "draining")
    observer = RecordingObserver()
    with pytest.raises(UnavailableError, match="draining"):
        send(config, PREDICT, observer=observer)
    assert len(server.calls) == 1 + config.max_retries
    assert observer.calls == [("sentiment", "UNAVAILABLE")]


def test_other_failures_are_not_retried(send: Send, server: Any, config: ClientConfig) -> None:
    server.fail(services.PREDICT, grpc.StatusCode.INTERNAL)
    with pytest.raises(errors.InternalError):
        send(config, PREDICT)
    assert len(server.calls) == 1


def test_no_retry_that_would_miss_the_deadline(
    send: Send, server: Any, config: ClientConfig
) -> None:
    server.fail(services.PREDICT, grpc.StatusCode.UNAVAILABLE)
    slow = Backoff(initial_s=60.0, max_s=60.0)
    waits: list[float] = []
    with pytest.raises(UnavailableError):
        send(dataclasses.replace(config, backoff=slow), PREDICT, waits)
    assert waits == []
    assert len(server.calls) == 1


def test_deadline(send: Send, server: Any, config: ClientConfig) -> None:
    over = threading.Event()
    server.behaviours[services.PREDICT] = lambda request, context: over.wait(30)
    try:
        with pytest.raises(DeadlineExceededError, match=r"localhost:\d+ .* within 0\.2 s"):
            send(dataclasses.replace(config, timeout_s=0.2), PREDICT)
    finally:
        over.set()


def test_every_attempt_carries_the_rest_of_the_deadline(
    send: Send, server: Any, config: ClientConfig
) -> None:
    def fail_late(request: Any, context: grpc.ServicerContext) -> None:
        threading.Event().wait(0.05)
        context.abort(grpc.StatusCode.UNAVAILABLE, "busy")

    server.behaviours[services.PREDICT] = fail_late
    with pytest.raises(UnavailableError):
        send(dataclasses.replace(config, timeout_s=0.9, max_retries=2), PREDICT)
    first, second, third = (call.remaining_s for call in server.calls)
    # Below a second gRPC does not round deadlines.
    assert 0.95 > first > second + 0.03 > third + 0.06


def test_a_refused_connection_names_the_target(send: Send) -> None:
    with socket.socket() as held:  # bound, but nobody listens
        held.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{held.getsockname()[1]}"
        config = ClientConfig(target, max_retries=1, backoff=Backoff(0.001, max_s=0.001))
        with pytest.raises(UnavailableError, match=target):
            send(config, PREDICT)


def test_token_and_metadata_arrive(send: Send, server: Any, config: ClientConfig) -> None:
    send(dataclasses.replace(config, token="abc", metadata=(("x-request", "7"),)), PREDICT)
    received = server.calls[0].metadata
    assert received["authorization"] == "Bearer abc"
    assert received["x-request"] == "7"


def test_messages_over_four_mebibytes(send: Send, server: Any, config: ClientConfig) -> None:
    large = np.zeros(5 << 20, np.uint8)
    echo = predict_call("echo", {"x": large})

    def behave(request: Any, context: grpc.ServicerContext) -> Any:
        response = services.PREDICT.response()
        response.outputs["x"].CopyFrom(request.inputs["x"])
        return response

    server.behaviours[services.PREDICT] = behave
    assert send(config, echo)["x"].nbytes == large.nbytes


def test_own_limit(send: Send, config: ClientConfig) -> None:
    limited = dataclasses.replace(config, max_message_bytes=1000)
    with pytest.raises(errors.ResourceExhaustedError):
        send(limited, predict_call("m", {"x": np.zeros(2000, np.uint8)}))


@pytest.mark.parametrize("timeout_s", [0, -1.0, float("nan")])
def test_a_useless_timeout_is_refused(config: ClientConfig, timeout_s: float) -> None:
    transport = Transport(config)
    with pytest.raises(ValueError, match="timeout_s"):
        transport.send(PREDICT, timeout_s)
    transport.close()


def test_closed_transports_say_so(config: ClientConfig) -> None:
    transport = Transport(config)
    transport.close()
    with pytest.raises(RuntimeError, match="closed"):
        transport.send(PREDICT)


async def test_closed_async_transports_say_so(config: ClientConfig) -> None:
    transport = AsyncTransport(config)
    await transport.close()
    with pytest.raises(RuntimeError, match="closed"):
        await transport.send(PREDICT)


def test_async_transport_may_be_made_before_its_loop(config: ClientConfig) -> None:
    transport = AsyncTransport(config)

    async def run() -> Any:
        try:
            return await transport.send(health_call())
        finally:
            await transport.close()

    assert asyncio.run(run()) == "SERVING"


async def test_cancelling_is_not_an_error_of_the_service(server: Any, config: ClientConfig) -> None:
    over, arrived = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def behave(request: Any, context: grpc.ServicerContext) -> None:
        loop.call_soon_threadsafe(arrived.set)
        over.wait(30)

    server.behaviours[services.PREDICT] = behave
    transport = AsyncTransport(config)
    try:
        task = asyncio.ensure_future(transport.send(PREDICT))
        await asyncio.wait_for(arrived.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    finally:
        over.set()
        await transport.close()


@dataclasses.dataclass(frozen=True)
class Certificate:
    """A self-signed certificate of localhost, in files."""

    cert_file: Path
    key_file: Path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = Certificate(folder / "cert.pem", folder / "key.pem")
    files.cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@pytest.fixture
def tls_target(fake_server: Any, certificate: Certificate) -> Iterator[str]:
    """A fake server that insists on a client certificate."""
    cert = certificate.cert_file.read_bytes()
    credentials = grpc.ssl_server_credentials(
        [(certificate.key_file.read_bytes(), cert)], cert, require_client_auth=True
    )
    with ThreadPoolExecutor(2) as pool:
        grpc_server = grpc.server(pool)
        grpc_server.add_generic_rpc_handlers(fake_server.handlers())
        port = grpc_server.add_secure_port("localhost:0", credentials)
        grpc_server.start()
        yield f"localhost:{port}"
        grpc_server.stop(grace=None).wait()


def test_mutual_tls(send: Send, tls_target: str, certificate: Certificate) -> None:
    tls = TlsConfig(certificate.cert_file, certificate.cert_file, certificate.key_file)
    assert send(ClientConfig(tls_target, tls=tls), PREDICT)["tokens"].tolist() == [1]


def test_name_of_the_server_can_be_stated(
    send: Send, tls_target: str, certificate: Certificate
) -> None:
    files = (certificate.cert_file, certificate.cert_file, certificate.key_file)
    config = ClientConfig(tls_target, max_retries=0, tls=TlsConfig(*files, server_name="other"))
    with pytest.raises(UnavailableError):
        send(config, PREDICT)


def test_tls_without_trust_is_refused(send: Send, tls_target: str) -> None:
    with pytest.raises(UnavailableError, match=tls_target):
        send(ClientConfig(tls_target, max_retries=0, tls=TlsConfig()), PREDICT)
