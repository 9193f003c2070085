"""PredictionService and ModelService: messages in, data plane calls, messages out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from protocol import messages
from protocol.errors import InvalidRequestError
from protocol.examples import serialized_examples
from protocol.services import (
    CLASSIFY,
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    HANDLE_RELOAD_CONFIG,
    MULTI_INFERENCE,
    REGRESS,
    Method,
)
from serving.config_files import model_configs
from serving.core.data_plane import DataPlane, Metadata
from serving.core.examples import (
    Classifications,
    ExamplesCall,
    InferenceTask,
    MultiInferenceCall,
    Regressions,
    classify,
    multi_inference,
    regress,
)
from serving.core.manager import ModelChoice
from serving.core.servable import VersionStatus
from serving.faces.predict import deadline, model_choice
from serving.faces.rpc import Context, tell_origin

_SIGNATURE_DEF = "signature_def"


class PredictionFace:
    """`tensorflow.serving.PredictionService` but for Predict, which is `faces.predict`."""

    def __init__(self, data_plane: DataPlane) -> None:
        self._data_plane = data_plane

    def behaviours(self) -> Mapping[Method, Any]:
        """What each method does."""
        return {
            GET_MODEL_METADATA: self.get_model_metadata,
            CLASSIFY: self.classify,
            REGRESS: self.regress,
            MULTI_INFERENCE: self.multi_inference,
        }

    async def get_model_metadata(self, request: Any, context: Context) -> Any:
        """Tells a version's signatures."""
        choice = model_of(request)
        check_metadata_fields(request.metadata_field)
        return metadata_response(self._data_plane.metadata(choice))

    async def classify(self, request: Any, context: Context) -> Any:
        """Classifies examples."""
        call = examples_call(request, deadline(context))
        found = await classify(self._data_plane, call)
        tell_origin(context, found.id.version, found.timing)
        return classify_response(found)

    async def regress(self, request: Any, context: Context) -> Any:
        """Computes one value of each example."""
        call = examples_call(request, deadline(context))
        found = await regress(self._data_plane, call)
        tell_origin(context, found.id.version, found.timing)
        return regress_response(found)

    async def multi_inference(self, request: Any, context: Context) -> Any:
        """Runs several classify and regress signatures on the same examples."""
        call = multi_inference_call(request, deadline(context))
        found = await multi_inference(self._data_plane, call)
        tell_origin(context, found[0].id.version, found[0].timing)
        return multi_inference_response(found)


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
        choice = model_of(request)
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


def model_of(request: Any) -> ModelChoice:
    """Reads a request's `model_spec`.

    Raises:
        InvalidRequestError: It is missing, or names no model.
    """
    return model_choice(request.model_spec if request.HasField("model_spec") else None)


def examples_call(request: Any, deadline: float | None) -> ExamplesCall:
    """Reads a `ClassificationRequest` or a `RegressionRequest`.

    Raises:
        InvalidRequestError: The model is not named.
    """
    return ExamplesCall(
        model=model_of(request),
        examples=serialized_examples(request.input),
        signature=request.model_spec.signature_name,
        deadline=deadline,
    )


def multi_inference_call(request: Any, deadline: float | None) -> MultiInferenceCall:
    """Reads a `MultiInferenceRequest`; the first task tells the version.

    Raises:
        InvalidRequestError: There is no task, or the first names no model.
    """
    if not request.tasks:
        raise InvalidRequestError(
            "ModelSpec has no name specified. A MultiInferenceRequest needs at least one task"
        )
    return MultiInferenceCall(
        model=model_of(request.tasks[0]),
        tasks=[
            InferenceTask(task.model_spec.name, task.method_name, task.model_spec.signature_name)
            for task in request.tasks
        ],
        examples=serialized_examples(request.input),
        deadline=deadline,
    )


def classify_response(found: Classifications) -> Any:
    """Writes a `ClassificationResponse`."""
    response = messages.ClassificationResponse()
    _write_model_spec(response.model_spec, found)
    _write_classes(response.result, found)
    return response


def regress_response(found: Regressions) -> Any:
    """Writes a `RegressionResponse`."""
    response = messages.RegressionResponse()
    _write_model_spec(response.model_spec, found)
    _write_values(response.result, found)
    return response


def multi_inference_response(found: Sequence[Classifications | Regressions]) -> Any:
    """Writes a `MultiInferenceResponse`."""
    response = messages.MultiInferenceResponse()
    for answer in found:
        result = response.results.add()
        _write_model_spec(result.model_spec, answer)
        if isinstance(answer, Classifications):
            _write_classes(result.classification_result, answer)
        else:
            _write_values(result.regression_result, answer)
    return response


def _write_model_spec(spec: Any, found: Classifications | Regressions) -> None:
    spec.name = found.id.name
    spec.version.value = found.id.version
    spec.signature_name = found.signature


def _write_classes(result: Any, found: Classifications) -> None:
    result.SetInParent()
    for classes in found.results:
        entry = result.classifications.add()
        for label, score in classes:
            entry.classes.add(label=label, score=score)


def _write_values(result: Any, found: Regressions) -> None:
    result.SetInParent()
    for value in found.results:
        result.regressions.add(value=value)


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
