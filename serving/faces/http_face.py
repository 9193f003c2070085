"""The HTTP port: the REST API, metrics for Prometheus, liveness and readiness."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Awaitable, Callable

import grpc
from aiohttp import web

from protocol.errors import ServiceError
from serving.core.access_log import AccessLog
from serving.core.admission import Admission
from serving.core.data_plane import DataPlane
from serving.core.metrics import CONTENT_TYPE
from serving.faces.rest.face import RestFace
from serving.faces.rest.outputs import write_error
from serving.faces.rest.paths import is_rest

log = logging.getLogger(__name__)

_BACKLOG = 1024
_REFUSALS = {
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpFace:
    """The handlers of the HTTP port.

    Args:
        data_plane: Answers.
        metrics_page: Gives what the scraper reads.
        metrics_path: Where; empty for nowhere.
        rest: Answers what is under `/v1/`.
        admission: Says who may call what is under `/v1/`, and read the metrics.
        access_log: Gets a line for each of these calls.
    """

    def __init__(
        self,
        data_plane: DataPlane,
        metrics_page: Callable[[], Awaitable[bytes]],
        metrics_path: str,
        rest: RestFace,
        admission: Admission,
        access_log: AccessLog | None = None,
    ) -> None:
        self._data_plane = data_plane
        self._metrics_page = metrics_page
        self._metrics_path = metrics_path
        self._rest = rest
        self._admission = admission
        self._access_log = access_log

    def application(self) -> web.Application:
        """All routes."""
        application = web.Application(middlewares=[self.dispatch])
        application.router.add_get("/healthz", self.healthz)
        application.router.add_get("/readyz", self.readyz)
        return application

    async def metrics(self, request: web.Request) -> web.Response:
        """All metrics in Prometheus' text format; a query is refused, as by TensorFlow Serving."""
        path = request.raw_path
        if path != self._metrics_path:
            text = f"Unexpected path: {path}. Should be {self._metrics_path}"
            return web.Response(text=text, status=400)
        body = await self._metrics_page()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

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

    @web.middleware
    async def dispatch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Sends requests on by their raw path: the REST API has rules that no router knows."""
        path = request.raw_path
        if is_rest(path):
            return await self._guarded(request, self._rest.handle)
        if self._metrics_path and path.partition("?")[0] == self._metrics_path:
            return await self._guarded(request, self.metrics)
        try:
            return await handler(request)
        except web.HTTPException:
            message = (
                f"No page {path} for {request.method}; there are GET /healthz, GET /readyz and "
            )
            return _error(f"{message}/v1/models/NAME", 404)
        except Exception as error:
            log.exception("A request ended in an unexpected error")
            return _error(f"{type(error).__name__}: {error}", 500)

    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Lets a call in or refuses it, and writes its line."""
        started, status = time.perf_counter(), 499
        try:
            answer = await self._admitted(request, handler)
            status = answer.status
            return answer
        finally:
            if self._access_log is not None:
                self._access_log.write(
                    peer=request.remote or "",
                    method=f"{request.method} {request.raw_path}",
                    code=str(status),
                    seconds=time.perf_counter() - started,
                    traceparent=request.headers.get("traceparent", ""),
                )

    async def _admitted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._admission.check(request.headers.get("authorization"), request.remote or "")
        except ServiceError as error:
            return _error(error.message, _REFUSALS[error.status])
        return await handler(request)


def _error(message: str, status: int) -> web.Response:
    return web.Response(body=write_error(message), status=status, content_type="application/json")


def listening_socket(port: int, *, shared: bool = False) -> socket.socket:
    """Opens a port on all IPv6 and IPv4 addresses, or on IPv4 alone where there is no IPv6.

    Args:
        port: Its number.
        shared: Whether other processes may open it too.

    Raises:
        OSError: It is taken.
    """
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("::", port),
                family=socket.AF_INET6,
                dualstack_ipv6=True,
                backlog=_BACKLOG,
                reuse_port=shared,
            )
        except OSError:
            pass
    return socket.create_server(("0.0.0.0", port), backlog=_BACKLOG, reuse_port=shared)
