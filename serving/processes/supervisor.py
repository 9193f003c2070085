"""The parent process: starts the servers, passes signals on, and replaces one that dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack

from protocol.errors import UnavailableError
from serving.flags import ServerFlags
from serving.processes.member import COUNT, FOLDER, INDEX

log = logging.getLogger(__name__)

_FAILURE = 255
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_STEADY_S = 60.0


async def supervise(flags: ServerFlags, arguments: Sequence[str]) -> int:
    """Runs `flags.server_processes` servers until SIGTERM or SIGINT.

    Args:
        flags: Those of each server.
        arguments: The command line they came from.

    Returns:
        The exit status: that of a server that could not start, else 0.

    Raises:
        UnavailableError: A port is taken.
    """
    with ExitStack() as stack:
        for port in filter(None, (flags.port, flags.rest_api_port)):
            stack.enter_context(reserved(port))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="serving-"))
        return await Supervisor(flags.server_processes, arguments, folder).run()


def reserved(port: int) -> socket.socket:
    """Keeps a port for servers that share it; connections do not come here.

    Raises:
        UnavailableError: Somebody else has it.
    """
    holder = socket.socket()
    try:
        # Refused if somebody listens already, whether or not they would share.
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("0.0.0.0", port))
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("0.0.0.0", port))
    except OSError as error:
        holder.close()
        raise UnavailableError(f"Can not listen on 0.0.0.0:{port}: {error}") from error
    return holder


class Supervisor:
    """Starts servers and keeps them running.

    Args:
        count: How many.
        arguments: Their command line.
        folder: For their private sockets.
    """

    def __init__(self, count: int, arguments: Sequence[str], folder: str) -> None:
        self._count = count
        self._arguments = arguments
        self._folder = folder
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._status = 0

    async def run(self) -> int:
        """Returns when all servers have ended, with the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._pass_on, signal.SIGHUP)
        async with asyncio.TaskGroup() as group:
            for index in range(self._count):
                group.create_task(self._keep(index))
        return self._status

    async def _keep(self, index: int) -> None:
        """Runs one server, and another after it if it died."""
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            started = asyncio.get_running_loop().time()
            process = self._running[index] = await self._start(index)
            if self._stopping.is_set():
                process.terminate()
            status = await process.wait()
            del self._running[index]
            if self._stopping.is_set():
                return
            if status == _FAILURE:  # the command line or a config file is wrong: it would be again
                self._status = status
                self._stop()
                return
            if asyncio.get_running_loop().time() - started > _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            log.error("Server process %d ended with %d; another in %g s", index, status, pause_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _start(self, index: int) -> asyncio.subprocess.Process:
        place = {INDEX: str(index), COUNT: str(self._count), FOLDER: self._folder}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "serving", *self._arguments, env={**os.environ, **place}
        )

    def _stop(self) -> None:
        """Asks all servers to drain; asked again, ends them at once, as a server does itself."""
        self._stopping.set()
        self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: signal.Signals) -> None:
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
