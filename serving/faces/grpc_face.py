"""PredictionService and ModelService: messages in, data plane calls, messages out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from protocol import messages
from protocol.contracts import SignatureSpec
from protocol.errors import (
    InvalidRequestError,
    InvalidTensorError,
    UnimplementedError,
)
from protocol.services import (
    CLASSIFY,
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    HANDLE_RELOAD_CONFIG,
    MULTI_INFERENCE,
    PREDICT,
    REGRESS,
    Method,
)
from protocol.tensors import to_ndarray, write_tensor
from serving.config_files import model_configs
from serving.core.data_plane import DataPlane, Metadata, PredictCall, Prediction
from serving.core.manager import ModelChoice
from serving.core.servable import VersionStatus
from serving.faces.rpc import Context

_SIGNATURE_DEF = "signature_def"


class PredictionFace:
    """`tensorflow.serving.PredictionService`.

    Args:
        data_plane: Answers.
        tensor_content: Whether answers carry `tensor_content` rather than typed fields.
    """

    def __init__(self, data_plane: DataPlane, *, tensor_content: bool = False) -> None:
        self._data_plane = data_plane
        self._tensor_content = tensor_content

    def behaviours(self) -> Mapping[Method, Any]:
        """What each method does."""
        return {
            PREDICT: self.predict,
            GET_MODEL_METADATA: self.get_model_metadata,
            CLASSIFY: self.not_served,
            REGRESS: self.not_served,
            MULTI_INFERENCE: self.not_served,
        }

    async def predict(self, request: Any, context: Context) -> Any:
        """Runs one signature."""
        prediction = await self._data_plane.predict(predict_call(request, deadline(context)))
        return predict_response(prediction, tensor_content=self._tensor_content)

    async def get_model_metadata(self, request: Any, context: Context) -> Any:
        """Tells a version's signatures."""
        choice = model_choice(request)
        check_metadata_fields(request.metadata_field)
        return metadata_response(self._data_plane.metadata(choice))

    async def not_served(self, request: Any, context: Context) -> NoReturn:
        """Refuses the methods that work on tf.Example."""
        raise UnimplementedError(
            f"{type(request).__name__} is not served here: use PredictionService/Predict, which "
            "runs every signature"
        )


class ModelFace:
    """`tensorflow.serving.ModelService`."""

    def __init__(self, data_plane: DataPlane) -> None:
        self._data_plane = data_plane

    def behaviours(self) -> Mapping[Method, Any]:
        """What each method does."""
        return {
            GET_MODEL_STATUS: self.get_model_status,
            HANDLE_RELOAD_CONFIG: self.handle_reload_config,
        }

    async def get_model_status(self, request: Any, context: Context) -> Any:
        """Tells the states of a model's versions; a label in the request is ignored."""
        choice = model_choice(request)
        return status_response(self._data_plane.status(choice.name, choice.version))

    async def handle_reload_config(self, request: Any, context: Context) -> Any:
        """Replaces the list of models."""
        if request.config.WhichOneof("config") != "model_config_list":
            raise InvalidRequestError(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        before = self._data_plane.counters(request.metric_names)
        await self._data_plane.reload(model_configs(request.config))
        after = self._data_plane.counters(request.metric_names)
        return reload_response({name: after[name] - before[name] for name in after})


def deadline(context: Context) -> float | None:
    """When the caller gives up, in the event loop's time."""
    remaining_s: Any = context.time_remaining()  # None without a deadline
    return None if remaining_s is None else asyncio.get_running_loop().time() + remaining_s


def model_choice(request: Any) -> ModelChoice:
    """Reads a request's `model_spec`.

    Raises:
        InvalidRequestError: It is missing, or names no model.
    """
    if not request.HasField("model_spec"):
        raise InvalidRequestError("Missing ModelSpec")
    spec = request.model_spec
    if not spec.name:
        raise InvalidRequestError("ModelSpec has no name specified.")
    kind = spec.WhichOneof("version_choice")
    if kind is None:
        return ModelChoice(spec.name)
    if kind == "version":
        return ModelChoice(spec.name, version=spec.version.value)
    return ModelChoice(spec.name, label=spec.version_label)


def predict_call(request: Any, deadline: float | None) -> PredictCall:
    """Reads a `PredictRequest`; its tensors are decoded later, once the signature is known.

    Raises:
        InvalidRequestError: The model is not named.
    """

    def read_inputs(spec: SignatureSpec) -> dict[str, np.ndarray[Any, Any]]:
        return {alias: _read_tensor(alias, proto) for alias, proto in request.inputs.items()}

    return PredictCall(
        model=model_choice(request),
        read_inputs=read_inputs,
        signature=request.model_spec.signature_name,
        output_filter=request.output_filter,
        deadline=deadline,
    )


def _read_tensor(alias: str, proto: Any) -> np.ndarray[Any, Any]:
    try:
        return to_ndarray(proto)
    except InvalidTensorError as error:
        raise InvalidTensorError(f"tensor parsing error: {alias}: {error}") from error


def predict_response(prediction: Prediction, *, tensor_content: bool) -> Any:
    """Writes a `PredictResponse`."""
    response = messages.PredictResponse()
    spec = response.model_spec
    spec.name = prediction.id.name
    spec.version.value = prediction.id.version
    spec.signature_name = prediction.signature
    for alias, array in prediction.outputs.items():
        write_tensor(response.outputs[alias], array, content=tensor_content)
    return response


def check_metadata_fields(wanted: Any) -> None:
    """Checks which metadata a request asks for.

    Raises:
        InvalidRequestError: None, or one that does not exist.
    """
    if not wanted:
        raise InvalidRequestError(
            "GetModelMetadataRequest must specify at least one metadata_field; "
            f"there is {_SIGNATURE_DEF}"
        )
    for name in wanted:
        if name != _SIGNATURE_DEF:
            raise InvalidRequestError(
                f"Metadata field {name} is not supported; supported: {_SIGNATURE_DEF}"
            )


def metadata_response(metadata: Metadata) -> Any:
    """Writes a `GetModelMetadataResponse`."""
    response = messages.GetModelMetadataResponse()
    response.model_spec.name = metadata.id.name
    response.model_spec.version.value = metadata.id.version
    response.metadata[_SIGNATURE_DEF].Pack(metadata.signature_defs)
    return response


def status_response(statuses: list[VersionStatus]) -> Any:
    """Writes a `GetModelStatusResponse`."""
    response = messages.GetModelStatusResponse()
    for status in statuses:
        entry = response.model_version_status.add(version=status.id.version, state=status.state)
        entry.status.error_code = 0
        if status.error is not None:
            entry.status.error_code = status.error.status.value[0]
            entry.status.error_message = status.error.message
    return response


def reload_response(increases: Mapping[str, int]) -> Any:
    """Writes a `ReloadConfigResponse`."""
    response = messages.ReloadConfigResponse()
    response.status.error_code = 0
    for name, increase in increases.items():
        response.metric.add(name=name, int64_value_increase=increase)
    return response
