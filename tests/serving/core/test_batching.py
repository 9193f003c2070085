import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from protocol.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidRequestError,
    ResourceExhaustedError,
    ServiceError,
    UnavailableError,
)
from protocol.pipelines import Prepared
from serving.core.batch_run import run_batch
from serving.core.batching import (
    BatchingOptions,
    BatchQueue,
    BatchScheduler,
    Result,
    Ticket,
    unbatched,
)


class Doubler:
    """A servable that doubles `x`, holds at a gate, and breaks on the number 13."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.runs: list[list[int]] = []

    def merge(self, signature: str, items: Sequence[Prepared]) -> dict[str, Any]:
        return {"x": np.concatenate([item.tensors["x"] for item in items])}

    def run(self, signature: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
        self.runs.append(tensors["x"].tolist())
        self.entered.release()
        assert self.gate.wait(10)
        if 13 in tensors["x"]:
            raise InvalidRequestError("13 is not allowed")
        return {"y": tensors["x"] * 2}

    def finish(self, signature: str, outputs: Mapping[str, Any], prepared: Prepared) -> Any:
        if 17 in prepared.tensors["x"]:
            raise ZeroDivisionError("17")
        return dict(outputs)


class Observer:
    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.runs: list[tuple[int, int]] = []
        self.finished_runs = 0

    def started(
        self, rows: int, filled_up: int, requests: Sequence[int], waits_s: Sequence[float]
    ) -> None:
        assert len(requests) <= len(waits_s)
        self.runs.append((rows, filled_up))
        self.batches.append(list(requests))

    def finished(self, seconds: float) -> None:
        self.finished_runs += 1


class Bench:
    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self.executor = executor
        self.doubler = Doubler()
        self.observer = Observer()

    def queue(self, options: BatchingOptions) -> BatchQueue:
        servable: Any = self.doubler
        scheduler = BatchScheduler(self.executor, options.num_batch_threads)
        run = partial(run_batch, servable, "s", options=options)
        return BatchQueue(scheduler, run, options, self.observer)

    async def hold(self, queue: BatchQueue) -> "asyncio.Future[Any]":
        """Occupies the thread with a request for 1 until the gate opens."""
        self.doubler.gate.clear()
        future = submit(queue, item(1))
        await asyncio.to_thread(self.doubler.entered.acquire)
        return future


class FutureTicket(Ticket):
    """A ticket that tells a future."""

    def __init__(self, deadline: float | None) -> None:
        super().__init__(deadline)
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.future.add_done_callback(lambda _: self.give_up())

    def tell(self, result: Result) -> None:
        if self.future.done():
            return
        if isinstance(result, ServiceError):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


def submit(
    queue: BatchQueue, item: Prepared, deadline: float | None = None
) -> "asyncio.Future[Any]":
    ticket = FutureTicket(deadline)
    queue.submit(item, ticket)
    ticket.watch_deadline()
    return ticket.future


def row(*values: int) -> Prepared:
    """A request of one row of several values, which may be padded."""
    array = np.array([values])
    return Prepared({"x": array}, rows=1, batch_key=array.shape, is_plain=True)


def item(*values: int, key: str = "") -> Prepared:
    return Prepared({"x": np.array(values)}, rows=len(values), batch_key=key, is_plain=True)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    with ThreadPoolExecutor(4) as executor:
        bench = Bench(executor)
        yield bench
        bench.doubler.gate.set()


def one_thread(**options: Any) -> BatchingOptions:
    return BatchingOptions(**({"max_batch_size": 4, "num_batch_threads": 1} | options))


async def test_a_lone_request_runs_at_once(bench: Bench) -> None:
    queue = bench.queue(one_thread())
    outputs = await submit(queue, item(3, 4))
    assert outputs["y"].tolist() == [6, 8]
    assert bench.doubler.runs == [[3, 4]]


async def test_requests_that_wait_run_together_and_get_their_own_rows(bench: Bench) -> None:
    queue = bench.queue(one_thread())
    first = await bench.hold(queue)
    second, third = submit(queue, item(2)), submit(queue, item(3, 4))
    assert queue.depth == 2
    bench.doubler.gate.set()
    results = await asyncio.gather(first, second, third)
    assert [outputs["y"].tolist() for outputs in results] == [[2], [4], [6, 8]]
    assert bench.doubler.runs == [[1], [2, 3, 4]]
    assert bench.observer.batches == [[1], [1, 2]]
    assert queue.depth == 0


async def test_batches_are_not_larger_than_allowed(bench: Bench) -> None:
    queue = bench.queue(one_thread())
    first = await bench.hold(queue)
    others = [submit(queue, item(2, 3)), submit(queue, item(4, 5)), submit(queue, item(6))]
    bench.doubler.gate.set()
    await asyncio.gather(first, *others)
    assert bench.doubler.runs == [[1], [2, 3, 4, 5], [6]]


async def test_only_equal_keys_are_joined_oldest_first(bench: Bench) -> None:
    queue = bench.queue(one_thread())
    first = await bench.hold(queue)
    keys = ["long", "short", "long", "short"]
    others = [submit(queue, item(n, key=key)) for n, key in enumerate(keys, start=2)]
    bench.doubler.gate.set()
    await asyncio.gather(first, *others)
    assert bench.doubler.runs == [[1], [2, 4], [3, 5]]


async def test_without_batching_every_request_runs_alone(bench: Bench) -> None:
    queue = bench.queue(unbatched(1))
    first = await bench.hold(queue)
    others = [submit(queue, item(2)), submit(queue, item(*range(20, 5020)))]
    bench.doubler.gate.set()
    await asyncio.gather(first, *others)
    assert [len(run) for run in bench.doubler.runs] == [1, 1, 5000]


async def test_a_bad_request_does_not_harm_its_neighbours(bench: Bench) -> None:
    queue = bench.queue(one_thread())
    first = await bench.hold(queue)
    others = [submit(queue, item(n)) for n in (2, 13, 4)]
    bench.doubler.gate.set()
    _, good, bad, fine = await asyncio.gather(first, *others, return_exceptions=True)
    assert good["y"].tolist() == [4]
    assert fine["y"].tolist() == [8]
    assert isinstance(bad, InvalidRequestError)


async def test_an_unexpected_error_is_internal_and_stays_with_its_request(bench: Bench) -> None:
    queue = bench.queue(one_thread())
    first = await bench.hold(queue)
    others = [submit(queue, item(n)) for n in (17, 4)]
    bench.doubler.gate.set()
    _, bad, fine = await asyncio.gather(first, *others, return_exceptions=True)
    assert isinstance(bad, InternalError)
    assert "ZeroDivisionError" in str(bad)
    assert fine["y"].tolist() == [8]


async def test_too_many_rows_are_refused(bench: Bench) -> None:
    queue = bench.queue(one_thread())
    message = "Task size 5 is larger than maximum input batch size 4"
    with pytest.raises(InvalidRequestError, match=message):
        submit(queue, item(1, 2, 3, 4, 5))


async def test_a_full_queue_refuses(bench: Bench) -> None:
    queue = bench.queue(one_thread(max_enqueued_batches=1))
    first = await bench.hold(queue)
    waiting = submit(queue, item(2, 3, 4))
    message = "currently 1 batches enqueued and max_enqueued_batches is 1"
    with pytest.raises(UnavailableError, match=message):
        submit(queue, item(5, 6))
    bench.doubler.gate.set()
    await asyncio.gather(first, waiting)


async def test_cancelled_requests_leave_the_queue_and_never_run(bench: Bench) -> None:
    queue = bench.queue(one_thread(max_enqueued_batches=1))
    first = await bench.hold(queue)
    gone = submit(queue, item(2, 3, 4))
    gone.cancel()
    await asyncio.sleep(0)
    replacement = submit(queue, item(5, 6))
    also_gone = submit(queue, item(7))
    also_gone.cancel()
    bench.doubler.gate.set()
    await asyncio.gather(first, replacement)
    assert bench.doubler.runs == [[1], [5, 6]]


async def test_a_request_that_waits_too_long_is_dropped(bench: Bench) -> None:
    queue = bench.queue(one_thread())
    first = await bench.hold(queue)
    now = asyncio.get_running_loop().time()
    waiting = submit(queue, item(2), deadline=now + 0.01)
    with pytest.raises(ResourceExhaustedError, match="timeout exceeded while waiting in batching"):
        await asyncio.wait_for(waiting, 5)
    bench.doubler.gate.set()
    await first
    assert bench.doubler.runs == [[1]]
    assert not queue.has_waiting


async def test_a_request_that_runs_too_long_is_given_up(bench: Bench) -> None:
    queue = bench.queue(one_thread())
    bench.doubler.gate.clear()
    deadline = asyncio.get_running_loop().time() + 0.01
    with pytest.raises(DeadlineExceededError, match="Timed out waiting for notification"):
        await asyncio.wait_for(submit(queue, item(1), deadline), 5)
    bench.doubler.gate.set()
    assert (await submit(queue, item(2)))["y"].tolist() == [4]


async def test_a_batch_waits_for_company_if_told(bench: Bench) -> None:
    queue = bench.queue(one_thread(batch_timeout_micros=10_000_000))
    first, second = submit(queue, item(1, 2)), submit(queue, item(3))
    assert bench.doubler.runs == []
    third = submit(queue, item(4))
    await asyncio.wait_for(asyncio.gather(first, second, third), 5)
    assert bench.doubler.runs == [[1, 2, 3, 4]]


async def test_the_wait_for_company_ends(bench: Bench) -> None:
    queue = bench.queue(one_thread(batch_timeout_micros=1000))
    outputs = await asyncio.wait_for(submit(queue, item(1)), 5)
    assert outputs["y"].tolist() == [2]


async def test_queues_take_turns(bench: Bench) -> None:
    options = one_thread(max_batch_requests=1)
    servable: Any = bench.doubler
    scheduler = BatchScheduler(bench.executor, 1)
    busy, quiet = (
        BatchQueue(scheduler, partial(run_batch, servable, "s"), options, Observer())
        for _ in range(2)
    )
    first = await bench.hold(busy)
    others = [submit(busy, item(n)) for n in (2, 3, 4)] + [submit(quiet, item(5))]
    bench.doubler.gate.set()
    await asyncio.gather(first, *others)
    assert bench.doubler.runs == [[1], [2], [5], [3], [4]]


async def test_no_rows_is_a_request_too(bench: Bench) -> None:
    outputs = await submit(bench.queue(one_thread()), item())
    assert outputs["y"].tolist() == []


@pytest.mark.parametrize(
    "values",
    [
        {"max_batch_size": 0},
        {"batch_timeout_micros": -1},
        {"max_enqueued_batches": 0},
        {"num_batch_threads": 0},
    ],
)
def test_impossible_options_are_refused(values: dict[str, int]) -> None:
    [name] = values
    with pytest.raises(ServiceError, match=f"{name} must be at least"):
        BatchingOptions(**values)


def test_outputs_must_have_the_rows_of_the_batch() -> None:
    class Constant(Doubler):
        def run(self, signature: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
            return {"y": np.float32(7) if len(tensors["x"]) == 2 else np.zeros(5)}

    servable: Any = Constant()
    # Joined, the outputs can not be shared out; alone, each request gets them as they are.
    for items in ([item(1), item(2)], [item(1), item(2), item(3)]):
        results = run_batch(servable, "s", items)
        assert [result["y"].tolist() for result in results] == [[0] * 5] * len(items)  # type: ignore[index,union-attr]


# Large requests in parts.


def splitting(most: int, **options: Any) -> BatchingOptions:
    return one_thread(
        enable_large_batch_splitting=True,
        max_execution_batch_size=most,
        **({"max_batch_size": 8} | options),
    )


async def test_a_request_that_is_not_plain_is_never_cut(bench: Bench) -> None:
    queue = bench.queue(splitting(3))
    outputs = await submit(queue, replace(item(1, 2, 3, 4, 5), is_plain=False))
    assert outputs["y"].tolist() == [2, 4, 6, 8, 10]
    assert bench.doubler.runs == [[1, 2, 3, 4, 5]]


async def test_no_more_rows_are_joined_than_are_worth_it(bench: Bench) -> None:
    queue = bench.queue(one_thread(max_batch_size=8, max_joined_rows=3))
    first = await bench.hold(queue)
    others = [submit(queue, item(*range(n))) for n in (2, 1, 5, 1, 1)]
    bench.doubler.gate.set()
    results = await asyncio.gather(first, *others)
    assert [len(run) for run in bench.doubler.runs] == [1, 3, 5, 2]
    assert [len(outputs["y"]) for outputs in results] == [1, 2, 1, 5, 1, 1]


async def test_a_large_request_runs_in_parts_and_shares_the_last(bench: Bench) -> None:
    queue = bench.queue(splitting(3))
    first = await bench.hold(queue)
    large, small = submit(queue, item(2, 3, 4, 5, 6, 7, 8)), submit(queue, item(9))
    assert queue.depth == 4
    bench.doubler.gate.set()
    results = await asyncio.gather(first, large, small)
    assert bench.doubler.runs == [[1], [2, 3, 4], [5, 6, 7], [8, 9]]
    assert [outputs["y"].tolist() for outputs in results] == [
        [2],
        [4, 6, 8, 10, 12, 14, 16],
        [18],
    ]
    assert bench.observer.batches == [[1], [7], [], [1]]
    assert queue.depth == 0


async def test_a_part_that_fails_fails_its_request_and_drops_the_rest(bench: Bench) -> None:
    queue = bench.queue(splitting(2))
    with pytest.raises(InvalidRequestError, match="13 is not allowed"):
        await submit(queue, item(1, 13, 3, 4, 5, 6))
    assert (await submit(queue, item(7, 8, 9)))["y"].tolist() == [14, 16, 18]
    assert [3, 4] not in bench.doubler.runs
    assert queue.depth == 0


async def test_a_request_whose_last_part_fails_beside_another(bench: Bench) -> None:
    queue = bench.queue(splitting(2))
    first = await bench.hold(queue)
    bad, good = submit(queue, item(2, 3, 13)), submit(queue, item(4))
    bench.doubler.gate.set()
    results = await asyncio.gather(first, bad, good, return_exceptions=True)
    assert isinstance(results[1], InvalidRequestError)
    assert results[2]["y"].tolist() == [8]  # type: ignore[index]


async def test_parts_of_several_threads_are_joined_in_order(bench: Bench) -> None:
    queue = bench.queue(
        splitting(1, num_batch_threads=4, max_batch_size=100, max_enqueued_batches=200)
    )
    values = list(range(20, 70))
    results = await asyncio.gather(*(submit(queue, item(*values)) for _ in range(4)))
    assert [outputs["y"].tolist() for outputs in results] == [[2 * n for n in values]] * 4


async def test_cancelling_a_request_drops_its_parts(bench: Bench) -> None:
    queue = bench.queue(splitting(2))
    first = await bench.hold(queue)
    gone = submit(queue, item(2, 3, 4))
    gone.cancel()
    bench.doubler.gate.set()
    await asyncio.gather(first, submit(queue, item(5)))
    assert bench.doubler.runs == [[1], [5]]
    assert queue.depth == 0


async def test_the_largest_request_fits_in_an_empty_queue(bench: Bench) -> None:
    queue = bench.queue(splitting(2, max_enqueued_batches=1))
    first = await bench.hold(queue)
    large = submit(queue, item(*range(20, 28)))
    with pytest.raises(UnavailableError, match="currently 4 batches enqueued"):
        submit(queue, item(2))
    bench.doubler.gate.set()
    await asyncio.gather(first, large)
    with pytest.raises(InvalidRequestError, match="Task size 9 is larger than maximum input"):
        submit(queue, item(*range(20, 29)))


# Allowed sizes.


async def test_a_batch_is_filled_up_with_the_first_row_of_its_last_request(bench: Bench) -> None:
    queue = bench.queue(one_thread(max_batch_size=8, allowed_batch_sizes=(2, 6, 8)))
    first = await bench.hold(queue)
    others = [submit(queue, item(2)), submit(queue, item(3, 4)), submit(queue, item())]
    bench.doubler.gate.set()
    results = await asyncio.gather(first, *others)
    assert bench.doubler.runs == [[1, 1], [2, 3, 4, 4, 4, 4]]
    assert [outputs["y"].tolist() for outputs in results] == [[2], [4], [6, 8], []]
    assert bench.observer.runs == [(1, 2), (3, 6)]
    both = [submit(queue, item(5, 6)), submit(queue, item(7, 8))]
    await asyncio.gather(*both)
    assert bench.doubler.runs[2] == [5, 6, 7, 8, 7, 7]


async def test_a_bad_request_in_a_filled_up_batch_fails_alone(bench: Bench) -> None:
    queue = bench.queue(one_thread(max_batch_size=8, allowed_batch_sizes=(4, 8)))
    good, bad = submit(queue, item(2)), submit(queue, item(13))
    results = await asyncio.gather(good, bad, return_exceptions=True)
    assert results[0]["y"].tolist() == [4]  # type: ignore[index]
    assert isinstance(results[1], InvalidRequestError)


async def test_parts_are_filled_up_too(bench: Bench) -> None:
    queue = bench.queue(splitting(4, allowed_batch_sizes=(2, 4)))
    outputs = await submit(queue, item(2, 3, 4, 5, 6))
    assert bench.doubler.runs == [[2, 3, 4, 5], [6, 6]]
    assert outputs["y"].tolist() == [4, 6, 8, 10, 12]


# Shapes that differ.


async def test_requests_of_different_shapes_are_padded_if_told(bench: Bench) -> None:
    queue = bench.queue(one_thread(pad_variable_length_inputs=True))
    first = await bench.hold(queue)
    others = [submit(queue, row(2, 3, 4)), submit(queue, row(5)), submit(queue, row(6, 7))]
    bench.doubler.gate.set()
    results = await asyncio.gather(first, *others)
    assert bench.doubler.runs == [[1], [[2, 3, 4], [5, 5, 5], [6, 7, 6]]]
    assert results[2]["y"].tolist() == [[10, 10, 10]]


async def test_without_padding_they_do_not_meet(bench: Bench) -> None:
    queue = bench.queue(one_thread())
    first = await bench.hold(queue)
    others = [submit(queue, row(2, 3)), submit(queue, row(5)), submit(queue, row(6, 7))]
    bench.doubler.gate.set()
    await asyncio.gather(first, *others)
    assert bench.doubler.runs == [[1], [[2, 3], [6, 7]], [[5]]]


async def test_requests_that_may_not_be_padded_keep_their_key(bench: Bench) -> None:
    queue = bench.queue(one_thread(pad_variable_length_inputs=True))
    first = await bench.hold(queue)
    items = [replace(item(n, key=str(n)), is_plain=False) for n in (2, 3)]
    others = [submit(queue, each) for each in items]
    bench.doubler.gate.set()
    await asyncio.gather(first, *others)
    assert bench.doubler.runs == [[1], [2], [3]]


# Deadlines.


async def test_a_request_whose_deadline_passed_never_runs(bench: Bench) -> None:
    queue = bench.queue(one_thread())
    # The deadline has passed before the loop had a turn to say so.
    late = submit(queue, item(2), deadline=asyncio.get_running_loop().time() - 1)
    with pytest.raises(ResourceExhaustedError, match="while waiting in batching queue"):
        await late
    assert (await submit(queue, item(3)))["y"].tolist() == [6]
    assert bench.doubler.runs == [[3]]


async def test_an_overloaded_queue_answers_what_it_took_and_refuses_the_rest(bench: Bench) -> None:
    """Five times what fits comes at once; who is let in waits for the queue, not for the flood."""
    options = one_thread(max_batch_size=4, max_enqueued_batches=2)
    queue = bench.queue(options)
    first = await bench.hold(queue)
    admitted: list[asyncio.Future[Any]] = []
    refused = 0
    for n in range(5 * options.room):
        try:
            admitted.append(submit(queue, item(20 + n)))
        except UnavailableError:
            refused += 1
    assert len(admitted) == options.room
    assert refused == 4 * options.room
    bench.doubler.gate.set()
    await asyncio.wait_for(asyncio.gather(first, *admitted), 10)
    # The last of those admitted waited for no more runs than batches were allowed to wait.
    assert len(bench.doubler.runs) == 1 + options.max_enqueued_batches


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"allowed_batch_sizes": (8, 4)}, "allowed_batch_sizes entries must be increasing"),
        ({"allowed_batch_sizes": (0, 4)}, "allowed_batch_sizes entries must be increasing"),
        (
            {"allowed_batch_sizes": (2, 3), "max_batch_size": 4},
            "must match max_batch_size; last entry was 3; expected 4",
        ),
        (
            {
                "enable_large_batch_splitting": True,
                "max_batch_size": 4,
                "max_execution_batch_size": 8,
            },
            "max_batch_size must be greater than or equal to max_execution_batch_size",
        ),
        ({"max_execution_batch_size": 0}, "max_execution_batch_size must be at least 1"),
    ],
)
def test_options_that_contradict_each_other(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        BatchingOptions(**values)
