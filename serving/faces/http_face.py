"""The HTTP port: metrics for Prometheus, liveness, readiness, and the status of models."""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web
from google.protobuf import json_format

from protocol.errors import InvalidRequestError, ServiceError
from serving.core.data_plane import DataPlane
from serving.core.metrics import CONTENT_TYPE, ServerMetrics
from serving.faces.grpc_face import status_response

_HTTP_STATUS = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404}
_LARGEST_VERSION = 2**63 - 1

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpFace:
    """The handlers of the HTTP port.

    Args:
        data_plane: Answers.
        metrics: Rendered for the scraper.
        metrics_path: Where; empty for nowhere.
    """

    def __init__(self, data_plane: DataPlane, metrics: ServerMetrics, metrics_path: str) -> None:
        self._data_plane = data_plane
        self._metrics = metrics
        self._metrics_path = metrics_path

    def application(self) -> web.Application:
        """All routes."""
        application = web.Application(middlewares=[errors_as_json])
        model = "/v1/models/{name:[^/:]+}"
        application.router.add_get("/healthz", self.healthz)
        application.router.add_get("/readyz", self.readyz)
        application.router.add_get(model, self.model_status)
        application.router.add_get(model + "/versions/{version:[0-9]+}", self.model_status)
        application.router.add_get(model + "/labels/{label:[^/:]+}", self.model_status)
        if self._metrics_path:
            application.router.add_get(self._metrics_path, self.metrics)
        return application

    async def metrics(self, request: web.Request) -> web.Response:
        """All metrics in Prometheus' text format."""
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def healthz(self, request: web.Request) -> web.Response:
        """The process lives and its event loop turns."""
        return web.Response(text="ok\n")

    async def readyz(self, request: web.Request) -> web.Response:
        """200 while all models (or those in `?models=a,b`) answer requests, else 503."""
        wanted = request.query.get("models")
        names = wanted.split(",") if wanted else self._data_plane.model_names
        models = {name: self._data_plane.is_available(name) for name in names}
        ready = all(models.values()) and not self._data_plane.is_draining
        document = {"ready": ready, "draining": self._data_plane.is_draining, "models": models}
        return web.json_response(document, status=200 if ready else 503)

    async def model_status(self, request: web.Request) -> web.Response:
        """The states of a model's versions, as TensorFlow Serving prints them."""
        version = _version(request.match_info.get("version"))
        statuses = self._data_plane.status(request.match_info["name"], version)
        document = json_format.MessageToDict(
            status_response(statuses),
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        return web.json_response(document, dumps=lambda value: json.dumps(value, indent=1))


def _version(text: str | None) -> int | None:
    if text is None:
        return None
    version = int(text)
    if version > _LARGEST_VERSION:
        raise InvalidRequestError(f"Failed to convert version: {text} to numeric.")
    return version


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers errors with a JSON document, as TensorFlow Serving does."""
    try:
        return await handler(request)
    except ServiceError as error:
        status = _HTTP_STATUS.get(error.status.name, 500)
        return web.json_response({"error": error.message}, status=status)
    except web.HTTPNotFound:
        return _not_found(request)


def _not_found(request: web.Request) -> web.Response:
    if request.path.startswith("/v1/"):
        message = f"Malformed request: {request.method} {request.path}"
        return web.json_response({"error": message}, status=400)
    message = f"No page {request.path}; there are /healthz, /readyz and /v1/models/NAME"
    return web.json_response({"error": message}, status=404)


def listening_socket(port: int) -> socket.socket:
    """Opens a port on all IPv6 and IPv4 addresses, or on IPv4 alone where there is no IPv6."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
            )
        except OSError:
            pass
    return socket.create_server(("0.0.0.0", port), backlog=1024)
