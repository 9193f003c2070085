"""A gRPC server on a real port whose answers the tests choose, and clients of it."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from clients import Backoff, ClientConfig
from protocol import messages, services
from protocol.contracts import CONTRACTS, SENTIMENT, signature_def
from protocol.tensors import to_ndarray, to_tensor_proto
from tests.clients.fake_models import MODELS

LABELS = (b"negative", b"positive")
MAX_TOKENS = 400
VERSION = 3

Behaviour = Callable[[Any, grpc.ServicerContext], Any]


@dataclass
class ReceivedCall:
    """One call as it arrived."""

    method: services.Method
    request: Any
    metadata: dict[str, str]
    remaining_s: float


@dataclass
class FakeServer:
    """Answers every RPC with the behaviour set for it, and remembers what came."""

    behaviours: dict[services.Method, Behaviour]
    target: str = ""
    calls: list[ReceivedCall] = field(default_factory=list)

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        by_service: dict[str, dict[services.Method, Behaviour]] = {}
        for method in self.behaviours:
            by_service.setdefault(method.service, {})[method] = self._recorded(method)
        return [services.service_handler(*entry) for entry in by_service.items()]

    def fail(self, method: services.Method, code: grpc.StatusCode, details: str = "") -> None:
        """Makes every call of `method` fail."""
        self.behaviours[method] = lambda request, context: context.abort(code, details)

    def fail_times(self, method: services.Method, times: int, code: grpc.StatusCode) -> None:
        """Makes the next `times` calls of `method` fail, and the others succeed again."""
        answer = self.behaviours[method]
        left = iter(range(times))

        def behave(request: Any, context: grpc.ServicerContext) -> Any:
            if next(left, None) is not None:
                context.abort(code, "try again")
            return answer(request, context)

        self.behaviours[method] = behave

    def _recorded(self, method: services.Method) -> Behaviour:
        def behave(request: Any, context: grpc.ServicerContext) -> Any:
            metadata = {name: str(value) for name, value in context.invocation_metadata()}
            call = ReceivedCall(method, request, metadata, context.time_remaining())
            self.calls.append(call)
            return self.behaviours[method](request, context)

        return behave


def classify_by_keyword(request: Any, context: grpc.ServicerContext) -> Any:
    """Answers as a sentiment model would that only knows the word "good"."""
    texts = to_ndarray(request.inputs["text"])
    positive = np.array([b"good" in text for text in texts], dtype=bool)
    probability = np.where(positive[:, None], [[0.1, 0.9]], [[0.75, 0.25]])
    tokens = np.array([len(text.split()) for text in texts], dtype=np.int32)
    outputs = {
        "label": np.array([LABELS[int(flag)] for flag in positive], dtype=object),
        "probability": probability.astype(np.float32).reshape(len(texts), 2),
        "tokens": tokens,
        "truncated": tokens > MAX_TOKENS,
    }
    return predict_response(request, outputs)


def answer_as_model(request: Any, context: grpc.ServicerContext) -> Any:
    """Answers as the model of the task whose name was asked for; sentiment is the default."""
    model = MODELS.get(request.model_spec.name)
    if model is None:
        return classify_by_keyword(request, context)
    try:
        return predict_response(request, model(request), content=True)
    except (OSError, ValueError) as error:  # an image or a number that it cannot take
        return context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))


def predict_response(
    request: Any, outputs: dict[str, np.ndarray[Any, Any]], *, content: bool = False
) -> Any:
    """Builds a PredictResponse with typed fields, or with tensor_content."""
    response = messages.PredictResponse()
    response.model_spec.name = request.model_spec.name
    response.model_spec.version.value = VERSION
    response.model_spec.signature_name = request.model_spec.signature_name
    for name, array in outputs.items():
        response.outputs[name].CopyFrom(to_tensor_proto(array, content=content))
    return response


def task_metadata(request: Any, context: grpc.ServicerContext) -> Any:
    contract = CONTRACTS.get(request.model_spec.name, SENTIMENT)
    return metadata_response(request, contract.signatures)


def metadata_response(request: Any, signatures: Any) -> Any:
    """Builds a GetModelMetadataResponse from signature specs."""
    response = messages.GetModelMetadataResponse()
    response.model_spec.name = request.model_spec.name
    response.model_spec.version.value = VERSION
    definitions = messages.SignatureDefMap()
    for spec in signatures:
        definitions.signature_def[spec.name].CopyFrom(signature_def(spec))
    definitions.signature_def["__saved_model_init_op"].SetInParent()
    response.metadata["signature_def"].Pack(definitions)
    return response


def two_versions(request: Any, context: grpc.ServicerContext) -> Any:
    response = messages.GetModelStatusResponse()
    response.model_version_status.add(version=2, state=50).status.error_message = "out of memory"
    response.model_version_status.add(version=VERSION, state=30)
    return response


def serving(request: Any, context: grpc.ServicerContext) -> Any:
    return messages.HealthCheckResponse(status=1)


@pytest.fixture
def fake_server() -> FakeServer:
    """A fake server with good behaviours that does not listen yet."""
    return FakeServer(
        {
            services.PREDICT: answer_as_model,
            services.GET_MODEL_METADATA: task_metadata,
            services.GET_MODEL_STATUS: two_versions,
            services.HEALTH_CHECK: serving,
        }
    )


@pytest.fixture
def server(fake_server: FakeServer) -> Iterator[FakeServer]:
    """A fake server with good behaviours on a free port."""
    with listening(fake_server):
        yield fake_server


@contextlib.contextmanager
def listening(fake_server: FakeServer) -> Iterator[None]:
    """Gives a fake server a free port."""
    with ThreadPoolExecutor(4) as pool:
        grpc_server = grpc.server(pool, options=[("grpc.max_receive_message_length", -1)])
        grpc_server.add_generic_rpc_handlers(fake_server.handlers())
        fake_server.target = f"localhost:{grpc_server.add_insecure_port('localhost:0')}"
        grpc_server.start()
        yield
        grpc_server.stop(grace=None).wait()


@pytest.fixture
def two_servers(server: FakeServer) -> Iterator[tuple[FakeServer, FakeServer]]:
    """Two fake servers with good behaviours."""
    other = FakeServer(server.behaviours)
    with listening(other):
        yield server, other


@pytest.fixture
def config(server: FakeServer) -> ClientConfig:
    """A config for the fake server that retries without noticeable waits."""
    return ClientConfig(server.target, backoff=Backoff(initial_s=0.001, max_s=0.002))


@pytest.fixture(scope="session")
def model_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with version 1 of a tiny sentiment model that only knows the word "good"."""
    pytest.importorskip("onnx")
    from tests.bench.tiny_model import publish_tiny_model

    repository = tmp_path_factory.mktemp("model_repository")
    publish_tiny_model(repository)
    return repository
