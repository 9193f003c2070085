"""How long calls took: here, and in a server that tells its own times.

The embedded server tells them where the metadata `x-server-timing` asks for it; TensorFlow
Serving does not, so that only the round trip is known.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from clients.config import ClientConfig
from clients.transport import AsyncTransport
from clients.typed import AsyncTaskClient
from protocol.services import Method

Client = TypeVar("Client", bound=AsyncTaskClient)

_ASKS_TIMING = ("x-server-timing", "1")


@dataclass(frozen=True)
class CallTime:
    """How long one call took.

    Args:
        method: Name of the RPC.
        round_trip_ms: From sending the request to the answer, in milliseconds.
        server_ms: The server's own times by name, in milliseconds; empty where it tells none.
        version: Version that answered; None where the answer does not say.
    """

    method: str
    round_trip_ms: float
    server_ms: Mapping[str, float]
    version: int | None


class TimedTransport(AsyncTransport):
    """The transport of one question: asks for the server's times and keeps those of each call.

    gRPC shares connections between channels of one process, so a transport of its own costs no
    new connection.

    Args:
        config: Where and how to connect.
    """

    def __init__(self, config: ClientConfig) -> None:
        super().__init__(replace(config, metadata=(*config.metadata, _ASKS_TIMING)))
        self.calls: list[CallTime] = []

    def client(self, kind: type[Client], model: str, version: int | None) -> Client:
        """Returns a client whose calls go over this transport.

        Args:
            kind: Class of the client.
            model: Name of the served model.
            version: Exact version; None for the one the server prefers.
        """
        return kind(self.config, model=model, version=version, transport=self)

    def _rpc(self, method: Method) -> Any:
        return partial(self._timed, method, super()._rpc(method))

    async def _timed(self, method: Method, rpc: Any, request: Any, **options: Any) -> Any:
        started = time.perf_counter()
        call = rpc(request, **options)
        response = await call
        round_trip_ms = (time.perf_counter() - started) * 1e3
        server_ms = read_times(_trailer(await call.trailing_metadata(), "server-timing"))
        self.calls.append(CallTime(method.name, round_trip_ms, server_ms, _version(response)))
        return response


def read_times(header: str) -> dict[str, float]:
    """Returns the durations in milliseconds by name; what is no duration is left out.

    Args:
        header: Such as `wait;dur=0.1, run;dur=1.2`.

    Source: W3C, "Server Timing".
    """
    entries = (entry.strip().split(";") for entry in header.split(","))
    found = ((name.strip(), _duration_ms(parameters)) for name, *parameters in entries)
    return {name: duration_ms for name, duration_ms in found if duration_ms is not None}


def _trailer(trailers: Any, wanted: str) -> str:
    return next((str(value) for name, value in trailers or () if name == wanted), "")


def _version(response: Any) -> int | None:
    return response.model_spec.version.value if response.model_spec.HasField("version") else None


def _duration_ms(parameters: Iterable[str]) -> float | None:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "dur":
            try:
                return float(value)
            except ValueError:
                return None
    return None
