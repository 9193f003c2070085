"""A gRPC server on grpcio: every feature of gRPC's core, at its price."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import grpc

from protocol.errors import UnavailableError
from serving.faces.rpc import GrpcioHandlers, Handler

_LARGEST_MESSAGE = 2**31 - 1
_UNLIMITED = -1


class GrpcioServer:
    """Serves handlers with `grpc.aio`; it answers once it is started.

    Args:
        handlers: Of all services.
        arguments: Further channel arguments.
        shared: Whether other processes may share its ports.
    """

    def __init__(
        self,
        handlers: Iterable[Handler],
        arguments: Sequence[tuple[str, str | int]] = (),
        *,
        shared: bool = False,
    ) -> None:
        options = [
            ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
            ("grpc.max_send_message_length", _UNLIMITED),
            # Another server on the port shall fail, not share its requests, unless it is meant to.
            ("grpc.so_reuseport", int(shared)),
            *arguments,
        ]
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers([GrpcioHandlers(handlers)])

    async def listen(self, port: int, credentials: grpc.ServerCredentials | None = None) -> None:
        """Opens a port on all IPv4 addresses.

        Raises:
            UnavailableError: It is taken.
        """
        address = f"0.0.0.0:{port}"
        try:
            if credentials is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise UnavailableError(f"Can not listen on {address}: {error}") from error

    async def listen_unix(self, path: str) -> None:
        """Opens a Unix socket; a stale one is replaced."""
        self._server.add_insecure_port(f"unix:{path}")

    async def start(self) -> None:
        """Answers from now on."""
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Refuses new calls, lets those under way finish, and closes all connections.

        Args:
            grace_s: How long they may take.
        """
        await self._server.stop(grace_s)
