"""What the typed clients of all tasks share: connection, checked answers, blocking and asyncio.

What a client does is written once, as a `Script`: a generator that yields the calls to send and
is sent their answers, or thrown their errors. `TaskClient` drives scripts with a blocking
transport, `AsyncTaskClient` with an awaiting one.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from clients.calls import Call, ModelMetadata, Prediction, metadata_call, predict_call
from clients.config import DEFAULT_TARGET, UNLIMITED, ClientConfig
from clients.transport import AsyncTransport, CallObserver, Transport
from protocol.contracts import (
    SERVING_DEFAULT,
    TaskContract,
    TensorSpec,
    check_signature,
)
from protocol.errors import ContractError, ServiceError

REQUEST_BYTES = 32 << 20
_HEADROOM_BYTES = 64 << 10  # names, shapes and lengths around the payload

Result = TypeVar("Result")
Script: TypeAlias = Generator[Call[Any], Any, Result]
_Step: TypeAlias = Callable[[], Call[Any]]


class Recorder(Protocol):
    """Is shown requests and answers; `clients.recorder.DriftRecorder` is one."""

    def record(self, inputs: Mapping[str, npt.ArrayLike], prediction: Prediction) -> None:
        """A request was answered."""


class Sender(Protocol):
    """Takes calls and brings their answers: a transport of `clients.transport`, or another."""

    def send(self, call: Call[Any], timeout_s: float | None = None) -> Any:
        """Returns the answer to a call; asyncio clients await it.

        Raises:
            ServiceError: There is none.
        """

    def close(self) -> Any:
        """Ends it; asyncio clients await that."""


@dataclass(frozen=True)
class TaskSpec:
    """What sets the clients of one task apart.

    Args:
        contract: Signatures that the served model must have.
        batch_size: Items sent in one call, unless the caller says otherwise.
    """

    contract: TaskContract
    batch_size: int


@dataclass(frozen=True)
class ServedModel:
    """The model a client asks, and the limits of one request to it.

    Args:
        contract: Signatures that it must have.
        name: Name under which it is served.
        version: Exact version; None for the one the server prefers.
        label: Version label, instead of `version`.
        batch_size: Items sent in one call; 1 or more.
        request_bytes: Payload of one call is kept below this where a single item allows it.
        item_bytes: Largest item that can be sent at all; None for any.
        recorder: Is shown every request with its answer.

    Raises:
        ValueError: `batch_size` is less than 1.
    """

    contract: TaskContract
    name: str
    version: int | None = None
    label: str | None = None
    batch_size: int = 1
    request_bytes: int = REQUEST_BYTES
    item_bytes: int | None = None
    recorder: Recorder | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size: expected 1 or more, got {self.batch_size}")

    def ask(
        self, inputs: Mapping[str, npt.ArrayLike], rows: int, signature: str = SERVING_DEFAULT
    ) -> Script[Prediction]:
        """Runs one signature and checks the answer against the contract.

        Args:
            inputs: Arrays by input name.
            rows: Number of rows that are sent, and that every output must have.
            signature: Signature to run.

        Raises:
            ContractError: An output is missing or of another form. If the model's signature
                differs from the contract, the message names all the differences.
        """
        prediction: Prediction = yield predict_call(
            self.name, inputs, signature, self.version, self.label
        )
        try:
            for spec in self.contract.signature(signature).outputs:
                check_output(prediction, spec, rows)
        except ContractError:
            metadata: ModelMetadata = yield metadata_call(self.name, version=prediction.version)
            check_served(self.contract, signature, metadata)
            raise
        if self.recorder is not None:
            self.recorder.record(inputs, prediction)
        return prediction


class TaskClient:
    """A connection to the served model of one task; a context manager.

    A client may be shared between threads.

    Args:
        target: Address such as `localhost:8500`, or a whole config.
        model: Name under which the model is served; None for the name of the task.
        version: Exact version; None for the one the server prefers.
        label: Version label, instead of `version`.
        batch_size: Items sent in one call; None for what suits the task.
        metrics: Is told about every call; see `clients.metrics.ClientMetrics`.
        recorder: Is shown every request with its answer; see `clients.recorder.DriftRecorder`.
        transport: Takes the calls instead of a connection to `target`; see `clients.local`.

    Raises:
        ValueError: `batch_size` is less than 1.
    """

    spec: ClassVar[TaskSpec]

    def __init__(
        self,
        target: str | ClientConfig = DEFAULT_TARGET,
        *,
        model: str | None = None,
        version: int | None = None,
        label: str | None = None,
        batch_size: int | None = None,
        metrics: CallObserver | None = None,
        recorder: Recorder | None = None,
        transport: Sender | None = None,
    ) -> None:
        config = ClientConfig.of(target)
        served = _served_model(self.spec, config, model, version, label, batch_size)
        self._served = replace(served, recorder=recorder)
        self._transport: Sender = transport or Transport(config, metrics)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls in progress are cancelled."""
        self._transport.close()

    def _run(self, script: Script[Result], timeout_s: float | None) -> Result:
        """Sends the calls of a script, each with its own deadline, and returns its result."""
        step: _Step = partial(script.send, None)
        while True:
            try:
                call = step()
            except StopIteration as finished:
                result: Result = finished.value
                return result
            try:
                step = partial(script.send, self._transport.send(call, timeout_s))
            except ServiceError as error:
                step = partial(script.throw, error)


class AsyncTaskClient:
    """The asyncio twin of `TaskClient`: the same methods, awaited.

    Args:
        target: Address such as `localhost:8500`, or a whole config.
        model: Name under which the model is served; None for the name of the task.
        version: Exact version; None for the one the server prefers.
        label: Version label, instead of `version`.
        batch_size: Items sent in one call; None for what suits the task.
        metrics: Is told about every call; see `clients.metrics.ClientMetrics`.
        recorder: Is shown every request with its answer; see `clients.recorder.DriftRecorder`.
        transport: Takes the calls instead of a connection to `target`.

    Raises:
        ValueError: `batch_size` is less than 1.
    """

    spec: ClassVar[TaskSpec]

    def __init__(
        self,
        target: str | ClientConfig = DEFAULT_TARGET,
        *,
        model: str | None = None,
        version: int | None = None,
        label: str | None = None,
        batch_size: int | None = None,
        metrics: CallObserver | None = None,
        recorder: Recorder | None = None,
        transport: Sender | None = None,
    ) -> None:
        config = ClientConfig.of(target)
        served = _served_model(self.spec, config, model, version, label, batch_size)
        self._served = replace(served, recorder=recorder)
        self._transport: Sender = transport or AsyncTransport(config, metrics)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls in progress are cancelled."""
        await self._transport.close()

    async def _run(self, script: Script[Result], timeout_s: float | None) -> Result:
        """Sends the calls of a script; see `TaskClient._run`."""
        step: _Step = partial(script.send, None)
        while True:
            try:
                call = step()
            except StopIteration as finished:
                result: Result = finished.value
                return result
            try:
                step = partial(script.send, await self._transport.send(call, timeout_s))
            except ServiceError as error:
                step = partial(script.throw, error)


def check_output(prediction: Prediction, spec: TensorSpec, rows: int) -> None:
    """Compares one output of an answer with the contract.

    Raises:
        ContractError: The output is missing, or its dtype, rank, number of rows or a size that
            the contract fixes is another.
    """
    output = prediction.outputs.get(spec.name)
    if output is None:
        found = ", ".join(sorted(prediction.outputs)) or "none"
        raise ContractError(
            f"model {prediction.model!r} answered without output {spec.name!r}; "
            f"its outputs: {found}"
        )
    dtype = np.dtype(object if spec.dtype == "string" else spec.dtype)
    if output.dtype != dtype or not _fits(output.shape, (rows, *spec.shape[1:])):
        raise ContractError(
            f"output {spec.name!r} of model {prediction.model!r}: expected {spec} with {rows} "
            f"rows, got {output.dtype} of shape {list(output.shape)}"
        )


def check_served(contract: TaskContract, signature: str, metadata: ModelMetadata) -> None:
    """Compares a signature of what is served with the contract of a task.

    Raises:
        ContractError: The model has no such signature, or it differs; all differences are named.
    """
    found = metadata.signatures.get(signature)
    if found is None:
        raise ContractError(
            f"model {metadata.model!r} version {metadata.version} has no signature "
            f"{signature!r}; it has: {', '.join(metadata.signatures) or 'none'}"
        )
    check_signature(contract.signature(signature), found)


def _served_model(
    spec: TaskSpec,
    config: ClientConfig,
    model: str | None,
    version: int | None,
    label: str | None,
    batch_size: int | None,
) -> ServedModel:
    limit = config.max_message_bytes
    item_bytes = None if limit == UNLIMITED else max(0, limit - _HEADROOM_BYTES)
    return ServedModel(
        contract=spec.contract,
        name=spec.contract.task if model is None else model,
        version=version,
        label=label,
        batch_size=spec.batch_size if batch_size is None else batch_size,
        request_bytes=REQUEST_BYTES if item_bytes is None else min(REQUEST_BYTES, item_bytes),
        item_bytes=item_bytes,
    )


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        size is None or size == came for size, came in zip(expected, shape, strict=True)
    )
