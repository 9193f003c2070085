"""A gRPC server: listens on ports and Unix sockets, and drains before it stops."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from protocol.errors import UnavailableError
from serving.faces.http2.call import HeadReader
from serving.faces.http2.connection import Limits, ServerConnection, Shared
from serving.faces.rpc import Handler

_BACKLOG = 1024
# How long a caller may take to hear that it should open no more calls.
_NOTICE_S = 0.1


class Http2Server:
    """Serves handlers over HTTP/2.

    Args:
        handlers: Of all services.
        limits: What one caller may use.
    """

    def __init__(self, handlers: Iterable[Handler], limits: Limits) -> None:
        by_path = {handler.path.encode(): handler for handler in handlers}
        self._shared = Shared(HeadReader(by_path), limits)
        self._servers: list[asyncio.Server] = []

    async def listen(
        self, port: int, tls: ssl.SSLContext | None = None, *, shared: bool = False
    ) -> None:
        """Opens a port on all IPv4 addresses, which other processes may share.

        Raises:
            UnavailableError: It is taken.
        """
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                self._connection,
                "0.0.0.0",
                port,
                ssl=tls,
                backlog=_BACKLOG,
                reuse_port=shared,
            )
        except OSError as error:
            raise UnavailableError(f"Can not listen on 0.0.0.0:{port}: {error}") from error
        self._servers.append(server)

    async def listen_unix(self, path: str) -> None:
        """Opens a Unix socket; a stale one is replaced.

        Raises:
            UnavailableError: The path can not be used.
        """
        loop = asyncio.get_running_loop()
        try:
            _remove_stale(Path(path))
            server = await loop.create_unix_server(self._connection, path, backlog=_BACKLOG)
        except OSError as error:
            raise UnavailableError(f"Can not listen on unix:{path}: {error}") from error
        self._servers.append(server)

    async def stop(self, grace_s: float) -> None:
        """Refuses new calls, lets those under way finish, and closes all connections.

        Args:
            grace_s: How long they may take.
        """
        for server in self._servers:
            server.close()
        for connection in list(self._shared.connections):
            connection.announce_end()
        await asyncio.sleep(min(_NOTICE_S, grace_s))
        for connection in list(self._shared.connections):
            connection.refuse_more()
        if self._shared.connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._shared.empty.wait()
        for connection in list(self._shared.connections):
            connection.close(UnavailableError("The server is stopping"))
        await asyncio.sleep(0)

    def _connection(self) -> ServerConnection:
        return ServerConnection(self._shared)


def _remove_stale(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()


def tls_context(
    key: bytes, certificate: bytes, ca: bytes | None, *, require_client: bool
) -> ssl.SSLContext:
    """Makes the context of a server that speaks HTTP/2 only.

    Args:
        key: Private key, PEM.
        certificate: Its chain, PEM.
        ca: Certificates that sign those of clients, PEM.
        require_client: Whether a client must show one.

    Raises:
        ssl.SSLError: The key does not fit, or is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    with tempfile.NamedTemporaryFile() as file:  # readable by this user alone
        file.write(key + b"\n" + certificate)
        file.flush()
        context.load_cert_chain(file.name)
    if ca is not None:
        context.load_verify_locations(cadata=ca.decode())
    if require_client:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
