from concurrent import futures
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.apis.predict_pb2 import PredictRequest as OfficialPredictRequest

from protocol import messages, services
from protocol.services import Method

METHODS = [value for value in vars(services).values() if isinstance(value, Method)]


@contextmanager
def blocking_server(*handlers):
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(handlers)
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(None).wait()


def echo_name(request, context):
    return messages.PredictResponse(model_spec=request.model_spec)


PREDICTION_HANDLER = services.service_handler(
    services.PREDICTION_SERVICE, {services.PREDICT: echo_name}
)


def watch(request, context):
    for status in (2, 1):
        yield messages.HealthCheckResponse(status=status)


def reflect(requests, context):
    for request in requests:
        yield messages.ReflectionResponse(original_request=request)


def test_methods_have_the_public_paths():
    assert {method.path for method in METHODS} == {
        "/tensorflow.serving.PredictionService/Predict",
        "/tensorflow.serving.PredictionService/Classify",
        "/tensorflow.serving.PredictionService/Regress",
        "/tensorflow.serving.PredictionService/MultiInference",
        "/tensorflow.serving.PredictionService/GetModelMetadata",
        "/tensorflow.serving.ModelService/GetModelStatus",
        "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/List",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    }


@pytest.mark.parametrize(
    ("method", "request_class", "response_class", "kind"),
    [
        (services.PREDICT, "PredictRequest", "PredictResponse", "unary_unary"),
        (services.HANDLE_RELOAD_CONFIG, "ReloadConfigRequest", "ReloadConfigResponse", None),
        (services.HEALTH_WATCH, "HealthCheckRequest", "HealthCheckResponse", "unary_stream"),
        (services.REFLECTION_V1, "ReflectionRequest", "ReflectionResponse", "stream_stream"),
        (
            services.REFLECTION_V1ALPHA,
            "ReflectionRequestV1Alpha",
            "ReflectionResponseV1Alpha",
            "stream_stream",
        ),
    ],
)
def test_method_knows_its_messages(method, request_class, response_class, kind):
    assert method.request is getattr(messages, request_class)
    assert method.response is getattr(messages, response_class)
    assert method.kind == (kind or "unary_unary")


def test_official_stub_talks_to_our_handler():
    with blocking_server(PREDICTION_HANDLER) as address, grpc.insecure_channel(address) as channel:
        official = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = OfficialPredictRequest()
        request.model_spec.name = "sentiment"
        assert official.Predict(request, timeout=10).model_spec.name == "sentiment"


def test_our_stub_talks_to_the_official_server():
    class Servicer(health_pb2_grpc.HealthServicer):
        def Check(self, request, context):
            return health_pb2.HealthCheckResponse(status=1 if request.service == "a" else 2)

    server = grpc.server(futures.ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        check = services.stub(channel, services.HEALTH_CHECK)
        assert check(messages.HealthCheckRequest(service="a"), timeout=10).status == 1
        assert check(messages.HealthCheckRequest(), timeout=10).status == 2
    server.stop(None).wait()


def test_streams():
    health = services.service_handler(services.HEALTH_SERVICE, {services.HEALTH_WATCH: watch})
    reflection = services.service_handler(
        services.REFLECTION_V1_SERVICE, {services.REFLECTION_V1: reflect}
    )
    with blocking_server(health, reflection) as address, grpc.insecure_channel(address) as channel:
        watching = services.stub(channel, services.HEALTH_WATCH)
        statuses = watching(messages.HealthCheckRequest(), timeout=10)
        assert [response.status for response in statuses] == [2, 1]
        asking = services.stub(channel, services.REFLECTION_V1)
        questions = [messages.ReflectionRequest(list_services=text) for text in ("", "*")]
        answers = asking(iter(questions), timeout=10)
        assert [answer.original_request for answer in answers] == questions


async def test_asyncio_server_and_channel():
    async def predict(request, context):
        return echo_name(request, context)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [services.service_handler(services.PREDICTION_SERVICE, {services.PREDICT: predict})]
    )
    port = server.add_insecure_port("localhost:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
        request = messages.PredictRequest(model_spec=messages.ModelSpec(name="face"))
        response = await services.stub(channel, services.PREDICT)(request, timeout=10)
    await server.stop(None)
    assert response.model_spec.name == "face"


def test_methods_left_out_are_unimplemented():
    with blocking_server(PREDICTION_HANDLER) as address, grpc.insecure_channel(address) as channel:
        classify = services.stub(channel, services.CLASSIFY)
        with pytest.raises(grpc.RpcError) as caught:
            classify(messages.ClassificationRequest(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_handler_refuses_methods_of_another_service():
    with pytest.raises(ValueError, match=r"Health/Check does not belong to"):
        services.service_handler(services.MODEL_SERVICE, {services.HEALTH_CHECK: echo_name})
