"""Sends calls over gRPC: channel, deadline, retries, credentials and metrics.

`Transport` blocks, `AsyncTransport` awaits. They differ only in waiting: what to send, when to
retry and how an answer is read comes from the transport-free modules `calls` and `retry`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc

from clients.calls import Call
from clients.config import ClientConfig, TlsConfig, check_timeout
from clients.retry import Attempts
from protocol.errors import (
    DeadlineExceededError,
    ServiceError,
    UnavailableError,
    error_from_status,
)
from protocol.services import Method, stub

Answer = TypeVar("Answer")


class CallObserver(Protocol):
    """Is told what happens to calls; `clients.metrics.ClientMetrics` is one."""

    def finished(self, model: str, code: str, seconds: float) -> None:
        """A call ended with the gRPC status `code` after `seconds`, retries included."""

    def retried(self, model: str) -> None:
        """A call is about to be tried again."""


class _SilentObserver:
    def finished(self, model: str, code: str, seconds: float) -> None:
        pass

    def retried(self, model: str) -> None:
        pass


def channel_options(config: ClientConfig) -> list[tuple[str, Any]]:
    """Returns the gRPC channel arguments for `config`."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.max_receive_message_length", config.max_message_bytes),
        # A retry is useless while gRPC itself still waits to reconnect.
        ("grpc.initial_reconnect_backoff_ms", round(config.backoff.initial_s * 1000)),
        ("grpc.max_reconnect_backoff_ms", round(config.backoff.max_s * 1000)),
        # Retries are ours: a policy inside gRPC would not be seen by the metrics.
        ("grpc.enable_retries", 0),
        ("grpc.lb_policy_name", config.load_balancing),
    ]
    if config.keepalive_s is not None:
        options.append(("grpc.keepalive_time_ms", round(config.keepalive_s * 1000)))
        options.append(("grpc.keepalive_timeout_ms", round(config.keepalive_timeout_s * 1000)))
    if config.tls is not None and config.tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", config.tls.server_name))
    return options


def call_metadata(config: ClientConfig) -> tuple[tuple[str, str], ...]:
    """Returns the (name, value) pairs sent with every call."""
    if config.token is None:
        return config.metadata
    return (*config.metadata, ("authorization", f"Bearer {config.token}"))


def service_error(failure: Any, config: ClientConfig, timeout_s: float) -> ServiceError:
    """Returns the error of our tree for a failed RPC.

    Args:
        failure: A `grpc.RpcError` of either API.
        config: Its target is named where the server cannot have said who it is.
        timeout_s: Deadline of the call in seconds, for the message.
    """
    code: grpc.StatusCode = failure.code()
    details: str = failure.details() or code.value[1]
    if code is grpc.StatusCode.UNAVAILABLE:
        return UnavailableError(f"model server {config.target} is unavailable: {details}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceededError(
            f"model server {config.target} did not answer within {timeout_s:g} s: {details}"
        )
    return error_from_status(code, details)


class _CallPlan:
    """What both transports need to know about one call in progress."""

    def __init__(
        self, config: ClientConfig, observer: CallObserver, model: str, timeout_s: float | None
    ) -> None:
        timeout_s = config.timeout_s if timeout_s is None else timeout_s
        check_timeout(timeout_s)
        self.attempts = Attempts(timeout_s, config.max_retries, config.backoff)
        self._config = config
        self._observer = observer
        self._model = model
        self._timeout_s = timeout_s
        self._started = time.monotonic()

    def wait_after(self, failure: Any) -> float:
        """Returns the wait before the next attempt, or raises the call's error."""
        error = service_error(failure, self._config, self._timeout_s)
        try:
            wait_s = self.attempts.wait_after(error)
        except ServiceError:
            self.finished(error.status)
            raise error from failure
        self._observer.retried(self._model)
        return wait_s

    def finished(self, code: grpc.StatusCode = grpc.StatusCode.OK) -> None:
        """Reports the end of the call."""
        self._observer.finished(self._model, code.name, time.monotonic() - self._started)


class Transport:
    """A blocking gRPC channel; safe to share between threads.

    Args:
        config: Where and how to connect. The connection is made at the first call.
        observer: Is told about every call.
        sleep: Waits between attempts.
    """

    def __init__(
        self,
        config: ClientConfig,
        observer: CallObserver | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.config = config
        self._observer = observer or _SilentObserver()
        self._sleep = sleep
        self._metadata = call_metadata(config)
        self._channel = _open_channel(grpc, config)
        self._stubs: dict[Method, Any] = {}
        self._closed = False

    def send(self, call: Call[Answer], timeout_s: float | None = None) -> Answer:
        """Sends `call` and returns its answer.

        Args:
            call: What to send.
            timeout_s: Deadline in seconds with all retries; None takes the config's.

        Raises:
            ServiceError: The call failed; the class tells the gRPC status.
            RuntimeError: The client is closed.
        """
        rpc = self._rpc(call.method)
        plan = _CallPlan(self.config, self._observer, call.model, timeout_s)
        while True:
            try:
                response = rpc(
                    call.request, timeout=plan.attempts.remaining_s(), metadata=self._metadata
                )
            except grpc.RpcError as failure:
                self._sleep(plan.wait_after(failure))
            else:
                plan.finished()
                return call.read(response)

    def close(self) -> None:
        """Closes the channel; calls in progress are cancelled."""
        self._closed = True
        self._channel.close()

    def _rpc(self, method: Method) -> Any:
        if self._closed:
            raise RuntimeError(f"the client of {self.config.target} is closed")
        if method not in self._stubs:
            self._stubs[method] = stub(self._channel, method)
        return self._stubs[method]


class AsyncTransport:
    """The asyncio twin of `Transport`; belongs to the event loop of its first call.

    Args:
        config: Where and how to connect. The connection is made at the first call.
        observer: Is told about every call.
        sleep: Waits between attempts.
    """

    def __init__(
        self,
        config: ClientConfig,
        observer: CallObserver | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.config = config
        self._observer = observer or _SilentObserver()
        self._sleep = sleep
        self._metadata = call_metadata(config)
        self._channel: Any = None
        self._stubs: dict[Method, Any] = {}
        self._closed = False

    async def send(self, call: Call[Answer], timeout_s: float | None = None) -> Answer:
        """Sends `call` and returns its answer; see `Transport.send`."""
        rpc = self._rpc(call.method)
        plan = _CallPlan(self.config, self._observer, call.model, timeout_s)
        while True:
            try:
                response = await rpc(
                    call.request, timeout=plan.attempts.remaining_s(), metadata=self._metadata
                )
            except grpc.RpcError as failure:
                await self._sleep(plan.wait_after(failure))
            else:
                plan.finished()
                return call.read(response)

    async def close(self) -> None:
        """Closes the channel; calls in progress are cancelled."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    def _rpc(self, method: Method) -> Any:
        if self._closed:
            raise RuntimeError(f"the client of {self.config.target} is closed")
        if self._channel is None:  # an asyncio channel binds to the loop it is made in
            self._channel = _open_channel(grpc.aio, self.config)
        if method not in self._stubs:
            self._stubs[method] = stub(self._channel, method)
        return self._stubs[method]


def _open_channel(api: Any, config: ClientConfig) -> Any:
    """Opens a channel with `grpc` or `grpc.aio`, which share these constructors."""
    options = channel_options(config)
    if config.tls is None:
        return api.insecure_channel(config.target, options=options)
    return api.secure_channel(config.target, _credentials(config.tls), options=options)


def _credentials(tls: TlsConfig) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=_pem(tls.ca_file),
        private_key=_pem(tls.key_file),
        certificate_chain=_pem(tls.cert_file),
    )


def _pem(path: Path | str | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
