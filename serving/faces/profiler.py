"""`tensorflow.ProfilerService`, answered by TensorFlow's own profiler behind it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import grpc

from protocol.errors import UnimplementedError, error_from_status
from serving.faces.rpc import Context, Handler

PROFILER_SERVICE = "tensorflow.ProfilerService"

_METHODS = ("Profile", "Monitor", "Terminate")
# A profile is as large as what happened in its time.
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class ProfilerFace:
    """Passes the calls of the profiler service on, byte for byte.

    Args:
        find_address: Tells where TensorFlow's profiler listens; None while TensorFlow is not in
            use.
    """

    def __init__(self, find_address: Callable[[], str | None]) -> None:
        self._find_address = find_address
        self._channel: grpc.aio.Channel | None = None

    def handlers(self) -> list[Handler]:
        """The methods as a face calls them."""
        paths = [f"/{PROFILER_SERVICE}/{name}" for name in _METHODS]
        return [Handler(path, "unary_unary", partial(self.forward, path)) for path in paths]

    async def forward(self, path: str, data: bytes, context: Context) -> bytes:
        """Asks TensorFlow's profiler.

        Raises:
            UnimplementedError: TensorFlow is not in use.
            ServiceError: What the profiler said.
        """
        ask: Any = self._connect().unary_unary(path)
        try:
            answer: bytes = await ask(data, timeout=context.time_remaining(), wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            raise error_from_status(error.code(), error.details() or "") from error
        return answer

    async def close(self) -> None:
        """Hangs up."""
        if self._channel is not None:
            await self._channel.close()

    def _connect(self) -> grpc.aio.Channel:
        if self._channel is None:
            address = self._find_address()
            if address is None:
                raise UnimplementedError(
                    "TensorFlow's profiler is there once a SavedModel has been loaded; none was"
                )
            self._channel = grpc.aio.insecure_channel(address, options=_UNLIMITED)
        return self._channel
