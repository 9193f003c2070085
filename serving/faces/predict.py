"""Predict from bytes to bytes, without message objects: the one method where it pays."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np

from protocol.contracts import SignatureSpec
from protocol.errors import InvalidRequestError, InvalidTensorError
from protocol.predict_wire import read_request, read_tensor, write_response
from protocol.services import PREDICT
from serving.core.data_plane import DataPlane, PredictCall
from serving.core.manager import ModelChoice
from serving.faces.rpc import Context, Handler


class PredictMethod:
    """`PredictionService/Predict` as a handler.

    Args:
        data_plane: Answers.
        tensor_content: Whether answers carry `tensor_content` rather than typed fields.
    """

    def __init__(self, data_plane: DataPlane, *, tensor_content: bool = False) -> None:
        self._data_plane = data_plane
        self._tensor_content = tensor_content

    def handler(self) -> Handler:
        """The method as a face calls it."""
        return Handler(PREDICT.path, PREDICT.kind, self.run)

    async def run(self, data: bytes, context: Context) -> bytes:
        """Runs one signature.

        Raises:
            ServiceError: With the status and text for the caller.
        """
        call = predict_call(data, deadline(context))
        found = await self._data_plane.predict(call)
        name, version = found.id
        return write_response(
            name, version, found.signature, found.outputs, content=self._tensor_content
        )


def predict_call(data: bytes, deadline: float | None) -> PredictCall:
    """Reads a `PredictRequest`; its tensors are decoded later, once the signature is known.

    Raises:
        InvalidRequestError: The bytes are no such message, or the model is not named.
    """
    request = read_request(data)
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
