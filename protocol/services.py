"""The RPCs we speak, as values: client stubs and server handlers come from the same `Method`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import grpc

from protocol import messages

Kind = Literal["unary_unary", "unary_stream", "stream_stream"]


@dataclass(frozen=True)
class Method:
    """One RPC.

    Attributes:
        service: full name of the service, such as `tensorflow.serving.PredictionService`.
        name: name of the method within the service.
        request: message class of the request.
        response: message class of the response.
        kind: which sides stream.
    """

    service: str
    name: str
    request: Any
    response: Any
    kind: Kind = "unary_unary"

    @property
    def path(self) -> str:
        """The HTTP/2 path of the method."""
        return f"/{self.service}/{self.name}"


PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
HEALTH_SERVICE = "grpc.health.v1.Health"
REFLECTION_V1_SERVICE = "grpc.reflection.v1.ServerReflection"
REFLECTION_V1ALPHA_SERVICE = "grpc.reflection.v1alpha.ServerReflection"


def _method(service: str, name: str) -> Method:
    """Reads request, response and kind of a method from the descriptors."""
    descriptor = messages.POOL.FindServiceByName(service).methods_by_name[name]
    kind: Kind = "unary_unary"
    if descriptor.server_streaming:
        kind = "stream_stream" if descriptor.client_streaming else "unary_stream"
    return Method(
        service=service,
        name=name,
        request=messages.message_class(descriptor.input_type.full_name),
        response=messages.message_class(descriptor.output_type.full_name),
        kind=kind,
    )


PREDICT = _method(PREDICTION_SERVICE, "Predict")
CLASSIFY = _method(PREDICTION_SERVICE, "Classify")
REGRESS = _method(PREDICTION_SERVICE, "Regress")
MULTI_INFERENCE = _method(PREDICTION_SERVICE, "MultiInference")
GET_MODEL_METADATA = _method(PREDICTION_SERVICE, "GetModelMetadata")

GET_MODEL_STATUS = _method(MODEL_SERVICE, "GetModelStatus")
HANDLE_RELOAD_CONFIG = _method(MODEL_SERVICE, "HandleReloadConfigRequest")

HEALTH_CHECK = _method(HEALTH_SERVICE, "Check")
HEALTH_LIST = _method(HEALTH_SERVICE, "List")
HEALTH_WATCH = _method(HEALTH_SERVICE, "Watch")

REFLECTION_V1 = _method(REFLECTION_V1_SERVICE, "ServerReflectionInfo")
REFLECTION_V1ALPHA = _method(REFLECTION_V1ALPHA_SERVICE, "ServerReflectionInfo")


def stub(channel: grpc.Channel | grpc.aio.Channel, method: Method) -> Any:
    """Makes a callable for one method.

    Args:
        channel: a blocking or an asyncio channel; the callable is of the same sort.
        method: what to call.
    """
    return getattr(channel, method.kind)(
        method.path,
        request_serializer=method.request.SerializeToString,
        response_deserializer=method.response.FromString,
    )


def service_handler(
    service: str, behaviours: Mapping[Method, Callable[..., Any]]
) -> grpc.GenericRpcHandler:
    """Makes the handler of one service, for blocking and asyncio servers.

    Args:
        service: full name of the service; the methods must belong to it.
        behaviours: what each method does. Methods that are left out answer UNIMPLEMENTED.

    Raises:
        ValueError: a method belongs to another service.
    """
    for method in behaviours:
        if method.service != service:
            raise ValueError(f"method {method.path} does not belong to service {service}")
    handlers = {method.name: _rpc_handler(method, run) for method, run in behaviours.items()}
    return grpc.method_handlers_generic_handler(service, handlers)


def _rpc_handler(method: Method, behaviour: Callable[..., Any]) -> Any:
    make_handler = getattr(grpc, f"{method.kind}_rpc_method_handler")
    return make_handler(
        behaviour,
        request_deserializer=method.request.FromString,
        response_serializer=method.response.SerializeToString,
    )
