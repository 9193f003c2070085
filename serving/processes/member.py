"""One of several server processes: how it reaches the others."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from protocol.errors import ServiceError, error_from_status
from serving.faces.rpc import Context, Handler
from serving.processes.metrics_page import merge

log = logging.getLogger(__name__)

# Environment variables by which the parent tells a server its place.
INDEX, COUNT, FOLDER = "SERVING_PROCESS_INDEX", "SERVING_PROCESS_COUNT", "SERVING_PROCESS_FOLDER"

_SERVICE = "/keras_model_service.ServerProcess/"
_METRICS, _RELOAD = f"{_SERVICE}Metrics", f"{_SERVICE}Reload"
_METRICS_TIMEOUT_S = 2.0
_LOOK_S = 0.5
_UNLIMITED = [("grpc.max_receive_message_length", -1)]


async def without_parent() -> None:
    """Returns when the parent has gone without a word: its servers must not outlive it."""
    parent = os.getppid()
    while True:
        await asyncio.sleep(_LOOK_S)
        if os.getppid() != parent:
            return


@dataclass(frozen=True)
class Member:
    """A server's place among those that share its ports.

    Attributes:
        index: Its number, from 0.
        count: How many there are.
        folder: Where each has a private socket.
    """

    index: int
    count: int
    folder: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Member | None:
        """Reads what the parent set; None for a server that is alone."""
        if INDEX not in environment:
            return None
        return cls(int(environment[INDEX]), int(environment[COUNT]), Path(environment[FOLDER]))

    @property
    def socket_path(self) -> str:
        """The private socket of this server."""
        return self._socket_of(self.index)

    def _socket_of(self, index: int) -> str:
        return str(self.folder / f"{index}.sock")

    def handlers(
        self,
        metrics_page: Callable[[], bytes],
        reload: Callable[[bytes, Context], Awaitable[bytes]],
    ) -> list[Handler]:
        """What the others ask of this server on its private socket.

        Args:
            metrics_page: Gives this server's own metrics.
            reload: Applies a serialized ReloadConfigRequest here, and answers it.
        """

        async def metrics(data: bytes, context: Context) -> bytes:
            return metrics_page()

        async def apply(data: bytes, context: Context) -> bytes:
            return await reload(data, context)

        return [Handler(_METRICS, "unary_unary", metrics), Handler(_RELOAD, "unary_unary", apply)]

    async def merged_metrics(self, own: bytes) -> bytes:
        """Adds the metrics of the others to this server's page; those that are silent are left."""
        pages = [own]
        for index in self._others():
            try:
                pages.append(await self._ask(index, _METRICS, b"", _METRICS_TIMEOUT_S))
            except ServiceError as error:
                log.warning("No metrics from server process %d: %s", index, error)
        return merge(pages)

    async def reload_others(self, request: bytes) -> None:
        """Has the others apply a serialized ReloadConfigRequest.

        Raises:
            ServiceError: One could not; the others may have.
        """
        for index in self._others():
            await self._ask(index, _RELOAD, request, None)

    def _others(self) -> list[int]:
        return [index for index in range(self.count) if index != self.index]

    async def _ask(self, index: int, path: str, data: bytes, timeout_s: float | None) -> bytes:
        target = f"unix:{self._socket_of(index)}"
        async with grpc.aio.insecure_channel(target, options=_UNLIMITED) as channel:
            try:
                call: Any = channel.unary_unary(path)
                answer: bytes = await call(data, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                raise error_from_status(error.code(), error.details() or "") from error
            return answer
