from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from protocol import services
from protocol.services import REFLECTION_V1, REFLECTION_V1ALPHA


@pytest.fixture
async def running(model_folders, start_server) -> Any:
    model_folders.half_plus_two(1)
    return await start_server(model_name="half", model_base_path=str(model_folders.model("half")))


@pytest.fixture(params=[REFLECTION_V1, REFLECTION_V1ALPHA], ids=["v1", "v1alpha"])
def ask(request, running) -> Any:
    """Asks one question by the generic bidirectional stream, as grpcurl does."""

    async def ask(**question: Any) -> Any:
        stream = running.stub(request.param)(timeout=10)
        await stream.write(request.param.request(**question))
        answer = await stream.read()
        await stream.done_writing()
        assert answer.original_request == request.param.request(**question)
        return answer

    return ask


def pool_of(answer: Any) -> descriptor_pool.DescriptorPool:
    """Builds a pool as a client would, adding files once their imports are there."""
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(data)
        for data in answer.file_descriptor_response.file_descriptor_proto
    ]
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()
    while len(added) < len(files):
        ready = [f for f in files if f.name not in added and added.issuperset(f.dependency)]
        assert ready, "an import is missing"
        for file in ready:
            pool.Add(file)
            added.add(file.name)
    return pool


async def test_services_are_listed(ask) -> None:
    answer = await ask(list_services="")
    names = [service.name for service in answer.list_services_response.service]
    assert names == sorted(
        [
            services.PREDICTION_SERVICE,
            services.MODEL_SERVICE,
            services.HEALTH_SERVICE,
            services.REFLECTION_V1_SERVICE,
            services.REFLECTION_V1ALPHA_SERVICE,
        ]
    )


@pytest.mark.parametrize(
    "symbol",
    [
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.PredictionService.Predict",
        "tensorflow.serving.PredictRequest",
        "grpc.health.v1.Health",
    ],
)
async def test_a_symbols_file_comes_with_its_imports(ask, symbol) -> None:
    pool = pool_of(await ask(file_containing_symbol=symbol))
    pool.FindFileContainingSymbol(symbol.removesuffix(".Predict"))


async def test_a_client_can_call_from_reflection_alone(ask, running) -> None:
    pool = pool_of(await ask(file_containing_symbol="tensorflow.serving.ModelService"))
    method = pool.FindServiceByName("tensorflow.serving.ModelService").methods_by_name[
        "GetModelStatus"
    ]
    request_class = message_factory.GetMessageClass(method.input_type)
    response_class = message_factory.GetMessageClass(method.output_type)
    call = running.channel.unary_unary(
        "/tensorflow.serving.ModelService/GetModelStatus",
        request_serializer=request_class.SerializeToString,
        response_deserializer=response_class.FromString,
    )
    response = await call(request_class(model_spec={"name": "half"}))
    assert response.model_version_status[0].version == 1


async def test_a_file_by_its_name(ask) -> None:
    answer = await ask(file_containing_symbol="tensorflow.TensorProto")
    name = descriptor_pb2.FileDescriptorProto.FromString(
        answer.file_descriptor_response.file_descriptor_proto[0]
    ).name
    again = await ask(file_by_filename=name)
    assert again.file_descriptor_response == answer.file_descriptor_response


async def test_extensions(ask) -> None:
    answer = await ask(all_extension_numbers_of_type="tensorflow.TensorProto")
    assert answer.all_extension_numbers_response.base_type_name == "tensorflow.TensorProto"
    wanted = {"containing_type": "tensorflow.TensorProto", "extension_number": 1}
    answer = await ask(file_containing_extension=wanted)
    assert answer.error_response.error_code == 5


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ({"file_containing_symbol": "tensorflow.Nothing"}, 5),
        ({"file_containing_symbol": "tensorflow.serving.PredictionService.Nothing"}, 5),
        ({"file_by_filename": "nothing.proto"}, 5),
        ({"all_extension_numbers_of_type": "Nothing"}, 5),
        ({}, 3),
    ],
)
async def test_what_is_not_known_is_an_answer(ask, question, code) -> None:
    answer = await ask(**question)
    assert answer.error_response.error_code == code
    assert answer.error_response.error_message
