"""Joins requests that wait at the same time into one run of the model.

Batching is greedy: a request that finds a worker thread free runs at once, and whatever arrives
while all threads are busy goes together into the next batch. Only requests of one signature and
one batch key are joined, so that short texts are never padded to the length of a long one.
Everything here but `run_batch` lives on the event loop. A model whose runs take but a fraction of
a millisecond runs there as well: a thread would take longer to wake up.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from protocol.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidRequestError,
    ResourceExhaustedError,
    ServiceError,
    UnavailableError,
)
from protocol.pipelines import Prepared
from serving.core.servable import Servable, Tensors

log = logging.getLogger(__name__)

Result = Tensors | ServiceError

# Waiting requests per queue where batching is off.
_UNBATCHED_QUEUE = 1000

# A run this short, on this little input, is done in the event loop itself.
_LIGHT_RUN_S = 0.0003
_LIGHT_BYTES = 8192
_FORGETTING = 0.9


@dataclass(frozen=True)
class BatchingOptions:
    """The knobs of one queue, named as in TensorFlow Serving's `BatchingParameters`.

    Attributes:
        max_batch_size: Most rows in one run, and in one request; None lifts the limit.
        batch_timeout_micros: How long the first request of a batch may wait for company while
            a thread is free; 0 does not wait.
        max_enqueued_batches: Full batches that may wait before requests are refused.
        num_batch_threads: Runs that may be under way at once, over all models.
        thread_pool_name: Metric label.
        max_batch_requests: Most requests in one run; 1 switches batching off.
    """

    max_batch_size: int | None = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    thread_pool_name: str = "batch_threads"
    max_batch_requests: int | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("max_batch_size", 1),
            ("batch_timeout_micros", 0),
            ("max_enqueued_batches", 1),
            ("num_batch_threads", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InvalidRequestError(f"{name} must be at least {least}; was {value}")

    @property
    def room(self) -> int:
        """What may wait in a queue, counted in rows, or in requests where rows have no limit."""
        return self.max_enqueued_batches * (self.max_batch_size or 1)

    def cost(self, item: Prepared) -> int:
        """What a request takes of the room; an empty one takes some too."""
        return 1 if self.max_batch_size is None else max(item.rows, 1)


def unbatched(threads: int) -> BatchingOptions:
    """The options of a server that runs every request on its own."""
    return BatchingOptions(
        max_batch_size=None,
        max_enqueued_batches=_UNBATCHED_QUEUE,
        num_batch_threads=threads,
        max_batch_requests=1,
    )


class BatchObserver(Protocol):
    """Is told what happens in a queue."""

    def queued(self, tasks: int) -> None:
        """The queue holds `tasks` requests now."""
        ...

    def started(self, rows: Sequence[int], waits_s: Sequence[float]) -> None:
        """A run starts; its requests have these rows and waited this long."""
        ...

    def finished(self, seconds: float) -> None:
        """A run took `seconds`."""
        ...


def run_batch(servable: Servable, signature: str, items: Sequence[Prepared]) -> list[Result]:
    """Runs requests together; if that fails, each alone, so that only the guilty ones fail.

    Args:
        servable: What to run.
        signature: The signature they ask for.
        items: Prepared requests of one batch key.

    Returns:
        For each request its outputs or its error, in order.
    """
    if len(items) > 1:
        try:
            return _run_merged(servable, signature, items)
        except Exception as error:
            log.info("A batch of %d requests failed and runs one by one: %s", len(items), error)
    return [_run_alone(servable, signature, item) for item in items]


def _run_merged(servable: Servable, signature: str, items: Sequence[Prepared]) -> list[Result]:
    outputs = servable.run(signature, servable.merge(signature, items))
    rows = sum(item.rows for item in items)
    for name, values in outputs.items():
        if values.ndim == 0:
            raise FailedPreconditionError(f"Batched output tensor has 0 dimensions: {name}")
        if len(values) != rows:
            raise FailedPreconditionError(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                f"dimension sizes of the input tensors: {name} has {len(values)}, expected {rows}"
            )
    results: list[Result] = []
    start = 0
    for item in items:
        mine = {name: values[start : start + item.rows] for name, values in outputs.items()}
        results.append(_finish(servable, signature, mine, item))
        start += item.rows
    return results


def _run_alone(servable: Servable, signature: str, item: Prepared) -> Result:
    try:
        outputs = servable.run(signature, servable.merge(signature, [item]))
    except Exception as error:
        return _as_service_error(error)
    return _finish(servable, signature, outputs, item)


def _finish(servable: Servable, signature: str, outputs: Tensors, item: Prepared) -> Result:
    try:
        return servable.finish(signature, outputs, item)
    except Exception as error:
        return _as_service_error(error)


def _as_service_error(error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    log.error("A run ended in an unexpected error", exc_info=error)
    return InternalError(f"{type(error).__name__}: {error}")


class _Task:
    """One waiting or running request."""

    __slots__ = ("arrived", "future", "item", "running", "timer")

    def __init__(self, item: Prepared, future: asyncio.Future[Tensors]) -> None:
        self.item = item
        self.future = future
        self.arrived = time.perf_counter()
        self.running = False
        self.timer: asyncio.TimerHandle | None = None

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def resolve(self, result: Result) -> None:
        self.stop_timer()
        if self.future.done():
            return
        if isinstance(result, ServiceError):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)

    def expire(self) -> None:
        """The deadline has come; a waiting request is dropped, a running one is not waited for."""
        if self.running:
            self.resolve(DeadlineExceededError("Timed out waiting for notification"))
        else:
            self.resolve(
                ResourceExhaustedError("Run() timeout exceeded while waiting in batching queue")
            )


class BatchQueue:
    """The waiting requests of one signature of one version.

    Args:
        scheduler: Lends the worker threads.
        run: Answers a batch; blocking, called in a worker thread.
        options: Sizes and limits.
        observer: Gets the numbers for the metrics.
    """

    def __init__(
        self,
        scheduler: BatchScheduler,
        run: Callable[[Sequence[Prepared]], list[Result]],
        options: BatchingOptions,
        observer: BatchObserver,
    ) -> None:
        self._run = run
        self.pace = Pace()
        self._observer = observer
        self._scheduler = scheduler
        self._options = options
        self._waiting: dict[Hashable, deque[_Task]] = {}
        self._tasks = 0
        self._load = 0
        self._alarm: asyncio.TimerHandle | None = None

    def check_rows(self, rows: int) -> None:
        """Refuses a request that fits in no batch, if need be before it is prepared.

        Raises:
            InvalidRequestError: It has more rows than fit in a batch.
        """
        limit = self._options.max_batch_size
        if limit is not None and rows > limit:
            raise InvalidRequestError(
                f"Task size {rows} is larger than maximum input batch size {limit}"
            )

    def submit(self, item: Prepared, deadline: float | None = None) -> asyncio.Future[Tensors]:
        """Queues a prepared request.

        Args:
            item: The request.
            deadline: When to give up, in the event loop's time.

        Returns:
            A future of the signature's outputs; cancelling it takes the request out of the queue.

        Raises:
            InvalidRequestError: It has more rows than fit in a batch.
            UnavailableError: The queue is full.
        """
        self.check_rows(item.rows)
        self._make_room(item)
        loop = asyncio.get_running_loop()
        task = _Task(item, loop.create_future())
        if deadline is not None:
            task.timer = loop.call_at(deadline, task.expire)
        self._waiting.setdefault(item.batch_key, deque()).append(task)
        self._count(1, item)
        self._scheduler.wake(self)
        return task.future

    def take(self) -> list[_Task]:
        """Takes the next batch out of the queue; empty while it is worth waiting for more."""
        self._drop_finished_heads()
        if not self._waiting:
            return []
        key = min(self._waiting, key=lambda key: self._waiting[key][0].arrived)
        group = self._waiting[key]
        if not self._is_due(group):
            return []
        batch = self._fill(group)
        if not group:
            del self._waiting[key]
        now = time.perf_counter()
        self._observer.started(
            [task.item.rows for task in batch], [now - task.arrived for task in batch]
        )
        return batch

    def run(self, items: Sequence[Prepared]) -> tuple[list[Result], float]:
        """Answers a batch, and tells how much processor time this thread spent on it."""
        started = time.thread_time()
        return self._run(items), time.thread_time() - started

    def ran(self, busy_s: float, wall_s: float) -> None:
        """Records how long a run of this queue took."""
        self.pace.observe(busy_s)
        self._observer.finished(wall_s)

    @property
    def has_waiting(self) -> bool:
        """Whether a request waits."""
        return bool(self._waiting)

    def _fill(self, group: deque[_Task]) -> list[_Task]:
        """Moves tasks from the head of `group` into a batch, up to the limits."""
        batch: list[_Task] = []
        rows = 0
        while group and self._fits(len(batch), rows + group[0].item.rows):
            task = group.popleft()
            if task.future.done():
                self._discard(task)
                continue
            self._count(-1, task.item)
            task.running = True
            batch.append(task)
            rows += task.item.rows
        return batch

    def _fits(self, requests: int, rows: int) -> bool:
        options = self._options
        if requests == 0:
            return True
        return (options.max_batch_requests is None or requests < options.max_batch_requests) and (
            options.max_batch_size is None or rows <= options.max_batch_size
        )

    def _is_due(self, group: deque[_Task]) -> bool:
        """Whether the batch at the head is full or has waited its time; else sets an alarm."""
        timeout_s = self._options.batch_timeout_micros / 1e6
        if timeout_s <= 0:
            return True
        if not self._fits(len(group), sum(task.item.rows for task in group) + 1):
            return True
        remaining_s = group[0].arrived + timeout_s - time.perf_counter()
        if remaining_s <= 0:
            return True
        if self._alarm is not None:
            self._alarm.cancel()
        loop = asyncio.get_running_loop()
        self._alarm = loop.call_later(remaining_s, self._scheduler.wake, self)
        return False

    def _make_room(self, item: Prepared) -> None:
        room = self._options.room - self._options.cost(item)
        if self._load > room:
            self._drop_finished()
        if self._load > room:
            batches = -(-self._load // (self._options.max_batch_size or 1))
            raise UnavailableError(
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{batches} batches enqueued and max_enqueued_batches is "
                f"{self._options.max_enqueued_batches}"
            )

    def _drop_finished_heads(self) -> None:
        """Removes cancelled and expired requests from the head of each group."""
        for key, group in list(self._waiting.items()):
            while group and group[0].future.done():
                self._discard(group.popleft())
            if not group:
                del self._waiting[key]

    def _drop_finished(self) -> None:
        """Removes all cancelled and expired requests."""
        for key, group in list(self._waiting.items()):
            for task in [task for task in group if task.future.done()]:
                group.remove(task)
                self._discard(task)
            if not group:
                del self._waiting[key]

    def _discard(self, task: _Task) -> None:
        task.stop_timer()
        self._count(-1, task.item)

    def _count(self, sign: int, item: Prepared) -> None:
        self._tasks += sign
        self._load += sign * self._options.cost(item)
        self._observer.queued(self._tasks)


class Pace:
    """Tells whether runs are so short that handing them to a thread would cost more.

    It remembers the slowest run (in processor time, which other processes do not lengthen) and
    slowly forgets it: a queue has to prove itself over many runs, and a single slow run sends it
    back to the threads.
    """

    def __init__(self) -> None:
        self._slowest_s = 1.0

    def observe(self, seconds: float) -> None:
        """Records a run."""
        self._slowest_s = max(seconds, self._slowest_s * _FORGETTING)

    def is_light(self, items: Sequence[Prepared]) -> bool:
        """Whether a run of these requests may hold up the event loop."""
        if self._slowest_s > _LIGHT_RUN_S:
            return False
        return (
            sum(array.nbytes for item in items for array in item.tensors.values()) <= _LIGHT_BYTES
        )


class BatchScheduler:
    """Lends worker threads to the queues in turn; the lightest runs need none.

    Args:
        executor: The threads.
        threads: How many runs may be under way at once.
    """

    def __init__(self, executor: Executor, threads: int) -> None:
        self._executor = executor
        self._threads = threads
        self._free = threads
        self._turn: deque[BatchQueue] = deque()
        self._called = False

    @property
    def is_idle(self) -> bool:
        """Whether no thread is at work."""
        return self._free == self._threads

    def wake(self, queue: BatchQueue) -> None:
        """Runs the queue's next batch as soon as a thread is free.

        Not before the event loop's next turn: requests that came with this turn go together.
        """
        if queue not in self._turn:
            self._turn.append(queue)
        if not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._called = False
        while self._free and self._turn:
            queue = self._turn.popleft()
            batch = queue.take()
            if batch:
                self._start(queue, batch)
                if queue.has_waiting:
                    self._turn.append(queue)

    def _start(self, queue: BatchQueue, batch: list[_Task]) -> None:
        items = [task.item for task in batch]
        if queue.pace.is_light(items):
            self._run_here(queue, batch, items)
            return
        self._free -= 1
        future = asyncio.get_running_loop().run_in_executor(self._executor, queue.run, items)
        future.add_done_callback(partial(self._finish, queue, batch, time.perf_counter()))

    def _run_here(self, queue: BatchQueue, batch: list[_Task], items: list[Prepared]) -> None:
        started = time.perf_counter()
        results, busy_s = queue.run(items)
        queue.ran(busy_s, time.perf_counter() - started)
        for task, result in zip(batch, results, strict=True):
            task.resolve(result)

    def _finish(
        self,
        queue: BatchQueue,
        batch: list[_Task],
        started: float,
        future: asyncio.Future[tuple[list[Result], float]],
    ) -> None:
        self._free += 1
        error = future.exception()
        results: Sequence[Result]
        if error is None:
            results, busy_s = future.result()
            queue.ran(busy_s, time.perf_counter() - started)
        else:
            results = [InternalError(f"{type(error).__name__}: {error}")] * len(batch)
        for task, result in zip(batch, results, strict=True):
            task.resolve(result)
        self._dispatch()
