"""When a failed call is tried again, and how long it waits before that."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from protocol.errors import ServiceError


@dataclass(frozen=True)
class Backoff:
    """Exponentially growing waits with jitter.

    The wait before retry k (0, 1, ...) is `initial_s * multiplier ** k`, at most `max_s`, times a
    random factor in [1 - jitter, 1]: clients that failed together do not come back together.

    Raises:
        ValueError: A field is out of range.
    """

    initial_s: float = 0.1
    multiplier: float = 2.0
    max_s: float = 2.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if self.initial_s <= 0:
            raise ValueError(f"initial_s: expected seconds > 0, got {self.initial_s}")
        if self.multiplier < 1:
            raise ValueError(f"multiplier: expected 1 or more, got {self.multiplier}")
        if self.max_s < self.initial_s:
            raise ValueError(
                f"max_s: expected at least initial_s={self.initial_s}, got {self.max_s}"
            )
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter: expected a number in [0, 1], got {self.jitter}")

    def wait_s(self, retry: int, uniform: Callable[[], float] = random.random) -> float:
        """Returns the wait in seconds before retry number `retry` (from 0).

        Args:
            retry: Number of retries made so far.
            uniform: Source of random numbers in [0, 1).
        """
        # The exponent is bounded so that a very large `retry` cannot overflow a float.
        grown = self.initial_s * self.multiplier ** min(retry, 64)
        return min(grown, self.max_s) * (1 - self.jitter * uniform())


class Attempts:
    """The attempts of one call within one deadline: pure bookkeeping, it neither sends nor sleeps.

    Args:
        timeout_s: Seconds for the whole call.
        max_retries: Attempts after the first one.
        backoff: Waits between attempts.
        clock: Monotonic time in seconds.
        uniform: Source of random numbers in [0, 1).
    """

    def __init__(
        self,
        timeout_s: float,
        max_retries: int,
        backoff: Backoff,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self.retries = 0
        self._max_retries = max_retries
        self._backoff = backoff
        self._clock = clock
        self._uniform = uniform
        self._deadline = clock() + timeout_s

    def remaining_s(self) -> float:
        """Returns the seconds left until the deadline: the time limit of the next attempt."""
        return max(0.0, self._deadline - self._clock())

    def wait_after(self, error: ServiceError) -> float:
        """Counts a retry and returns the seconds to wait before it.

        Raises:
            ServiceError: `error` itself, if a retry cannot help, none is left, or the wait
                would not end before the deadline.
        """
        if not error.retryable or self.retries >= self._max_retries:
            raise error
        wait_s = self._backoff.wait_s(self.retries, self._uniform)
        if wait_s >= self.remaining_s():
            raise error
        self.retries += 1
        return wait_s
