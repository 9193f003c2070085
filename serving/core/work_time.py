"""How long a thread has worked, with what other threads did for it.

Processor time tells how heavy a run is, and other processes do not lengthen it; but a thread that
waits for an engine's own threads spends none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_own = threading.local()


def work_time() -> float:
    """Seconds of processor time of this thread, and seconds it spent in `working_elsewhere`."""
    return time.thread_time() + getattr(_own, "elsewhere_s", 0.0)


@contextmanager
def working_elsewhere() -> Iterator[None]:
    """Counts the time of a block, in which other threads work for this one."""
    wall, processor = time.perf_counter(), time.thread_time()
    try:
        yield
    finally:
        waited = (time.perf_counter() - wall) - (time.thread_time() - processor)
        _own.elsewhere_s = getattr(_own, "elsewhere_s", 0.0) + max(waited, 0.0)
