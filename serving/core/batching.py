"""Joins requests that wait at the same time into one run of the model.

Batching is greedy: a request that finds a worker thread free runs at once, and whatever arrives
while all threads are busy goes together into the next batch. Only requests of one signature and
one batch key are joined, so that short texts are never padded to the length of a long one.
All of this lives on the event loop, but for the runs. A model that takes less than half a
millisecond for a request runs there as well: a thread would take longer to wake up, and to hand
over the interpreter.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from protocol.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidRequestError,
    ResourceExhaustedError,
    ServiceError,
    UnavailableError,
)
from protocol.pipelines import Prepared
from serving.core.batch_shape import Part, has_rows, ragged_key, split
from serving.core.processors import USABLE_PROCESSORS
from serving.core.servable import Tensors
from serving.core.work_time import work_time

log = logging.getLogger(__name__)

Result = Tensors | ServiceError

# The answer to a part of a request while others have still to come.
UNFINISHED: Tensors = {}

# Waiting requests per queue where batching is off.
_UNBATCHED_QUEUE = 1000

# A run this short, with this little for each request, is done in the event loop itself. A longer
# request gains more from another core than the way to a thread costs.
_LIGHT_RUN_S = 0.002
_LIGHT_REQUEST_S = 0.0005
# Input that is trusted to be light before larger one has been seen to be.
_LIGHT_BYTES = 8192
_FORGETTING = 0.9
_UNPROVEN = 500.0


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
        enable_large_batch_splitting: Cut a request that is larger than a run into parts, if only
            the graph knows what its tensors mean.
        max_execution_batch_size: Most rows in one run where requests are cut; None stands for
            max_batch_size.
        max_joined_rows: Rows beyond which no further request joins a run; a larger request runs
            by itself. None joins as many as a run may have. Not in TensorFlow Serving.
    """

    max_batch_size: int | None = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = USABLE_PROCESSORS
    thread_pool_name: str = "batch_threads"
    max_batch_requests: int | None = None
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None
    max_joined_rows: int | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("max_batch_size", 1),
            ("batch_timeout_micros", 0),
            ("max_enqueued_batches", 1),
            ("num_batch_threads", 1),
            ("max_execution_batch_size", 1),
            ("max_joined_rows", 1),
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
    def most_joined(self) -> int | None:
        """Most rows of several requests in one run; None lifts the limit."""
        limits = [each for each in (self.largest_run, self.max_joined_rows) if each is not None]
        return min(limits, default=None)

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


class Ticket:
    """A request's place in a queue: who waits for the result, and how long.

    Args:
        deadline: When the caller gives up, in the event loop's time.

    Attributes:
        is_settled: Whether nobody waits any more.
        started: When the run began, by `time.perf_counter`; 0 while the request waits.
    """

    __slots__ = ("_timer", "deadline", "is_settled", "started")

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline = deadline
        self.is_settled = False
        self.started = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, result: Result) -> None:
        """Hands the result to who waits; called once at most."""
        raise NotImplementedError

    def watch_deadline(self) -> None:
        """Settles the ticket when its deadline comes; else its owner has to give it up then."""
        if self.deadline is not None and not self.is_settled:
            self._timer = asyncio.get_running_loop().call_at(self.deadline, self.expire)

    def settle(self, result: Result) -> None:
        """Ends the wait."""
        if not self.is_settled:
            self.give_up()
            self.tell(result)

    def give_up(self) -> None:
        """Ends the wait without a result: a waiting request is dropped, a running one ignored."""
        self.is_settled = True
        if self._timer is not None:
            self._timer.cancel()

    def expire(self) -> None:
        """The deadline has come; a waiting request is dropped, a running one is not waited for."""
        if self.started:
            self.settle(DeadlineExceededError("Timed out waiting for notification"))
        else:
            self.settle(
                ResourceExhaustedError("Run() timeout exceeded while waiting in batching queue")
            )


class _Task:
    """A request, or a part of one, in a queue; parts have their ticket in common."""

    __slots__ = ("arrived", "cost", "item", "ticket")

    def __init__(self, item: Prepared, ticket: Ticket, arrived: float, cost: int) -> None:
        self.item = item
        self.ticket = ticket
        self.arrived = arrived
        self.cost = cost


class BatchQueue:
    """The waiting requests of one signature of one version.

    Args:
        scheduler: Lends the worker threads.
        run: Answers a batch; blocking, called in a worker thread.
        options: Sizes and limits.
        observer: Gets the numbers for the metrics.
        runs_inline: Whether its runs are known to be light, see `Pace`.

    Attributes:
        depth: Requests that wait, or parts of some.
        pace: How long the runs take.
    """

    def __init__(
        self,
        scheduler: BatchScheduler,
        run: Callable[[Sequence[Prepared]], list[Result]],
        options: BatchingOptions,
        observer: BatchObserver,
        *,
        runs_inline: bool = False,
    ) -> None:
        self._run = run
        self.pace = Pace(runs_inline=runs_inline)
        self._observer = observer
        self._scheduler = scheduler
        self._options = options
        self._largest_run = options.largest_run
        self._most_joined = options.most_joined
        self._splits = options.largest_run != options.max_batch_size
        self._pads = options.pad_variable_length_inputs
        self._most_rows = options.max_batch_size
        self._room = options.room
        self._waiting: dict[Hashable, deque[_Task]] = {}
        self.depth = 0
        self._load = 0
        self._alarm: asyncio.TimerHandle | None = None

    def check_rows(self, rows: int) -> None:
        """Refuses a request that fits in no batch, if need be before it is prepared.

        Raises:
            InvalidRequestError: It has more rows than fit in a batch.
        """
        limit = self._most_rows
        if limit is not None and rows > limit:
            raise InvalidRequestError(
                f"Task size {rows} is larger than maximum input batch size {limit}"
            )

    def submit(self, item: Prepared, ticket: Ticket) -> None:
        """Queues a prepared request.

        Args:
            item: The request.
            ticket: Is settled with the signature's outputs or an error.

        Raises:
            InvalidRequestError: It has more rows than fit in a batch.
            UnavailableError: The queue is full.
        """
        self.check_rows(item.rows)
        self._make_room(self._cost(item))
        key = ragged_key(item) if self._pads else item.batch_key
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = deque()
        items = split(item, self._largest_run or 1) if self._is_split(item) else (item,)
        arrived = time.perf_counter()
        for each in items:
            cost = self._cost(each)
            waiting.append(_Task(each, ticket, arrived, cost))
            self._load += cost
        self.depth += len(items)
        self._scheduler.wake(self)

    def _cost(self, item: Prepared) -> int:
        """What a request takes of the room; an empty one takes some too."""
        return 1 if self._most_rows is None else item.rows or 1

    def _is_split(self, item: Prepared) -> bool:
        too_large = self._splits and item.rows > (self._largest_run or item.rows)
        return too_large and item.is_plain and has_rows(item)

    def take(self) -> list[_Task]:
        """Takes the next batch out of the queue; empty while it is worth waiting for more."""
        self._drop_settled_heads()
        if not self._waiting:
            return []
        key, group = self._oldest()
        if not self._is_due(group):
            return []
        batch = self._fill(group)
        if not group:
            del self._waiting[key]
        if batch:
            self._announce(batch)
        return batch

    def _oldest(self) -> tuple[Hashable, deque[_Task]]:
        waiting = self._waiting
        if len(waiting) == 1:
            return next(iter(waiting.items()))
        return min(waiting.items(), key=lambda pair: pair[1][0].arrived)

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
        now, started = asyncio.get_running_loop().time(), time.perf_counter()
        while group and self._fits(len(batch), rows + group[0].item.rows):
            task = group.popleft()
            self._discard(task)
            ticket = task.ticket
            if ticket.deadline is not None and ticket.deadline <= now:
                ticket.expire()
            if not ticket.is_settled:
                ticket.started = started
                batch.append(task)
                rows += task.item.rows
        return batch

    def _fits(self, requests: int, rows: int) -> bool:
        """Whether a batch may have so many requests and rows; one always may."""
        if requests == 0:
            return True
        most = self._options.max_batch_requests
        return (most is None or requests < most) and (
            self._most_joined is None or rows <= self._most_joined
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

    def _make_room(self, cost: int) -> None:
        room = self._room - cost
        if self._load > room:
            self._drop_settled()
        if self._load > room:
            batches = -(-self._load // (self._largest_run or 1))
            raise UnavailableError(
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{batches} batches enqueued and max_enqueued_batches is "
                f"{self._options.max_enqueued_batches}"
            )

    def _drop_settled_heads(self) -> None:
        """Removes requests that nobody waits for from the head of each group."""
        for key, group in list(self._waiting.items()):
            while group and group[0].ticket.is_settled:
                self._discard(group.popleft())
            if not group:
                del self._waiting[key]

    def _drop_settled(self) -> None:
        """Removes all requests that nobody waits for."""
        for key, group in list(self._waiting.items()):
            for task in [task for task in group if task.ticket.is_settled]:
                group.remove(task)
                self._discard(task)
            if not group:
                del self._waiting[key]

    def _discard(self, task: _Task) -> None:
        """Counts a task out of the queue."""
        self.depth -= 1
        self._load -= task.cost


def _request_rows(item: Prepared) -> tuple[int, ...]:
    """The rows of the request that begins here; a part that is not the first begins none."""
    if not isinstance(item, Part):
        return (item.rows,)
    return (item.whole.item.rows,) if item.place == 0 else ()


def _settle(batch: Sequence[_Task], results: Sequence[Result]) -> None:
    for task, result in zip(batch, results, strict=True):
        if result is not UNFINISHED:
            try:
                task.ticket.settle(result)
            except Exception:
                log.exception("An answer could not be given")


class Pace:
    """Tells whether runs are so short that handing them to a thread would cost more.

    It remembers the heaviest run (in work time, which other processes do not lengthen) and slowly
    forgets it: a queue has to prove itself over many runs, and a single slow run sends it back to
    the threads. A run of much more input than any that was short is not trusted to be short.

    Args:
        runs_inline: Whether it need not prove itself first.
    """

    def __init__(self, *, runs_inline: bool = False) -> None:
        # As a multiple of what is light.
        self._heaviest = 0.0 if runs_inline else _UNPROVEN
        self._proven_bytes = _LIGHT_BYTES

    def observe(self, seconds: float, items: Sequence[Prepared]) -> None:
        """Records a run of these requests."""
        weight = max(seconds / _LIGHT_RUN_S, seconds / len(items) / _LIGHT_REQUEST_S)
        self._heaviest = max(weight, self._heaviest * _FORGETTING)
        if weight > 1:
            self._proven_bytes = _LIGHT_BYTES
        else:
            self._proven_bytes = max(self._proven_bytes, _input_bytes(items))

    def is_light(self, items: Sequence[Prepared]) -> bool:
        """Whether a run of these requests may hold up the event loop."""
        return self._heaviest <= 1 and _input_bytes(items) <= 2 * self._proven_bytes


def _input_bytes(items: Sequence[Prepared]) -> int:
    """The size of a batch's inputs; where only rows differ, the first request tells it."""
    first = items[0]
    if first.by_shape and first.rows:
        size = sum(array.nbytes for array in first.tensors.values())
        return size // first.rows * sum(item.rows for item in items)
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
        _settle(batch, results)

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
        _settle(batch, results)
        self._dispatch()
