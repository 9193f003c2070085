"""grpc.health.v1: the server as a whole, its services, and each model by its name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from protocol.errors import NotFoundError
from protocol.messages import HealthCheckResponse, HealthListResponse
from protocol.services import (
    HEALTH_CHECK,
    HEALTH_LIST,
    HEALTH_WATCH,
    MODEL_SERVICE,
    PREDICTION_SERVICE,
    Method,
)
from serving.core.data_plane import DataPlane
from serving.faces.rpc import Context

# TensorFlow Serving uses the short names, everybody else the full ones.
SERVICES = ("", "ModelService", "PredictionService", MODEL_SERVICE, PREDICTION_SERVICE)

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = HealthCheckResponse.SERVICE_UNKNOWN


class HealthFace:
    """`grpc.health.v1.Health`."""

    def __init__(self, data_plane: DataPlane) -> None:
        self._data_plane = data_plane

    def behaviours(self) -> Mapping[Method, Any]:
        """What each method does."""
        return {HEALTH_CHECK: self.check, HEALTH_LIST: self.list_all, HEALTH_WATCH: self.watch}

    async def check(self, request: Any, context: Context) -> Any:
        """Tells the state of one service or model."""
        status = self._status(request.service)
        if status == SERVICE_UNKNOWN:
            raise NotFoundError(
                f"Unknown service {request.service!r}; known: {', '.join(self._names()[1:])}"
            )
        return HealthCheckResponse(status=status)

    async def list_all(self, request: Any, context: Context) -> Any:
        """Tells all states."""
        response = HealthListResponse()
        for name in self._names():
            response.statuses[name].status = self._status(name)
        return response

    async def watch(self, request: Any, context: Context) -> AsyncIterator[Any]:
        """Tells a state now and after every change, until the caller or the server goes."""
        last = None
        while True:
            status = self._status(request.service)
            if status != last:
                yield HealthCheckResponse(status=status)
                # Looks again before it waits: the state may have changed while this was sent.
                last = status
            elif self._data_plane.is_draining:
                return
            else:
                await self._data_plane.changed()

    def _names(self) -> list[str]:
        return [*SERVICES, *self._data_plane.model_names]

    def _status(self, name: str) -> int:
        if name in SERVICES:
            return _as_status(self._data_plane.is_serving)
        if name in self._data_plane.model_names:
            return _as_status(self._data_plane.is_available(name))
        status: int = SERVICE_UNKNOWN
        return status


def _as_status(healthy: bool) -> int:
    status: int = SERVING if healthy else NOT_SERVING
    return status
