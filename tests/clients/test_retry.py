"""Waits between attempts, and the deadline they never pass."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.retry import Attempts, Backoff
from protocol.errors import InternalError, UnavailableError


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_waits_double_up_to_the_limit() -> None:
    backoff = Backoff(initial_s=0.1, multiplier=2.0, max_s=0.5, jitter=0.0)
    assert [backoff.wait_s(retry) for retry in range(5)] == [0.1, 0.2, 0.4, 0.5, 0.5]


@given(
    retry=st.integers(0, 10_000),
    jitter=st.floats(0, 1),
    uniform=st.floats(0, 1, exclude_max=True),
)
def test_jitter_only_shortens(retry: int, jitter: float, uniform: float) -> None:
    backoff = Backoff(jitter=jitter)
    full = Backoff(jitter=0.0).wait_s(retry)
    assert full * (1 - jitter) <= backoff.wait_s(retry, lambda: uniform) <= full


@pytest.mark.parametrize(
    "fields", [{"initial_s": 0}, {"multiplier": 0.5}, {"max_s": 0.01}, {"jitter": 1.5}]
)
def test_backoff_rejects(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        Backoff(**fields)


def attempts(clock: Clock, timeout_s: float = 1.0, max_retries: int = 3) -> Attempts:
    return Attempts(timeout_s, max_retries, Backoff(jitter=0.0), clock)


def test_gives_up_after_the_last_retry() -> None:
    error = UnavailableError("down")
    found = attempts(Clock(), max_retries=2)
    assert [found.wait_after(error) for _ in range(2)] == [0.1, 0.2]
    with pytest.raises(UnavailableError) as caught:
        found.wait_after(error)
    assert caught.value is error
    assert found.retries == 2


def test_other_errors_are_not_retried() -> None:
    with pytest.raises(InternalError):
        attempts(Clock()).wait_after(InternalError("bug"))


def test_remaining_time_shrinks_to_zero() -> None:
    clock = Clock()
    found = attempts(clock)
    clock.now += 0.75
    assert found.remaining_s() == pytest.approx(0.25)
    clock.now += 5
    assert found.remaining_s() == 0.0


@given(timeout_s=st.floats(0.01, 5), durations=st.lists(st.floats(0, 1), min_size=50, max_size=50))
def test_waits_end_before_the_deadline(timeout_s: float, durations: list[float]) -> None:
    clock = Clock()
    deadline = clock.now + timeout_s
    found = attempts(clock, timeout_s, max_retries=1000)

    def keep_trying() -> None:
        for duration in itertools.chain(durations, itertools.repeat(1.0)):
            clock.now += duration
            clock.now += found.wait_after(UnavailableError("down"))
            assert clock.now < deadline

    with pytest.raises(UnavailableError):
        keep_trying()
