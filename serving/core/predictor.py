"""Makes predictions: finds the version, prepares and queues the inputs, and counts the answers.

A prediction is no coroutine: it is begun at once, as far as it can go without waiting, and tells
its answer later. A task for each request would cost more than everything else done for a small one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from protocol.contracts import (
    CLASSIFY_METHOD,
    PREDICT_METHOD,
    REGRESS_METHOD,
    SERVING_DEFAULT,
    SignatureSpec,
)
from protocol.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidRequestError,
    ServiceError,
    UnavailableError,
)
from protocol.pipelines import Prepared
from serving.core.batch_run import run_batch
from serving.core.batching import BatchingOptions, BatchQueue, BatchScheduler, Result, Ticket
from serving.core.drift import DriftMonitor, Sampler
from serving.core.manager import Manager, ModelChoice
from serving.core.metrics import UNKNOWN_MODEL, QueueMetrics, ServerMetrics
from serving.core.series import CounterSeries, HistogramSeries
from serving.core.servable import ServableHandle, ServableId, Tensors

log = logging.getLogger(__name__)

# Inputs with more bytes of strings, or more strings, are tokenised or decoded off the event loop.
_LARGE_STRINGS = 16 * 1024
_MANY_STRINGS = 256
_MOST_STRINGS = 1 << 20
# Large inputs that may be under preparation at once.
_LARGE_INPUTS_WAITING = 256

# Counted by `request_count` and `request_latency`; the others leave no trace there.
_UNCOUNTED_APIS = frozenset({"MultiInference"})

_METHODS = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
# By API how messages call its signatures, and the method that these are exported for.
_EXAMPLES_METHODS = {
    "Classify": ("classification", CLASSIFY_METHOD),
    "Regress": ("regression", REGRESS_METHOD),
}

Inputs = Mapping[str, np.ndarray[Any, Any]]
Value = TypeVar("Value")


def no_such_signature(name: str, served: str) -> ServiceError:
    """What Predict answers to a signature that the version does not have.

    Args:
        name: The signature that was asked for.
        served: The version and its signatures.
    """
    return FailedPreconditionError(f'Serving signature key "{name}" not found. {served}')


@dataclass(frozen=True, slots=True)
class PredictCall:
    """One prediction to make.

    Attributes:
        model: Which model and version.
        read_inputs: Gives the inputs by alias. It is called once the signature is known, and
            raises InvalidRequestError for what it can not read.
        reads_slowly: Whether `read_inputs` may take long; it then runs in a worker thread.
        signature: Name of the signature; empty for the default one.
        output_filter: Outputs to return; empty for all of them.
        deadline: When to give up, in the event loop's time.
        api: Name of the call in TensorFlow Serving's metrics.
        entrypoint: `GRPC` or `REST`, in the same metrics.
        unknown_signature: Words the error where the signature does not exist.
        check_outputs: Raises ServiceError for outputs that the caller can not use; the request
            is then counted as failed.
    """

    model: ModelChoice
    read_inputs: Callable[[SignatureSpec], Inputs]
    signature: str = ""
    output_filter: Sequence[str] = ()
    deadline: float | None = None
    api: str = "Predict"
    entrypoint: str = "GRPC"
    unknown_signature: Callable[[str, str], ServiceError] = no_such_signature
    check_outputs: Callable[[Tensors], None] | None = None
    reads_slowly: bool = False


class Timing(NamedTuple):
    """Where the time of a request went.

    Attributes:
        waited_s: From its arrival to the start of the run, its preparation included.
        ran_s: From there to the answer.
    """

    waited_s: float
    ran_s: float

    def __str__(self) -> str:
        """As in the header `Server-Timing`, in milliseconds; source: W3C, "Server Timing"."""
        return f"wait;dur={self.waited_s * 1e3:.3f}, run;dur={self.ran_s * 1e3:.3f}"


@dataclass(slots=True)
class Prediction:
    """What a prediction returned, which version and signature made it, and how long it took."""

    id: ServableId
    signature: str
    outputs: Tensors
    timing: Timing


Answer = Callable[[Prediction | ServiceError], None]


@dataclass(frozen=True, slots=True)
class Lane:
    """Everything prepared for the requests of one signature of one version by one API."""

    handle: ServableHandle
    signature: str
    spec: SignatureSpec
    outputs: frozenset[str]
    prepares_slowly: bool
    queue: BatchQueue
    seconds: HistogramSeries
    count: CounterSeries | None
    latency_us: HistogramSeries | None
    sampler: Sampler | None

    def succeeded(self, seconds: float) -> None:
        """Counts a good answer."""
        self.seconds.observe(seconds)
        if self.count is not None and self.latency_us is not None:
            self.count.add()
            self.latency_us.observe(seconds * 1e6)


@dataclass(frozen=True, slots=True)
class Route:
    """The way that a request went; one that differs in its values alone can go the same way.

    Attributes:
        call: What was asked.
        lane: Where it waited.
        form: What its inputs became.
    """

    call: PredictCall
    lane: Lane
    form: Prepared


class Pending(Ticket):
    """A prediction under way.

    Args:
        predictor: Makes it.
        call: What to predict.
        answer: Is told the prediction or the error, once, unless it is cancelled.
        deadline: When to give up, in the event loop's time.
    """

    __slots__ = (
        "_answer", "_arrived", "_call", "_handle", "_lane", "_predictor", "_sampled", "_work",
        "route",
    )  # fmt: skip

    def __init__(
        self, predictor: Predictor, call: PredictCall, answer: Answer, deadline: float | None
    ) -> None:
        super().__init__(deadline)
        self.route: Route | None = None
        self._predictor = predictor
        self._call = call
        self._answer = answer
        self._arrived = time.perf_counter()
        self._handle: ServableHandle | None = None
        self._lane: Lane | None = None
        self._work: asyncio.Task[None] | None = None
        self._sampled: Inputs | None = None
        predictor.in_flight += 1

    # The way in.

    def begin(self, pinned: ServableHandle | None) -> None:
        """Goes as far as the queue, or hands slow preparation to a thread."""
        call, predictor = self._call, self._predictor
        try:
            self._handle = (pinned or predictor.manager.find(call.model)).acquire()
            self._lane = lane = predictor.lane(self._handle, call)
            if call.output_filter:
                _check_output_filter(call.output_filter, lane.outputs)
            if call.reads_slowly:
                self._spawn(self._read_slowly(lane))
            else:
                self._prepare(lane, call.read_inputs(lane.spec))
        except Exception as error:
            self.settle(_as_failure(error))

    def begin_on(self, route: Route, inputs: Tensors) -> None:
        """Goes the way of a request of the same form."""
        self._lane = lane = route.lane
        self._handle = lane.handle.acquire()
        try:
            self._queue(lane, route.form.with_tensors(inputs))
        except Exception as error:
            self.settle(_as_failure(error))

    def _prepare(self, lane: Lane, inputs: Inputs) -> None:
        """Checks and converts the inputs; off the event loop if that may take long."""
        if lane.sampler is not None and lane.sampler.wants_one():
            self._sampled = inputs
        strings = [array for array in inputs.values() if array.dtype == object]
        if lane.prepares_slowly or _is_large(strings):
            _check_strings(strings, lane.queue)
            self._spawn(self._prepare_slowly(lane, inputs))
            return
        prepared = lane.handle.servable.prepare(lane.signature, inputs)
        self._queue(lane, prepared)
        if prepared.by_shape and lane.sampler is None and not self.is_settled:
            self.route = Route(self._call, lane, prepared)

    async def _read_slowly(self, lane: Lane) -> None:
        try:
            inputs = await self._predictor.in_thread(self._call.read_inputs, lane.spec)
            self._prepare(lane, inputs)
        except Exception as error:
            self.settle(_as_failure(error))

    async def _prepare_slowly(self, lane: Lane, inputs: Inputs) -> None:
        prepare = lane.handle.servable.prepare
        try:
            self._queue(lane, await self._predictor.in_thread(prepare, lane.signature, inputs))
        except Exception as error:
            self.settle(_as_failure(error))

    def _queue(self, lane: Lane, prepared: Prepared) -> None:
        if self.deadline is not None and self.deadline <= asyncio.get_running_loop().time():
            raise DeadlineExceededError("Timed out before the model ran")
        lane.queue.submit(prepared, self)

    def _spawn(self, work: Any) -> None:
        self._work = asyncio.get_running_loop().create_task(work)

    # The way out.

    def tell(self, result: Result) -> None:
        """See `Ticket`."""
        if isinstance(result, ServiceError):
            self._fail(result)
        elif self._lane is not None:
            self._succeed(self._lane, result)

    def _succeed(self, lane: Lane, outputs: Tensors) -> None:
        call = self._call
        if call.check_outputs is not None:
            try:
                call.check_outputs(outputs)
            except Exception as error:
                self._fail(_as_failure(error))
                return
        if self._sampled is not None and lane.sampler is not None:
            lane.sampler.take(self._sampled, outputs)
        if call.output_filter:
            outputs = {name: outputs[name] for name in call.output_filter}
        self._leave()
        now = time.perf_counter()
        lane.succeeded(now - self._arrived)
        timing = Timing(self.started - self._arrived, now - self.started)
        self._answer(Prediction(lane.handle.id, lane.signature, outputs, timing))

    def _fail(self, error: ServiceError) -> None:
        self._leave()
        self._count(error.status.name)
        self._answer(error)

    def cancel(self, error: ServiceError | None = None) -> None:
        """Gives the prediction up; nobody is told.

        Args:
            error: What the caller was told, for the metrics; None if it has gone.
        """
        if self.is_settled:
            return
        self.give_up()
        if self._work is not None:
            self._work.cancel()
        self._leave()
        self._count("CANCELLED" if error is None else error.status.name)

    def _leave(self) -> None:
        self._predictor.in_flight -= 1
        if self._handle is not None:
            self._handle.release()

    def _count(self, code: str) -> None:
        servable_id = self._handle.id if self._handle is not None else None
        signature = self._lane.signature if self._lane is not None else ""
        seconds = time.perf_counter() - self._arrived
        self._predictor.count_failure(self._call, servable_id, signature, code, seconds)


class Predictor:
    """Makes predictions by the versions of a manager.

    Args:
        manager: Holds the loaded versions.
        metrics: Where everything is counted.
        batching: Gives the batching options of a version folder.
        scheduler: Runs the batches.
        executor: Threads for preparing large inputs.
        configured: Gives the names of the models that should be served.
        drift: Is given samples of requests.
        check_method_names: Whether a signature answers only the method it was exported for.

    Attributes:
        in_flight: Predictions under way.
    """

    def __init__(
        self,
        manager: Manager,
        metrics: ServerMetrics,
        batching: Callable[[Path], BatchingOptions],
        scheduler: BatchScheduler,
        executor: Executor,
        configured: Callable[[], Collection[str]],
        drift: DriftMonitor,
        *,
        check_method_names: bool = False,
    ) -> None:
        self.manager = manager
        self.in_flight = 0
        self._metrics = metrics
        self._batching = batching
        self._scheduler = scheduler
        self._executor = executor
        self._configured = configured
        self._drift = drift
        self._check_method_names = check_method_names
        self._lanes: dict[ServableHandle, dict[tuple[str, str, str], Lane]] = {}
        self._preparing = 0
        metrics.in_flight.set_function(lambda: self.in_flight)

    def start(
        self, call: PredictCall, answer: Answer, pinned: ServableHandle | None = None
    ) -> Pending:
        """Begins a prediction; `answer` may be told before this returns.

        Args:
            call: What to predict.
            answer: Is told the prediction or the error.
            pinned: The version to use, where the caller holds one; else `call.model` is looked up.
        """
        pending = Pending(self, call, answer, call.deadline)
        pending.begin(pinned)
        return pending

    def start_again(
        self, route: Route, inputs: Tensors, deadline: float | None, answer: Answer
    ) -> Pending:
        """Begins a prediction for a request of the form of an earlier one.

        Args:
            route: The way of the earlier one, of the manager's present `generation`.
            inputs: By alias, with the same dtypes and shapes.
            deadline: When to give up, in the event loop's time.
            answer: Is told the prediction or the error.
        """
        pending = Pending(self, route.call, answer, deadline)
        pending.begin_on(route, inputs)
        return pending

    async def predict(self, call: PredictCall, pinned: ServableHandle | None = None) -> Prediction:
        """Makes one prediction; see `start`.

        Raises:
            ServiceError: With the status and text for the caller.
        """
        future: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        pending = self.start(call, partial(resolve, future), pinned)
        pending.watch_deadline()
        try:
            return await future
        except asyncio.CancelledError:
            pending.cancel()
            raise

    def lane(self, handle: ServableHandle, call: PredictCall) -> Lane:
        """The lane for a call.

        Raises:
            ServiceError: The version has no such signature.
        """
        lanes = self._lanes.get(handle)
        if lanes is None:
            lanes = self._lanes[handle] = {}
        asked = (call.signature, call.api, call.entrypoint)
        lane = lanes.get(asked)
        if lane is None:
            signature = call.signature or SERVING_DEFAULT
            named = (signature, call.api, call.entrypoint)
            lane = lanes.get(named) or self._make_lane(handle, signature, call, lanes)
            lanes[named] = lanes[asked] = lane
        return lane

    def forget(self, handle: ServableHandle) -> None:
        """Drops the lanes of a version that has ended."""
        self._lanes.pop(handle, None)
        self._drift.forget(handle.id)

    def _make_lane(
        self,
        handle: ServableHandle,
        signature: str,
        call: PredictCall,
        others: Mapping[tuple[str, str, str], Lane],
    ) -> Lane:
        servable, name = handle.servable, handle.id.name
        spec = servable.signatures.get(signature)
        if spec is None:
            served = f"Signatures of {handle.id}: {', '.join(sorted(servable.signatures))}"
            raise call.unknown_signature(signature, served)
        if self._check_method_names:
            definition = servable.signature_defs().signature_def[signature]
            _check_method_name(_queue_name(call.api), definition.method_name)
        tf = self._metrics.tf
        counted = call.api not in _UNCOUNTED_APIS
        return Lane(
            handle=handle,
            signature=signature,
            spec=spec,
            outputs=frozenset(output.name for output in spec.outputs),
            prepares_slowly=servable.prepares_slowly(signature),
            queue=self._queue(handle, signature, _queue_name(call.api), others),
            seconds=self._metrics.answers(handle.id, signature, "OK"),
            count=tf.request_count.series(name, "OK") if counted else None,
            latency_us=tf.request_latency.series(name, call.api, call.entrypoint)
            if counted
            else None,
            sampler=self._drift.sampler(handle.id, signature)
            if _queue_name(call.api) == "Predict"
            else None,
        )

    def _queue(
        self,
        handle: ServableHandle,
        signature: str,
        name: str,
        others: Mapping[tuple[str, str, str], Lane],
    ) -> BatchQueue:
        """A queue; `predict` by REST and `Predict` by gRPC share theirs."""
        for (_, api, _), lane in others.items():
            if lane.signature == signature and _queue_name(api) == name:
                return lane.queue
        servable, batching = handle.servable, self._batching(handle.folder)
        observer = QueueMetrics(
            self._metrics,
            handle.id,
            signature,
            servable.runtime,
            name,
            batched=batching.max_batch_requests != 1,
        )
        run = partial(run_batch, servable, signature, options=batching)
        queue = BatchQueue(
            self._scheduler, run, batching, observer, runs_inline=bool(servable.runs_inline)
        )
        self._metrics.watch(handle.id, signature, lambda: queue.depth)
        return queue

    async def in_thread(self, work: Callable[..., Value], *arguments: Any) -> Value:
        """Prepares a large input off the event loop.

        Raises:
            UnavailableError: Too many are under preparation.
        """
        if self._preparing >= _LARGE_INPUTS_WAITING:
            raise UnavailableError(
                f"{self._preparing} large requests are being prepared; try again later"
            )
        self._preparing += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, work, *arguments)
        finally:
            self._preparing -= 1

    def count_failure(
        self,
        call: PredictCall,
        servable_id: ServableId | None,
        signature: str,
        code: str,
        seconds: float,
    ) -> None:
        """Counts a prediction that ended in an error; unknown models have one name."""
        if call.api not in _UNCOUNTED_APIS:
            known = call.model.name in self._configured()
            name = call.model.name if known else UNKNOWN_MODEL
            self._metrics.tf.request_count.add(name, code)
        self._metrics.answers(servable_id, signature, code).observe(seconds)


def resolve(future: asyncio.Future[Any], result: Any) -> None:
    """Tells a future what it waits for, unless nobody does any more."""
    if future.done():
        return
    if isinstance(result, ServiceError):
        future.set_exception(result)
    else:
        future.set_result(result)


def _queue_name(api: str) -> str:
    """The API's name in `runtime_latency`, which is the same for gRPC and REST."""
    return api[:1].upper() + api[1:]


def _check_method_name(api: str, found: str) -> None:
    """Refuses a signature that was exported for another method, in TensorFlow Serving's words."""
    if api == "Predict" and found not in _METHODS:
        raise InternalError(
            "Expected prediction signature method_name to be one of "
            f"{{{', '.join(_METHODS)}}}. Was: {found}"
        )
    kind, expected = _EXAMPLES_METHODS.get(api, ("", found))
    if found != expected:
        raise InvalidRequestError(
            f"Expected {kind} signature method_name to be {expected}. Was: {found}"
        )


def _is_large(strings: Sequence[np.ndarray[Any, Any]]) -> bool:
    if sum(array.size for array in strings) > _MANY_STRINGS:
        return True
    return sum(sum(map(len, array.flat)) for array in strings) > _LARGE_STRINGS


def _check_strings(strings: Sequence[np.ndarray[Any, Any]], queue: BatchQueue) -> None:
    """Refuses what could keep a thread busy for minutes: a short list may stand for a long one."""
    for array in strings:
        if array.size > _MOST_STRINGS:
            raise InvalidRequestError(
                f"A request may hold at most {_MOST_STRINGS} strings; came: {array.size}"
            )
        queue.check_rows(len(array) if array.ndim else 1)


def _check_output_filter(wanted: Sequence[str], outputs: frozenset[str]) -> None:
    seen: set[str] = set()
    for name in wanted:
        if name not in outputs:
            raise InvalidRequestError(
                f"output tensor alias not found in signature: {name} Outputs expected to be in "
                f"the set {{{','.join(sorted(outputs))}}}."
            )
        if name in seen:
            raise InvalidRequestError(f"duplicate output tensor alias: {name}")
        seen.add(name)


def _as_failure(error: Exception) -> ServiceError:
    """The error as the caller should see it."""
    if isinstance(error, ServiceError):
        return error
    log.error("A request ended in an unexpected error", exc_info=error)
    return InternalError(f"{type(error).__name__}: {error}")
