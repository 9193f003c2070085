"""Clients for any served model: arrays in, arrays out."""

from collections.abc import Mapping, Sequence
from types import TracebackType

import numpy.typing as npt

from clients.calls import (
    ModelMetadata,
    Prediction,
    VersionStatus,
    health_call,
    metadata_call,
    predict_call,
    status_call,
)
from clients.config import DEFAULT_TARGET, ClientConfig
from clients.transport import AsyncTransport, CallObserver, Transport
from protocol.contracts import SERVING_DEFAULT


class PredictClient:
    """Calls any model of a server that speaks TensorFlow Serving's gRPC API.

    Every call has a deadline and raises a `protocol.errors.ServiceError` when it fails. A client
    may be shared between threads.

    Args:
        target: Address such as `localhost:8500`, or a whole config.
        metrics: Is told about every call; see `clients.metrics.ClientMetrics`.
    """

    def __init__(
        self, target: str | ClientConfig = DEFAULT_TARGET, *, metrics: CallObserver | None = None
    ) -> None:
        self._transport = Transport(ClientConfig.of(target), metrics)

    def __enter__(self) -> "PredictClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def predict(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        signature: str = SERVING_DEFAULT,
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> Prediction:
        """Runs one signature of a model.

        Args:
            model: Name of the served model.
            inputs: Arrays, or what numpy makes one of, by input name.
            signature: Signature to run.
            version: Exact version; None for the one the server prefers.
            label: Version label, instead of `version`.
            outputs: Outputs to fetch; empty for all.
            timeout_s: Deadline in seconds with all retries; None takes the config's.

        Raises:
            InvalidRequestError: The request is malformed; some faults show before it is sent.
            ServiceError: The call failed; the class tells the gRPC status.
        """
        call = predict_call(model, inputs, signature, version, label, outputs)
        return self._transport.send(call, timeout_s)

    def metadata(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> ModelMetadata:
        """Returns the signatures of a model.

        Raises:
            ServiceError: The call failed; the class tells the gRPC status.
        """
        return self._transport.send(metadata_call(model, version, label), timeout_s)

    def status(
        self, model: str, *, version: int | None = None, timeout_s: float | None = None
    ) -> tuple[VersionStatus, ...]:
        """Returns the state of a model's versions, newest first.

        Raises:
            ServiceError: The call failed; the class tells the gRPC status.
        """
        return self._transport.send(status_call(model, version), timeout_s)

    def health(self, service: str = "", *, timeout_s: float | None = None) -> str:
        """Returns SERVING or NOT_SERVING for a service; "" means the whole server.

        Raises:
            ServiceError: The call failed; the class tells the gRPC status.
        """
        return self._transport.send(health_call(service), timeout_s)

    def close(self) -> None:
        """Closes the connection; calls in progress are cancelled."""
        self._transport.close()


class AsyncPredictClient:
    """The asyncio twin of `PredictClient`: the same methods, awaited.

    Args:
        target: Address such as `localhost:8500`, or a whole config.
        metrics: Is told about every call; see `clients.metrics.ClientMetrics`.
    """

    def __init__(
        self, target: str | ClientConfig = DEFAULT_TARGET, *, metrics: CallObserver | None = None
    ) -> None:
        self._transport = AsyncTransport(ClientConfig.of(target), metrics)

    async def __aenter__(self) -> "AsyncPredictClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def predict(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        signature: str = SERVING_DEFAULT,
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> Prediction:
        """Runs one signature of a model; see `PredictClient.predict`."""
        call = predict_call(model, inputs, signature, version, label, outputs)
        return await self._transport.send(call, timeout_s)

    async def metadata(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> ModelMetadata:
        """Returns the signatures of a model; see `PredictClient.metadata`."""
        return await self._transport.send(metadata_call(model, version, label), timeout_s)

    async def status(
        self, model: str, *, version: int | None = None, timeout_s: float | None = None
    ) -> tuple[VersionStatus, ...]:
        """Returns the state of a model's versions; see `PredictClient.status`."""
        return await self._transport.send(status_call(model, version), timeout_s)

    async def health(self, service: str = "", *, timeout_s: float | None = None) -> str:
        """Returns SERVING or NOT_SERVING for a service; see `PredictClient.health`."""
        return await self._transport.send(health_call(service), timeout_s)

    async def close(self) -> None:
        """Closes the connection; calls in progress are cancelled."""
        await self._transport.close()
