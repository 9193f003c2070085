"""`python -m serving`: reads the command line, serves, and drains on SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import metadata

from protocol.errors import InvalidRequestError, ServiceError
from serving import flags as command_line
from serving.flags import CommandLine, ServerFlags, UsageError
from serving.processes.member import Member, without_parent
from serving.processes.supervisor import supervise

log = logging.getLogger("serving")

_FAILURE = 255
_COLLECTIONS = (20_000, 10, 100)


def main(arguments: Sequence[str]) -> int:
    """Runs the server until it is told to stop.

    Returns:
        The exit status: 0 after an orderly stop, 255 if it could not start, and after --help.
    """
    try:
        line = command_line.parse(arguments)
    except UsageError as error:
        print(error, command_line.usage(), sep="\n\n")
        return _FAILURE
    except InvalidRequestError as error:
        return _failure(error)
    if line.wants_version:
        print(_versions())
        return 0
    if line.wants_help:
        print(command_line.usage())
        return _FAILURE
    if line.unknown:
        for argument in line.unknown:
            print(f"unknown argument: {argument}")
        print(command_line.usage(), flush=True)
    _start_logging(line)
    try:
        if line.flags.server_processes > 1 and Member.from_environment() is None:
            return asyncio.run(supervise(line.flags, arguments))
        rested = _run(line.flags)
    except ServiceError as error:
        log.error("Failed to start server: %s", error)
        return _failure(error)
    if not rested:
        os._exit(0)  # Worker threads that do not end must not keep the process alive.
    return 0


def _failure(error: ServiceError) -> int:
    print(f"Failed to start server. Error: {error.status.name}: {error}")
    return _FAILURE


def _run(flags: ServerFlags) -> bool:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(serve(flags))


async def serve(flags: ServerFlags) -> bool:
    """Serves until SIGTERM or SIGINT; a second one ends the process at once. SIGHUP reloads.

    Returns:
        Whether everything came to rest.

    Raises:
        ServiceError: The server can not start.
    """
    from serving.server import ModelServer

    stopping = asyncio.Event()
    _on_signals(stopping)
    if Member.from_environment() is not None:
        orphaned = asyncio.create_task(without_parent())
        orphaned.add_done_callback(lambda _: stopping.set())
    server = ModelServer(flags)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, server.reload_soon)
    start = asyncio.create_task(server.start())
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
    if start.done():
        try:
            await start
        except BaseException:
            await server.stop()
            raise
        _spare_garbage_collection()
        await stop
    start.cancel()
    log.info("Draining: requests under way have %g s to finish", flags.drain_timeout_seconds)
    rested = await server.stop(flags.drain_timeout_seconds)
    log.info("Stopped")
    return rested


def _spare_garbage_collection() -> None:
    """Leaves what was made at the start out of collections, and collects less often.

    Requests make no cycles of objects; looking for some cost a tenth of all processor time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTIONS)


def _on_signals(stopping: asyncio.Event) -> None:
    def handle(number: int) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, handle, number)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _start_logging(line: CommandLine) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
    )
    for name in line.ignored:
        reason = command_line.IGNORED_FLAGS[name].reason
        log.warning("--%s has no effect in this server: %s", name, reason)


def _versions() -> str:
    def version(package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return "not installed"

    return (
        f"Keras Model Service: {version('keras-model-service')}\n"
        f"ONNX Runtime: {version('onnxruntime')}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
