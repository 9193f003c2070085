"""The calls of a model server without any transport: request messages out, typed answers in.

The blocking and the asyncio client send the same `Call` objects; nothing here performs I/O.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy.typing as npt

from protocol import messages, services
from protocol.contracts import SERVING_DEFAULT, SignatureSpec, signature_spec
from protocol.errors import InternalError, InvalidRequestError, InvalidTensorError
from protocol.tensors import to_ndarray, write_tensor

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """One call that is ready to be sent.

    Args:
        method: The RPC.
        request: Its request message.
        model: Name of the model it is about, "" if it is about none; labels the metrics.
        read: Turns the response message into the answer.
    """

    method: services.Method
    request: Any
    model: str
    read: Callable[[Any], Answer]


@dataclass(frozen=True, eq=False)
class Prediction:
    """Answer of one Predict call.

    Args:
        outputs: Output arrays by name; strings are object arrays of bytes.
        model: Name of the model that answered.
        version: Version that answered; None if the server did not say.
        signature: Signature that was run.
    """

    outputs: Mapping[str, npt.NDArray[Any]]
    model: str
    version: int | None
    signature: str

    def __getitem__(self, output: str) -> npt.NDArray[Any]:
        if output not in self.outputs:
            known = ", ".join(sorted(self.outputs)) or "none"
            raise KeyError(f"no output {output!r} of model {self.model!r}; outputs: {known}")
        return self.outputs[output]


@dataclass(frozen=True)
class ModelMetadata:
    """What one version of a model offers: its signatures by name."""

    model: str
    version: int | None
    signatures: Mapping[str, SignatureSpec]


@dataclass(frozen=True)
class VersionStatus:
    """State of one version of a model.

    Args:
        version: The version.
        state: START, LOADING, AVAILABLE, UNLOADING or END.
        error: Why it failed; "" if it did not.
    """

    version: int
    state: str
    error: str = ""


def predict_call(
    model: str,
    inputs: Mapping[str, npt.ArrayLike],
    signature: str = SERVING_DEFAULT,
    version: int | None = None,
    label: str | None = None,
    outputs: Sequence[str] = (),
) -> Call[Prediction]:
    """Builds a Predict call.

    Args:
        model: Name of the served model.
        inputs: Arrays, or what numpy makes one of, by input name; `str` and `bytes` are strings.
        signature: Signature to run.
        version: Exact version; None for the one the server prefers.
        label: Version label, instead of `version`.
        outputs: Outputs to fetch; empty for all.

    Raises:
        InvalidRequestError: The model is unnamed, both `version` and `label` are given, or an
            input cannot be sent as a tensor.
    """
    request = messages.PredictRequest()
    _set_model_spec(request.model_spec, model, version, label)
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        _write_input(request.inputs[name], name, value)
    request.output_filter.extend(outputs)
    return Call(services.PREDICT, request, model, read_prediction)


def metadata_call(
    model: str, version: int | None = None, label: str | None = None
) -> Call[ModelMetadata]:
    """Builds a GetModelMetadata call for the signatures of `model`.

    Raises:
        InvalidRequestError: The model is unnamed, or both `version` and `label` are given.
    """
    request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
    _set_model_spec(request.model_spec, model, version, label)
    return Call(services.GET_MODEL_METADATA, request, model, read_metadata)


def status_call(model: str, version: int | None = None) -> Call[tuple[VersionStatus, ...]]:
    """Builds a GetModelStatus call for one version of `model`, or for all of them.

    Raises:
        InvalidRequestError: The model is unnamed.
    """
    request = messages.GetModelStatusRequest()
    _set_model_spec(request.model_spec, model, version, None)
    return Call(services.GET_MODEL_STATUS, request, model, read_status)


def health_call(service: str = "") -> Call[str]:
    """Builds a health check of `service`; "" asks for the server as a whole."""
    request = messages.HealthCheckRequest(service=service)
    return Call(services.HEALTH_CHECK, request, "", read_health)


def read_prediction(response: Any) -> Prediction:
    """Reads a PredictResponse, whether its tensors use `tensor_content` or typed fields.

    Raises:
        InvalidTensorError: The server sent a malformed tensor.
    """
    spec = response.model_spec
    return Prediction(
        outputs={name: to_ndarray(proto) for name, proto in response.outputs.items()},
        model=spec.name,
        version=_version(spec),
        signature=spec.signature_name or SERVING_DEFAULT,
    )


def read_metadata(response: Any) -> ModelMetadata:
    """Reads a GetModelMetadataResponse.

    Raises:
        InternalError: The response holds no signatures.
    """
    signatures = messages.SignatureDefMap()
    found = ", ".join(sorted(response.metadata)) or "nothing"
    if not response.metadata["signature_def"].Unpack(signatures):
        raise InternalError(f"expected metadata 'signature_def' in the response, got {found}")
    return ModelMetadata(
        model=response.model_spec.name,
        version=_version(response.model_spec),
        signatures={
            name: signature_spec(name, definition)
            for name, definition in sorted(signatures.signature_def.items())
            if not name.startswith("__")
        },
    )


def read_status(response: Any) -> tuple[VersionStatus, ...]:
    """Reads a GetModelStatusResponse; the newest version comes first."""
    states = messages.ModelVersionStatus.State
    found = [
        VersionStatus(entry.version, _name(states, entry.state), entry.status.error_message)
        for entry in response.model_version_status
    ]
    return tuple(sorted(found, key=lambda status: status.version, reverse=True))


def read_health(response: Any) -> str:
    """Reads a HealthCheckResponse: SERVING, NOT_SERVING, SERVICE_UNKNOWN or UNKNOWN."""
    return _name(messages.HealthCheckResponse.ServingStatus, response.status)


def _set_model_spec(spec: Any, model: str, version: int | None, label: str | None) -> None:
    if not model:
        raise InvalidRequestError("model: expected the name of a served model, got an empty name")
    if version is not None and label is not None:
        raise InvalidRequestError(
            f"expected either a version or a label, got version={version} and label={label!r}"
        )
    spec.name = model
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label


def _name(enum: Any, number: int) -> str:
    """Returns the name of an enum's value; a newer server may know more values than we."""
    return str(enum.Name(number) if number in enum.values() else number)


def _version(spec: Any) -> int | None:
    return spec.version.value if spec.HasField("version") else None


def _write_input(proto: Any, name: str, value: npt.ArrayLike) -> None:
    try:
        write_tensor(proto, value)
    except InvalidTensorError as error:
        raise InvalidTensorError(f"input {name!r}: {error}") from error
