"""Sends requests from a process of its own, as told by JSON lines on standard input.

    python -m tests.bench.load_process TARGET MODEL VERSION_FOLDER

A line is `{"workload": "short", "concurrency": 8, "seconds": 2.0}`; the answer is one line with a
`LatencySummary`. Concurrency 1 uses the blocking client, more the asyncio one.
"""

import asyncio
import dataclasses
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from clients.demo.latency import LatencySummary, repeated, time_concurrent, time_sequential
from protocol.version_folder import Manifest
from tests.bench.workloads import Workload, open_async_client, open_client, workloads


@dataclass(frozen=True)
class Served:
    """The model under load: its task, its server's address and its name there."""

    task: str
    target: str
    model: str


def main(target: str, model: str, folder: str) -> None:
    """Carries out one command a line until standard input ends."""
    served = Served(Manifest.read(Path(folder)).task, target, model)
    loads = {load.name: load for load in workloads(served.task, Path(folder))}
    for line in sys.stdin:
        command = json.loads(line)
        load, seconds = loads[command["workload"]], command["seconds"]
        if command["concurrency"] == 1:
            summary = send_blocking(served, load, seconds)
        else:
            summary = asyncio.run(send_async(served, load, seconds, command["concurrency"]))
        print(json.dumps(dataclasses.asdict(summary)), flush=True)


def send_blocking(served: Served, load: Workload, seconds: float) -> LatencySummary:
    """Sends one item after another."""
    client, ask = open_client(served.task, served.target, served.model)
    with client:
        call = partial(ask, **load.options)
        call(load.items[0])  # connects
        return time_sequential(call, repeated(load.items, seconds))


async def send_async(
    served: Served, load: Workload, seconds: float, concurrency: int
) -> LatencySummary:
    """Keeps `concurrency` items in flight, each a request of its own."""
    client, ask = open_async_client(served.task, served.target, served.model)
    async with client:
        call = partial(ask, **load.options)
        await call(load.items[0])  # connects
        return await time_concurrent(call, repeated(load.items, seconds), concurrency)


if __name__ == "__main__":
    main(*sys.argv[1:])
