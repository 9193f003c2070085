"""Sends requests from a process of its own, as told by JSON lines on standard input.

    python -m tests.bench.load_process TARGET MODEL

A line is `{"texts": "short", "concurrency": 8, "seconds": 2.0}`; the answer is one line with a
`LatencySummary`. Concurrency 1 uses the blocking client, more the asyncio one.
"""

import asyncio
import dataclasses
import json
import sys
from collections.abc import Sequence

from clients import AsyncSentimentClient, SentimentClient
from clients.demo.latency import LatencySummary, repeated, time_concurrent, time_sequential
from tests.bench.texts import TEXTS


def main(target: str, model: str) -> None:
    """Carries out one command a line until standard input ends."""
    for line in sys.stdin:
        command = json.loads(line)
        texts, seconds = TEXTS[command["texts"]], command["seconds"]
        if command["concurrency"] == 1:
            summary = send_blocking(target, model, texts, seconds)
        else:
            summary = asyncio.run(send_async(target, model, texts, seconds, command["concurrency"]))
        print(json.dumps(dataclasses.asdict(summary)), flush=True)


def send_blocking(target: str, model: str, texts: Sequence[str], seconds: float) -> LatencySummary:
    """Sends one text after another."""
    with SentimentClient(target, model=model) as client:
        client.classify_one(texts[0])  # connects
        return time_sequential(client.classify_one, repeated(texts, seconds))


async def send_async(
    target: str, model: str, texts: Sequence[str], seconds: float, concurrency: int
) -> LatencySummary:
    """Keeps `concurrency` texts in flight, each a request of its own."""
    async with AsyncSentimentClient(target, model=model) as client:
        await client.classify_one(texts[0])  # connects
        return await time_concurrent(client.classify_one, repeated(texts, seconds), concurrency)


if __name__ == "__main__":
    main(*sys.argv[1:])
