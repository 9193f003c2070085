"""Sends requests from a process of its own, as told by JSON lines on standard input.

    python -m tests.bench.load_process TARGET MODEL VERSION_FOLDER

A line is `{"workload": "short", "concurrency": 8, "seconds": 2.0}`; the answer is one line with a
`LatencySummary`. Concurrency 1 uses the blocking client, more the asyncio one.
"""

import asyncio
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.demo.latency import LatencySummary, repeated, time_concurrent, time_sequential
from protocol.version_folder import Manifest
from tests.bench.workloads import open_async_client, open_client, workloads


@dataclass(frozen=True)
class Served:
    """The model under load: its task, its server's address and its name there."""

    task: str
    target: str
    model: str


def main(target: str, model: str, folder: str) -> None:
    """Carries out one command a line until standard input ends."""
    served = Served(Manifest.read(Path(folder)).task, target, model)
    items = {load.name: load.items for load in workloads(served.task, Path(folder))}
    for line in sys.stdin:
        command = json.loads(line)
        sent, seconds = items[command["workload"]], command["seconds"]
        if command["concurrency"] == 1:
            summary = send_blocking(served, sent, seconds)
        else:
            summary = asyncio.run(send_async(served, sent, seconds, command["concurrency"]))
        print(json.dumps(dataclasses.asdict(summary)), flush=True)


def send_blocking(served: Served, items: Sequence[Any], seconds: float) -> LatencySummary:
    """Sends one item after another."""
    client, ask = open_client(served.task, served.target, served.model)
    with client:
        ask(items[0])  # connects
        return time_sequential(ask, repeated(items, seconds))


async def send_async(
    served: Served, items: Sequence[Any], seconds: float, concurrency: int
) -> LatencySummary:
    """Keeps `concurrency` items in flight, each a request of its own."""
    client, ask = open_async_client(served.task, served.target, served.model)
    async with client:
        await ask(items[0])  # connects
        return await time_concurrent(ask, repeated(items, seconds), concurrency)


if __name__ == "__main__":
    main(*sys.argv[1:])
