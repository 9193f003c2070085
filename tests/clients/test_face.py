"""Faces in, vectors and names out, with both clients."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from clients import AsyncFaceClient, ClientConfig, FaceClient, Gallery
from protocol import services
from protocol.errors import (
    ContractError,
    FailedPreconditionError,
    InvalidRequestError,
    NotFoundError,
)
from protocol.tensors import to_tensor_proto
from tests.clients.fake_models import THRESHOLDS, plain, png

RED, REDDISH, GREEN = plain(200, 20, 20), plain(190, 30, 25), plain(20, 200, 20)

Call = Callable[..., Any]


def call_blocking(config: ClientConfig, method: str, *arguments: Any, **options: Any) -> Any:
    with FaceClient(config) as client:
        return getattr(client, method)(*arguments, **options)


def call_async(config: ClientConfig, method: str, *arguments: Any, **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncFaceClient(config) as client:
            return await getattr(client, method)(*arguments, **options)

    return asyncio.run(run())


@pytest.fixture(params=[call_blocking, call_async], ids=["blocking", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """Calls a method of either client: call(config, method, *arguments, **options)."""
    function: Call = request.param
    return function


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    with Gallery(tmp_path / "people.gallery") as gallery:
        yield gallery


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A folder of two people with two photos each, and a hidden folder."""
    folder = tmp_path / "people"
    for name, colour in (("Ruby", (200, 20, 20)), ("Olive", (20, 200, 20))):
        (folder / name).mkdir(parents=True)
        for number in (1, 2):
            photo = png(plain(colour[0] + number, *colour[1:]))
            (folder / name / f"{number}.png").write_bytes(photo)
    (folder / ".cache").mkdir()
    return folder


def test_embed(call: Call, config: ClientConfig) -> None:
    red, green = call(config, "embed", [RED, png(GREEN)])
    assert red.vector.shape == (128,)
    assert red.vector.dtype == np.float32
    assert np.linalg.norm(red.vector) == pytest.approx(1)
    assert (red.source, red.model, red.version) == ("images[0]", "face", 3)
    assert dict(red.thresholds) == pytest.approx({0.01: THRESHOLDS[0], 0.001: THRESHOLDS[1]})
    assert green.vector[1] > 0.9 > 0.2 > green.vector[0]


def test_embed_one(call: Call, config: ClientConfig) -> None:
    assert call(config, "embed_one", RED).source == "image"


def test_verify(call: Call, config: ClientConfig) -> None:
    same = call(config, "verify", RED, REDDISH)
    different = call(config, "verify", RED, GREEN)
    assert (same.same, different.same) == (True, False)
    assert same.threshold == pytest.approx(THRESHOLDS[0])
    assert same.far == 0.01
    strict = call(config, "verify", RED, GREEN, far=0.001)
    assert strict.threshold == pytest.approx(THRESHOLDS[1])
    own = call(config, "verify", RED, GREEN, threshold=3.9)
    assert (own.same, own.threshold, own.far) == (True, 3.9, None)


def test_verify_sends_one_request(call: Call, server: Any, config: ClientConfig) -> None:
    call(config, "verify", png(RED), png(plain(1, 2, 3, side=30)))
    assert len(server.calls) == 1


def test_a_swap_between_two_requests_is_noticed(
    call: Call, server: Any, config: ClientConfig
) -> None:
    answer = server.behaviours[services.PREDICT]

    def behave(request: Any, context: Any) -> Any:
        response = answer(request, context)
        response.model_spec.version.value += len(server.calls)
        return response

    server.behaviours[services.PREDICT] = behave
    with pytest.raises(FailedPreconditionError, match="version 4 and model 'face' version 5"):
        call(config, "verify", png(RED), RED)


def test_a_model_without_thresholds_is_refused(
    call: Call, server: Any, config: ClientConfig
) -> None:
    answer = server.behaviours[services.PREDICT]

    def behave(request: Any, context: Any) -> Any:
        response = answer(request, context)
        response.outputs["threshold"].CopyFrom(to_tensor_proto(np.zeros((1, 3), np.float32)))
        return response

    server.behaviours[services.PREDICT] = behave
    with pytest.raises(ContractError, match=r"'threshold'.*expected float32\[\?,2\]"):
        call(config, "embed", [RED])


def test_enrol_and_identify(call: Call, config: ClientConfig, gallery: Gallery) -> None:
    assert call(config, "enrol", gallery, "Ruby", [RED], consent="form 1") == (1,)
    found = call(config, "identify", REDDISH, gallery)
    assert (found.name, found.far) == ("Ruby", 0.001)
    assert call(config, "identify", GREEN, gallery).name is None
    assert call(config, "identify", GREEN, gallery, threshold=4.0, top=1).name == "Ruby"
    assert gallery.people()[0].consent == "form 1"


def test_a_gallery_of_another_version(
    call: Call, server: Any, config: ClientConfig, gallery: Gallery
) -> None:
    call(config, "enrol", gallery, "Ruby", [RED])
    answer = server.behaviours[services.PREDICT]

    def behave(request: Any, context: Any) -> Any:
        response = answer(request, context)
        response.model_spec.version.value = 8
        return response

    server.behaviours[services.PREDICT] = behave
    with pytest.raises(FailedPreconditionError, match=r"'face' version 3.*'face' version 8"):
        call(config, "identify", RED, gallery)


def test_enrol_a_folder_of_people(config: ClientConfig, gallery: Gallery, people: Path) -> None:
    with FaceClient(config) as client:
        added = list(client.enrol_folder(gallery, people, consent="list of May"))
        assert [(entry.name, len(entry.ids)) for entry in added] == [("Olive", 2), ("Ruby", 2)]
        assert added[0].sources[0] == str(people / "Olive" / "1.png")
        assert client.identify(RED, gallery).name == "Ruby"
        # Again: nothing is new but one photo.
        (people / "Olive" / "3.png").write_bytes(png(GREEN))
        again = list(client.enrol_folder(gallery, people))
    assert [(entry.name, len(entry.ids)) for entry in again] == [("Olive", 1)]
    assert {person.consent for person in gallery.people()} == {"list of May"}


async def test_enrol_a_folder_of_people_async(
    config: ClientConfig, gallery: Gallery, people: Path
) -> None:
    async with AsyncFaceClient(config) as client:
        added = [entry async for entry in client.enrol_folder(gallery, people)]
        assert (await client.identify(GREEN, gallery)).name == "Olive"
    assert [(entry.name, len(entry.ids)) for entry in added] == [("Olive", 2), ("Ruby", 2)]


def test_a_folder_import_that_fails_half_way(
    server: Any, config: ClientConfig, gallery: Gallery, people: Path
) -> None:
    (people / "Ruby" / "2.png").write_bytes(png(RED)[:40])
    with FaceClient(config) as client, pytest.raises(InvalidRequestError, match=r"Ruby/2\.png"):
        list(client.enrol_folder(gallery, people))
    assert [person.name for person in gallery.people()] == ["Olive"]


def test_folders_without_people(config: ClientConfig, gallery: Gallery, tmp_path: Path) -> None:
    with FaceClient(config) as client:
        for folder in (tmp_path, tmp_path / "nothing"):
            with pytest.raises(InvalidRequestError, match="one folder a person"):
                list(client.enrol_folder(gallery, folder))
        (tmp_path / "Ada").mkdir()
        with pytest.raises(InvalidRequestError, match="no image files"):
            list(client.enrol_folder(gallery, tmp_path))
    assert gallery.people() == []


def test_errors_of_the_server(call: Call, server: Any, config: ClientConfig) -> None:
    server.fail(services.PREDICT, grpc.StatusCode.NOT_FOUND, "no face")
    with pytest.raises(NotFoundError, match="no face"):
        call(config, "verify", RED, GREEN)


def test_the_twins_have_the_same_methods() -> None:
    def methods(client: type) -> set[str]:
        return {
            name
            for name, _ in inspect.getmembers(client, inspect.isfunction)
            if not name.startswith("_")
        }

    assert methods(FaceClient) == methods(AsyncFaceClient)
