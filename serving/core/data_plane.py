"""What a client can ask of the server, free of any wire protocol.

Faces (gRPC, HTTP) translate their messages into these calls and dataclasses and back; lookup,
checks, batching, deadlines and counting happen here, once for all of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from protocol.contracts import SERVING_DEFAULT, SignatureSpec
from protocol.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidRequestError,
    ServiceError,
    UnavailableError,
    UnknownError,
)
from protocol.pipelines import Prepared
from serving.core.batching import BatchingOptions, BatchQueue, BatchScheduler, run_batch
from serving.core.manager import Manager, ModelChoice
from serving.core.metrics import UNKNOWN_MODEL, QueueMetrics, Recorder, ServerMetrics
from serving.core.model_config import ModelConfig, check_model_configs
from serving.core.servable import (
    ServableHandle,
    ServableId,
    ServableState,
    Tensors,
    VersionStatus,
)
from serving.core.source import FileSystemSource

log = logging.getLogger(__name__)

# Inputs with more bytes of strings, or more strings, are tokenised or decoded off the event loop.
_LARGE_STRINGS = 16 * 1024
_MANY_STRINGS = 256
_MOST_STRINGS = 1 << 20
# Large inputs that may be under preparation at once.
_LARGE_INPUTS_WAITING = 256

# Counted by `request_count` and `request_latency`; the others leave no trace there.
_UNCOUNTED_APIS = frozenset({"MultiInference"})

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


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a prediction returned, and which version and signature made it."""

    id: ServableId
    signature: str
    outputs: Tensors


@dataclass(frozen=True, slots=True)
class Metadata:
    """The signatures of a version, as a `SignatureDefMap` message."""

    id: ServableId
    signature_defs: Any


@dataclass(frozen=True)
class _Lane:
    """Everything prepared for the requests of one signature of one version."""

    handle: ServableHandle
    signature: str
    spec: SignatureSpec
    outputs: frozenset[str]
    prepares_slowly: bool
    queue: BatchQueue
    succeeded: Recorder


@dataclass
class _Progress:
    """How far a request came: what its error is counted under."""

    handle: ServableHandle | None = None
    signature: str = ""


class DataPlane:
    """Answers predictions, metadata, status and reloads over the models of a manager.

    Args:
        manager: Holds the loaded versions.
        source: Watches the folders.
        metrics: Where everything is counted.
        batching: Gives the batching options of a version folder.
        scheduler: Runs the batches.
        executor: Threads for preparing large inputs.
        labels_may_wait: Whether a new label may name a version that is not loaded yet.
    """

    def __init__(
        self,
        manager: Manager,
        source: FileSystemSource,
        metrics: ServerMetrics,
        batching: Callable[[Path], BatchingOptions],
        scheduler: BatchScheduler,
        executor: Executor,
        *,
        labels_may_wait: bool = False,
    ) -> None:
        self._manager = manager
        self._source = source
        self._metrics = metrics
        self._batching = batching
        self._scheduler = scheduler
        self._executor = executor
        self._labels_may_wait = labels_may_wait
        self._lanes: dict[ServableHandle, dict[tuple[str, str], _Lane]] = {}
        self._preparing = 0
        self._in_flight = 0
        self._configuring = asyncio.Lock()
        self._changed = asyncio.Event()
        self._draining = False
        metrics.in_flight.set_function(lambda: self._in_flight)
        manager.subscribe(self._on_state)

    # Predictions.

    async def predict(self, call: PredictCall, pinned: ServableHandle | None = None) -> Prediction:
        """Makes one prediction.

        Args:
            call: What to predict.
            pinned: The version to use, where the caller holds one; else `call.model` is looked up.

        Raises:
            ServiceError: With the status and text for the caller.
        """
        started = time.perf_counter()
        progress = _Progress()
        self._in_flight += 1
        try:
            with pinned or self._manager.find(call.model) as handle:
                progress.handle = handle
                lane = self._lane(handle, call)
                progress.signature = lane.signature
                outputs = await self._run(lane, call)
        except BaseException as error:
            failure = _as_failure(error)
            code = failure.status.name if failure is not None else "CANCELLED"
            self._count_failure(call, progress, code, time.perf_counter() - started)
            if failure is None or failure is error:
                raise
            raise failure from error
        finally:
            self._in_flight -= 1
        seconds = time.perf_counter() - started
        lane.succeeded(seconds)
        if call.api not in _UNCOUNTED_APIS:
            tf = self._metrics.tf
            tf.request_count.add(handle.id.name, "OK")
            tf.request_latency.observe(seconds * 1e6, handle.id.name, call.api, call.entrypoint)
        return Prediction(handle.id, lane.signature, outputs)

    async def _run(self, lane: _Lane, call: PredictCall) -> Tensors:
        if call.output_filter:
            _check_output_filter(call.output_filter, lane.outputs)
        prepared = await self._prepare(lane, await self._read(lane, call))
        if call.deadline is not None and call.deadline <= asyncio.get_running_loop().time():
            raise DeadlineExceededError("Timed out before the model ran")
        outputs = await lane.queue.submit(prepared, call.deadline)
        if call.check_outputs is not None:
            call.check_outputs(outputs)
        if call.output_filter:
            return {name: outputs[name] for name in call.output_filter}
        return outputs

    async def _read(self, lane: _Lane, call: PredictCall) -> Inputs:
        if not call.reads_slowly:
            return call.read_inputs(lane.spec)
        return await self._in_thread(call.read_inputs, lane.spec)

    async def _prepare(self, lane: _Lane, inputs: Inputs) -> Prepared:
        """Checks and converts the inputs; off the event loop if that may take long."""
        prepare = lane.handle.servable.prepare
        strings = [array for array in inputs.values() if array.dtype == object]
        if not lane.prepares_slowly and not _is_large(strings):
            return prepare(lane.signature, inputs)
        _check_strings(strings, lane.queue)
        return await self._in_thread(prepare, lane.signature, inputs)

    async def _in_thread(self, work: Callable[..., Value], *arguments: Any) -> Value:
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

    def _lane(self, handle: ServableHandle, call: PredictCall) -> _Lane:
        lanes = self._lanes.get(handle)
        if lanes is None:
            lanes = self._lanes[handle] = {}
        asked = (call.signature, call.api)
        lane = lanes.get(asked)
        if lane is None:
            # `predict` by REST and `Predict` by gRPC share a queue, as their name in
            # runtime_latency.
            signature, api = call.signature or SERVING_DEFAULT, call.api[:1].upper() + call.api[1:]
            lane = lanes.get((signature, api)) or self._make_lane(handle, signature, api, call)
            lanes[signature, api] = lanes[asked] = lane
        return lane

    def _make_lane(
        self, handle: ServableHandle, signature: str, api: str, call: PredictCall
    ) -> _Lane:
        servable = handle.servable
        spec = servable.signatures.get(signature)
        if spec is None:
            served = f"Signatures of {handle.id}: {', '.join(sorted(servable.signatures))}"
            raise call.unknown_signature(signature, served)
        batching = self._batching(handle.folder)
        queue = BatchQueue(
            self._scheduler,
            partial(run_batch, servable, signature, options=batching),
            batching,
            QueueMetrics(
                self._metrics,
                handle.id,
                signature,
                servable.runtime,
                api,
                batched=batching.max_batch_requests != 1,
            ),
        )
        return _Lane(
            handle=handle,
            signature=signature,
            spec=spec,
            outputs=frozenset(output.name for output in spec.outputs),
            prepares_slowly=servable.prepares_slowly(signature),
            queue=queue,
            succeeded=self._metrics.answered(handle.id, signature, "OK"),
        )

    def _count_failure(
        self, call: PredictCall, progress: _Progress, code: str, seconds: float
    ) -> None:
        handle = progress.handle
        known = call.model.name in self._source.configs
        name = call.model.name if known else UNKNOWN_MODEL
        if call.api not in _UNCOUNTED_APIS:
            self._metrics.tf.request_count.add(name, code)
        servable_id = handle.id if handle is not None else None
        self._metrics.answered(servable_id, progress.signature, code)(seconds)

    def pin(self, model: ModelChoice) -> ServableHandle:
        """The chosen version, for several predictions by the same one: `with` keeps it loaded.

        Raises:
            NotFoundError: No such model or version.
            InvalidRequestError: No such label.
        """
        return self._manager.find(model)

    def count_examples(self, model: str, examples: int) -> None:
        """Records how many examples a request of MultiInference held."""
        self._metrics.tf.request_example_counts.observe(examples, model)
        self._metrics.tf.request_example_count_total.add(model, amount=examples)

    # Questions about what is served.

    def metadata(self, model: ModelChoice) -> Metadata:
        """The signatures of a version.

        Raises:
            NotFoundError: No such model or version.
            InvalidRequestError: No such label.
        """
        handle = self._manager.find(model)
        return Metadata(handle.id, handle.servable.signature_defs())

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """The states of a model's versions, newest first.

        Raises:
            NotFoundError: No such model or version.
        """
        return self._manager.statuses(name, version)

    def counters(self, names: Iterable[str]) -> dict[str, int]:
        """The totals of TensorFlow Serving's counters; names that do not exist are left out."""
        totals = {name: self._metrics.tf.counter_total(name) for name in names}
        return {name: total for name, total in totals.items() if total is not None}

    @property
    def model_names(self) -> list[str]:
        """The configured models."""
        return sorted(self._source.configs)

    def is_available(self, name: str) -> bool:
        """Whether a model answers requests."""
        return not self._draining and self._manager.is_available(name)

    @property
    def is_serving(self) -> bool:
        """Whether the server as a whole is of use: not draining, and some model answers."""
        names = self.model_names
        return not self._draining and (not names or any(map(self._manager.is_available, names)))

    @property
    def is_draining(self) -> bool:
        """Whether the server is on its way out."""
        return self._draining

    async def changed(self) -> None:
        """Waits until something about availability may have changed."""
        await self._changed.wait()

    # What should be served.

    async def configure(self, configs: Sequence[ModelConfig]) -> None:
        """Sets the first list of models and waits until each has loaded, or failed to.

        Raises:
            InvalidRequestError: The list is wrong in itself.
        """
        async with self._configuring:
            check_model_configs(configs)
            await self._apply(configs)
            await self._manager.settled([config.name for config in configs])

    async def reload(self, configs: Sequence[ModelConfig]) -> None:
        """Replaces the list of models; returns when every new one is available.

        Raises:
            InvalidRequestError: The list is wrong; nothing was changed.
            FailedPreconditionError: A label names a version that is not loaded; nothing changed.
            UnknownError: A new model did not become available; the other changes stand.
        """
        async with self._configuring:
            current = self._source.configs
            check_model_configs(configs, current)
            for config in configs:
                self._manager.check_labels(
                    config.name, config.labels, new_may_wait=self._labels_may_wait
                )
            await self._apply(configs)
            new = [config.name for config in configs if config.name not in current]
            await self._manager.settled(new)
            self._check_available(new)

    def drain(self) -> None:
        """Reports NOT_SERVING from now on; requests are still answered."""
        self._draining = True
        self._announce()

    async def _apply(self, configs: Sequence[ModelConfig]) -> None:
        removed = self._source.configs.keys() - {config.name for config in configs}
        for name in removed:
            self._manager.set_labels(name, {})
            self._metrics.forget_model(name)
        for config in configs:
            self._manager.set_labels(config.name, config.labels)
        self._source.configure(configs)
        await self._source.poll()
        self._announce()

    def _check_available(self, names: Sequence[str]) -> None:
        failed = [
            f"{{{status.id} due to error: {_described(status.error)}}}, "
            for name in names
            for status in self._manager.failures(name)
        ]
        failed += [
            f"{{{{name: {name}}} due to error: NOT_FOUND: {self._source.problem(name)}}}, "
            for name in names
            if self._source.problem(name)
        ]
        if failed:
            raise UnknownError(
                f"{len(failed)} model(s) did not become available: {{{''.join(failed)}}}"
            )

    def _on_state(self, status: VersionStatus, handle: ServableHandle | None) -> None:
        self._metrics.state_changed(status.id, status.state)
        if status.state is ServableState.END and handle is not None:
            self._lanes.pop(handle, None)
            self._metrics.forget_path(str(status.folder))
            if status.id.name not in self._source.configs:
                self._metrics.forget_model(status.id.name)
        self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _described(error: ServiceError | None) -> str:
    return f"{error.status.name}: {error}" if error is not None else "OK"


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


def _as_failure(error: BaseException) -> ServiceError | None:
    """The error as the caller should see it; None if it must pass unchanged."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, Exception):
        log.error("A request ended in an unexpected error", exc_info=error)
        return InternalError(f"{type(error).__name__}: {error}")
    return None
