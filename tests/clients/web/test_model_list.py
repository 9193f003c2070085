import grpc
import pytest

from clients import AsyncPredictClient, ClientConfig
from clients.web.model_list import DEFAULT_MODELS, list_models, task_of
from clients.web.views import VIEWS
from protocol import services
from protocol.contracts import CONTRACTS
from protocol.errors import UnavailableError
from tests.clients.conftest import FakeServer


def test_every_task_has_a_view_and_a_model() -> None:
    assert set(VIEWS) == set(CONTRACTS) == set(map(task_of, DEFAULT_MODELS))


@pytest.mark.parametrize("name", ["detection", "detection_int8"])
def test_a_name_begins_with_its_task(name: str) -> None:
    assert task_of(name) == "detection"


def test_another_name() -> None:
    with pytest.raises(ValueError, match=r"model 'detektion': expected the name of a task \(face"):
        task_of("detektion")


async def test_versions_and_their_states(server: FakeServer, config: ClientConfig) -> None:
    async with AsyncPredictClient(config) as client:
        [listed] = await list_models(client, ["sentiment"])
    assert listed.available == (3,)
    assert listed.state == "version 3 available, version 2 end (out of memory)"


async def test_a_model_that_is_not_served(server: FakeServer, config: ClientConfig) -> None:
    server.fail(services.GET_MODEL_STATUS, grpc.StatusCode.NOT_FOUND, "not here")
    async with AsyncPredictClient(config) as client:
        listed = await list_models(client, ["face", "sentiment"])
    assert [(model.name, model.available, model.state) for model in listed] == [
        ("face", (), "not served"),
        ("sentiment", (), "not served"),
    ]


async def test_a_server_that_is_away() -> None:
    async with AsyncPredictClient(ClientConfig("localhost:1", max_retries=0)) as client:
        with pytest.raises(UnavailableError):
            await list_models(client, ["face", "sentiment"])
