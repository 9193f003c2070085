"""Joins requests that wait at the same time into one run of the model.

Batching is greedy: a request that finds a worker thread free runs at once, and whatever arrives
while all threads are busy goes together into the next batch. Only requests of one signature and
one batch key are joined, so that short texts are never padded to the length of a long one.
Everything here but `run_batch` lives on the event loop. A model whose runs take a millisecond or
two runs there as well: a thread would take longer to wake up, and to hand over the interpreter.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from bisect import bisect_left
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
from serving.core.batch_shape import Part, fill_up, has_rows, pad_alike, ragged_key, split
from serving.core.servable import Servable, Tensors
from serving.core.work_time import work_time

log = logging.getLogger(__name__)

Result = Tensors | ServiceError

# The answer to a part of a request while others have still to come.
_UNFINISHED: Tensors = {}

# Waiting requests per queue where batching is off.
_UNBATCHED_QUEUE = 1000

# A run this short, on this little input, is done in the event loop itself.
_LIGHT_RUN_S = 0.002
# Input that is trusted to be light before larger one has been seen to be.
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
        allowed_batch_sizes: Rows that a run may have, in increasing order; a smaller run is
            filled up to the next of them. Empty allows every size.
        pad_variable_length_inputs: Join requests whose tensors differ in other dimensions than
            the first, padded to one shape.
        enable_large_batch_splitting: Cut a request that is larger than a run into parts.
        max_execution_batch_size: Most rows in one run where requests are cut; None stands for
            max_batch_size.
    """

    max_batch_size: int | None = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    thread_pool_name: str = "batch_threads"
    max_batch_requests: int | None = None
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("max_batch_size", 1),
            ("batch_timeout_micros", 0),
            ("max_enqueued_batches", 1),
            ("num_batch_threads", 1),
            ("max_execution_batch_size", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InvalidRequestError(f"{name} must be at least {least}; was {value}")
        self._check_splitting()
        self._check_allowed_sizes()

    def _check_splitting(self) -> None:
        largest, request = self.largest_run, self.max_batch_size
        if largest is not None and request is not None and largest > request:
            raise InvalidRequestError(
                "max_batch_size must be greater than or equal to max_execution_batch_size; "
                f"max_batch_size was {request} and max_execution_batch_size was {largest}"
            )

    def _check_allowed_sizes(self) -> None:
        sizes = self.allowed_batch_sizes
        if not sizes:
            return
        if list(sizes) != sorted(set(sizes)) or sizes[0] < 1:
            raise InvalidRequestError(
                f"allowed_batch_sizes entries must be increasing; were {list(sizes)}"
            )
        if sizes[-1] not in (self.max_batch_size, self.largest_run):
            raise InvalidRequestError(
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                f"{sizes[-1]}; expected {self.max_batch_size}"
            )

    @property
    def largest_run(self) -> int | None:
        """Most rows in one run; None lifts the limit."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size is not None:
            return self.max_execution_batch_size
        return self.max_batch_size

    @property
    def room(self) -> int:
        """What may wait in a queue, counted in rows, or in requests where rows have no limit."""
        room = self.max_enqueued_batches * (self.largest_run or 1)
        # The largest request finds room in an empty queue.
        return max(room, self.max_batch_size or 1)

    def filled_up(self, rows: int) -> int:
        """The rows that a run of so many rows gets."""
        sizes = self.allowed_batch_sizes
        return sizes[bisect_left(sizes, rows)] if sizes and rows <= sizes[-1] else rows

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

    def started(
        self, rows: int, filled_up: int, requests: Sequence[int], waits_s: Sequence[float]
    ) -> None:
        """A run starts.

        Args:
            rows: Rows of its requests.
            filled_up: Rows that it has with padding.
            requests: Rows of each request; one that runs in parts is told with its first.
            waits_s: How long each request or part waited.
        """
        ...

    def finished(self, seconds: float) -> None:
        """A run took `seconds`."""
        ...


_AS_THEY_COME = BatchingOptions()


def run_batch(
    servable: Servable,
    signature: str,
    items: Sequence[Prepared],
    options: BatchingOptions = _AS_THEY_COME,
) -> list[Result]:
    """Runs requests together; if that fails, each alone, so that only the guilty ones fail.

    Args:
        servable: What to run.
        signature: The signature they ask for.
        items: Prepared requests, or parts of some, of one batch key.
        options: Tell how tensors are padded.

    Returns:
        For each request its outputs or its error, in order.
    """
    if len(items) > 1:
        try:
            return _run_merged(servable, signature, items, options)
        except Exception as error:
            log.info("A batch of %d requests failed and runs one by one: %s", len(items), error)
    return [_run_alone(servable, signature, item, options) for item in items]


def _run_merged(
    servable: Servable, signature: str, items: Sequence[Prepared], options: BatchingOptions
) -> list[Result]:
    alike = pad_alike(items) if options.pad_variable_length_inputs and items[0].pads else items
    tensors = servable.merge(signature, alike)
    rows = sum(item.rows for item in items)
    filled_up = options.filled_up(rows)
    if filled_up > rows > 0:
        tensors = fill_up(tensors, min(rows - items[-1].rows, rows - 1), filled_up - rows)
        outputs = servable.run(signature, tensors)
        _check_rows(outputs, filled_up)
    else:
        outputs = servable.run(signature, tensors)
        _check_rows(outputs, rows)
    results: list[Result] = []
    start = 0
    for item in items:
        mine = {name: values[start : start + item.rows] for name, values in outputs.items()}
        results.append(_finish(servable, signature, mine, item))
        start += item.rows
    return results


def _check_rows(outputs: Tensors, rows: int) -> None:
    for name, values in outputs.items():
        if values.ndim == 0:
            raise FailedPreconditionError(f"Batched output tensor has 0 dimensions: {name}")
        if len(values) != rows:
            raise FailedPreconditionError(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                f"dimension sizes of the input tensors: {name} has {len(values)}, expected {rows}"
            )


def _run_alone(
    servable: Servable, signature: str, item: Prepared, options: BatchingOptions
) -> Result:
    try:
        outputs = _outputs_alone(servable, signature, item, options)
        if isinstance(item, Part):
            _check_rows(outputs, item.rows)
    except Exception as error:
        return _as_service_error(error)
    return _finish(servable, signature, outputs, item)


def _outputs_alone(
    servable: Servable, signature: str, item: Prepared, options: BatchingOptions
) -> Tensors:
    """The raw outputs of one request, filled up where its tensors and outputs have rows."""
    tensors = servable.merge(signature, [item])
    filled_up = options.filled_up(item.rows)
    if filled_up > item.rows > 0 and has_rows(item):
        outputs = servable.run(signature, fill_up(tensors, 0, filled_up - item.rows))
        if all(values.ndim and len(values) == filled_up for values in outputs.values()):
            return {name: values[: item.rows] for name, values in outputs.items()}
    return servable.run(signature, tensors)


def _finish(servable: Servable, signature: str, outputs: Tensors, item: Prepared) -> Result:
    try:
        if not isinstance(item, Part):
            return servable.finish(signature, outputs, item)
        joined = item.whole.add(item.place, outputs)
        if joined is None:
            return _UNFINISHED
        return servable.finish(signature, joined, item.whole.item)
    except Exception as error:
        return _as_service_error(error)


def _as_service_error(error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    log.error("A run ended in an unexpected error", exc_info=error)
    return InternalError(f"{type(error).__name__}: {error}")


class _Task:
    """One waiting or running request, or a part of one; its parts have their future in common."""

    __slots__ = ("arrived", "deadline", "future", "item", "running", "timer")

    def __init__(
        self, item: Prepared, future: asyncio.Future[Tensors], deadline: float | None
    ) -> None:
        self.item = item
        self.future = future
        self.deadline = deadline
        self.arrived = time.perf_counter()
        self.running = False
        self.timer: asyncio.TimerHandle | None = None

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def resolve(self, result: Result) -> None:
        if result is _UNFINISHED:
            return
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
        self._largest_run = options.largest_run
        self._splits = options.largest_run != options.max_batch_size
        self._pads = options.pad_variable_length_inputs
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
        future: asyncio.Future[Tensors] = loop.create_future()
        if self._is_split(item):
            tasks = [_Task(part, future, deadline) for part in split(item, self._largest_run or 1)]
        else:
            tasks = [_Task(item, future, deadline)]
        if deadline is not None:
            timer = loop.call_at(deadline, tasks[0].expire)
            for task in tasks:
                task.timer = timer
        key = ragged_key(item) if self._pads else item.batch_key
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = deque()
        for task in tasks:
            waiting.append(task)
            self._count(1, task.item)
        self._scheduler.wake(self)
        return future

    def _is_split(self, item: Prepared) -> bool:
        return self._splits and item.rows > (self._largest_run or item.rows) and has_rows(item)

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
        if batch:
            self._announce(batch)
        return batch

    def _announce(self, batch: Sequence[_Task]) -> None:
        now = time.perf_counter()
        sizes = [task.item.rows for task in batch]
        rows = sum(sizes)
        if self._splits:
            sizes = [size for task in batch for size in _request_rows(task.item)]
        waits_s = [now - task.arrived for task in batch]
        self._observer.started(rows, self._options.filled_up(rows), sizes, waits_s)

    def run(self, items: Sequence[Prepared]) -> tuple[list[Result], float]:
        """Answers a batch, and tells how much work it was, see `work_time`."""
        started = work_time()
        return self._run(items), work_time() - started

    def ran(self, items: Sequence[Prepared], busy_s: float, wall_s: float) -> None:
        """Records how long a run of this queue took."""
        self.pace.observe(busy_s, items)
        self._observer.finished(wall_s)

    @property
    def has_waiting(self) -> bool:
        """Whether a request waits."""
        return bool(self._waiting)

    def _fill(self, group: deque[_Task]) -> list[_Task]:
        """Moves tasks from the head of `group` into a batch, up to the limits."""
        batch: list[_Task] = []
        rows = 0
        now = asyncio.get_running_loop().time()
        while group and self._fits(len(batch), rows + group[0].item.rows):
            task = group.popleft()
            if task.deadline is not None and task.deadline <= now:
                task.expire()
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
            self._largest_run is None or rows <= self._largest_run
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
            batches = -(-self._load // (self._largest_run or 1))
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


def _request_rows(item: Prepared) -> tuple[int, ...]:
    """The rows of the request that begins here; a part that is not the first begins none."""
    if not isinstance(item, Part):
        return (item.rows,)
    return (item.whole.item.rows,) if item.place == 0 else ()


class Pace:
    """Tells whether runs are so short that handing them to a thread would cost more.

    It remembers the slowest run (in work time, which other processes do not lengthen) and slowly
    forgets it: a queue has to prove itself over many runs, and a single slow run sends it back to
    the threads. A run of much more input than any that was short is not trusted to be short.
    """

    def __init__(self) -> None:
        self._slowest_s = 1.0
        self._proven_bytes = _LIGHT_BYTES

    def observe(self, seconds: float, items: Sequence[Prepared]) -> None:
        """Records a run of these requests."""
        self._slowest_s = max(seconds, self._slowest_s * _FORGETTING)
        if seconds > _LIGHT_RUN_S:
            self._proven_bytes = _LIGHT_BYTES
        else:
            self._proven_bytes = max(self._proven_bytes, _input_bytes(items))

    def is_light(self, items: Sequence[Prepared]) -> bool:
        """Whether a run of these requests may hold up the event loop."""
        return self._slowest_s <= _LIGHT_RUN_S and _input_bytes(items) <= 2 * self._proven_bytes


def _input_bytes(items: Sequence[Prepared]) -> int:
    return sum(array.nbytes for item in items for array in item.tensors.values())


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
        queue.ran(items, busy_s, time.perf_counter() - started)
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
            items = [task.item for task in batch]
            queue.ran(items, busy_s, time.perf_counter() - started)
        else:
            results = [InternalError(f"{type(error).__name__}: {error}")] * len(batch)
        for task, result in zip(batch, results, strict=True):
            task.resolve(result)
        self._dispatch()
