"""Predict from bytes to bytes, without message objects: the one method where it pays."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from protocol.contracts import SignatureSpec
from protocol.errors import InvalidRequestError, InvalidTensorError, ServiceError
from protocol.predict_wire import (
    RequestLayout,
    WireRequest,
    read_request,
    read_tensor,
    request_layout,
    write_response,
)
from protocol.services import PREDICT
from serving.core.data_plane import DataPlane
from serving.core.manager import ModelChoice
from serving.core.predictor import Pending, PredictCall, Prediction, Route, resolve
from serving.faces.rpc import Context, Handler, Reply, tell_origin

# Layouts that are remembered, and those among them of requests of one length.
_MOST_LENGTHS = 1024
_MOST_OF_A_LENGTH = 4


class PredictMethod:
    """`PredictionService/Predict` as a handler.

    Most requests resemble an earlier one in all but their values; they are recognised by the
    bytes around these, and neither taken apart nor checked again.

    Args:
        data_plane: Answers.
        tensor_content: Whether answers carry `tensor_content` rather than typed fields.
    """

    def __init__(self, data_plane: DataPlane, *, tensor_content: bool = False) -> None:
        self._data_plane = data_plane
        self._predictor = data_plane.predictor
        self._tensor_content = tensor_content
        self._known = _KnownRequests()

    def handler(self) -> Handler:
        """The method as a face calls it."""
        return Handler(PREDICT.path, PREDICT.kind, self.run, self.start)

    async def run(self, data: bytes, context: Context) -> bytes:
        """Runs one signature.

        Raises:
            ServiceError: With the status and text for the caller.
        """
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        pending = self.start(data, context, partial(resolve, future))
        if pending is not None:
            pending.watch_deadline()
        try:
            return await future
        except asyncio.CancelledError:
            if pending is not None:
                pending.cancel()
            raise

    def start(self, data: bytes, context: Context, reply: Reply) -> Pending | None:
        """Begins to run one signature; see `Handler.start`."""
        answer = partial(self._answer, reply, context)
        known = self._known.find(data, self._data_plane.generation)
        if known is not None:
            layout, route = known
            inputs = layout.inputs(data)
            return self._predictor.start_again(route, inputs, deadline(context), answer)
        try:
            request = read_request(data)
            call = predict_call(request, deadline(context))
        except ServiceError as error:
            reply(error)
            return None
        pending = self._predictor.start(call, answer)
        if pending.route is not None:
            self._known.add(data, request, pending.route)
        return pending

    def _answer(self, reply: Reply, context: Context, found: Prediction | ServiceError) -> None:
        if isinstance(found, ServiceError):
            reply(found)
            return
        name, version = found.id
        try:
            message = write_response(
                name, version, found.signature, found.outputs, content=self._tensor_content
            )
        except ServiceError as error:
            reply(error)
        else:
            tell_origin(context, version, found.timing)
            reply(message)


class _KnownRequests:
    """The layouts of requests that came, and the ways that these went."""

    def __init__(self) -> None:
        self._generation = 0
        self._by_length: dict[int, list[tuple[RequestLayout, Route]]] = {}

    def find(self, data: bytes, generation: int) -> tuple[RequestLayout, Route] | None:
        """The layout of a request and the way of the first one that had it.

        Args:
            data: The request.
            generation: Of the manager; ways of an earlier one are forgotten.
        """
        if generation != self._generation:
            self._generation = generation
            self._by_length.clear()
        for known in self._by_length.get(len(data), ()):
            if known[0].fits(data):
                return known
        return None

    def add(self, data: bytes, request: WireRequest, route: Route) -> None:
        """Remembers a request that is not known yet, if its values are plain memory."""
        layout = request_layout(data, request)
        if layout is None:
            return
        if len(self._by_length) >= _MOST_LENGTHS:
            self._by_length.clear()
        alike = self._by_length.setdefault(len(data), [])
        if len(alike) >= _MOST_OF_A_LENGTH:
            alike.pop(0)
        alike.append((layout, route))


def predict_call(request: WireRequest, deadline: float | None) -> PredictCall:
    """Reads a `PredictRequest`; its tensors are decoded later, once the signature is known.

    Raises:
        InvalidRequestError: The model is not named.
    """
    inputs = request.inputs

    def read_inputs(spec: SignatureSpec) -> Mapping[str, np.ndarray[Any, Any]]:
        return {alias: _read_tensor(alias, tensor) for alias, tensor in inputs.items()}

    return PredictCall(
        model=model_choice(request.spec),
        read_inputs=read_inputs,
        signature=request.spec.signature_name,
        output_filter=request.output_filter,
        deadline=deadline,
    )


def _read_tensor(alias: str, data: memoryview) -> np.ndarray[Any, Any]:
    try:
        return read_tensor(data)
    except InvalidTensorError as error:
        raise InvalidTensorError(f"tensor parsing error: {alias}: {error}") from error


def model_choice(spec: Any) -> ModelChoice:
    """Reads a `ModelSpec`, or None where the request has none.

    Raises:
        InvalidRequestError: It is missing, or names no model.
    """
    if spec is None:
        raise InvalidRequestError("Missing ModelSpec")
    if not spec.name:
        raise InvalidRequestError("ModelSpec has no name specified.")
    kind = spec.WhichOneof("version_choice")
    if kind is None:
        return ModelChoice(spec.name)
    if kind == "version":
        return ModelChoice(spec.name, version=spec.version.value)
    return ModelChoice(spec.name, label=spec.version_label)


def deadline(context: Context) -> float | None:
    """When the caller gives up, in the event loop's time."""
    remaining_s = context.time_remaining()
    return None if remaining_s is None else asyncio.get_running_loop().time() + remaining_s
