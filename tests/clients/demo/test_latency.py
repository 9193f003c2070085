"""Timing of calls."""

import asyncio
import time

import pytest

from clients.demo.latency import LatencySummary, repeated, time_concurrent, time_sequential


def test_summary() -> None:
    summary = LatencySummary.of([index / 1000 for index in range(101)], seconds=2.0)
    assert summary.calls == 101
    assert summary.p50_ms == pytest.approx(50)
    assert summary.p99_ms == pytest.approx(99)
    assert summary.per_second == 50.5


def test_nothing_to_summarise() -> None:
    with pytest.raises(ValueError, match="latencies_s"):
        LatencySummary.of([], 1.0)


def test_sequential_calls_each_item_once_in_order() -> None:
    seen: list[int] = []
    assert time_sequential(seen.append, range(5)).calls == 5
    assert seen == [0, 1, 2, 3, 4]


async def test_concurrent_calls_overlap_up_to_the_limit() -> None:
    running, most, seen = 0, 0, []

    async def call(item: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        seen.append(item)

    summary = await time_concurrent(call, range(20), concurrency=4)
    assert summary.calls == 20
    assert sorted(seen) == list(range(20))
    assert most == 4


async def test_concurrent_raises_what_a_call_raised() -> None:
    async def fail(item: int) -> None:
        raise KeyError(item)

    with pytest.raises(KeyError):
        await time_concurrent(fail, [1, 2, 3], concurrency=2)


def test_repeated_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(now)))
    assert list(repeated("ab", seconds=3.0)) == ["a", "b", "a"]


def test_repeated_yields_at_least_one() -> None:
    assert list(repeated("ab", seconds=0.0)) == ["a"]
