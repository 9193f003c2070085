"""Times calls, one after another or many at once."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


@dataclass(frozen=True)
class LatencySummary:
    """How long calls took.

    Args:
        calls: Number of calls.
        seconds: Time from the start of the first to the end of the last.
        p50_ms: Half of the calls were at least as fast.
        p99_ms: 99 of 100 calls were at least as fast.
    """

    calls: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Calls per second."""
        return self.calls / self.seconds

    def line(self, how: str) -> str:
        """Says it on one line.

        Args:
            how: In which way the calls were made.
        """
        return (
            f"{self.calls} calls, {how}: p50 {self.p50_ms:.1f} ms, "
            f"p99 {self.p99_ms:.1f} ms, {self.per_second:,.0f} calls/s"
        )

    @classmethod
    def of(cls, latencies_s: Sequence[float], seconds: float) -> "LatencySummary":
        """Summarises the latencies of calls that took `seconds` together.

        Raises:
            ValueError: There are no latencies.
        """
        if not latencies_s:
            raise ValueError("latencies_s: expected one call or more, got none")
        p50, p99 = np.percentile(latencies_s, (50, 99)) * 1000
        return cls(len(latencies_s), seconds, float(p50), float(p99))


def repeated(items: Sequence[Item], seconds: float) -> Iterator[Item]:
    """Yields the items over and over until `seconds` have passed, but at least one."""
    deadline = time.perf_counter() + seconds
    for item in itertools.cycle(items):
        yield item
        if time.perf_counter() >= deadline:
            return


def time_sequential(call: Callable[[Item], object], items: Iterable[Item]) -> LatencySummary:
    """Calls `call` with one item after another."""
    latencies_s = []
    started = time.perf_counter()
    for item in items:
        begun = time.perf_counter()
        call(item)
        latencies_s.append(time.perf_counter() - begun)
    return LatencySummary.of(latencies_s, time.perf_counter() - started)


async def time_concurrent(
    call: Callable[[Item], Awaitable[object]], items: Iterable[Item], concurrency: int
) -> LatencySummary:
    """Keeps `concurrency` calls in flight until all items are used.

    Raises:
        Exception: The first error of a call; the others are cancelled.
    """
    latencies_s: list[float] = []
    shared = iter(items)

    async def worker() -> None:
        for item in shared:
            begun = time.perf_counter()
            await call(item)
            latencies_s.append(time.perf_counter() - begun)

    started = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(concurrency):
                workers.create_task(worker())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return LatencySummary.of(latencies_s, time.perf_counter() - started)
