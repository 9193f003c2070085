import asyncio
import re
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import ovmsclient
import pytest

from protocol import messages, services
from protocol.tensors import to_tensor_proto
from serving.core.manager import ModelChoice

Code = grpc.StatusCode
X = np.ones((1, 3), np.float32)


@pytest.fixture
async def running(model_folders, start_server) -> AsyncIterator[Any]:
    """Versions 1 and 2 of `half` (label stable: 1), and `sentiment`."""
    model_folders.half_plus_two(1, offset=1)
    model_folders.half_plus_two(2, offset=2)
    model_folders.sentiment()
    config = model_folders.config_file(
        text=f"""
        model_config_list {{
          config {{
            name: "half" base_path: "{model_folders.model("half")}" model_platform: "tensorflow"
            model_version_policy {{ all {{}} }}
            version_labels {{ key: "stable" value: 1 }}
          }}
          config {{
            name: "sentiment" base_path: "{model_folders.model("sentiment")}"
            model_platform: "tensorflow"
          }}
        }}
        """
    )
    return await start_server(model_config_file=str(config))


async def refused(call: Any, code: grpc.StatusCode, *texts: str) -> None:
    """Expects a call to fail with this code and these words."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code, caught.value.details()
    for text in texts:
        assert text in (caught.value.details() or "")


# Predict.


async def test_requests_like_an_earlier_one_get_their_own_answers(running) -> None:
    """They take a shorter way; labels, versions and wrong values must not get lost on it."""
    for turn in range(4):
        for version, offset in ((None, 2), (1, 1), (2, 2)):
            choice = {} if version is None else {"version": version}
            outputs = await running.outputs("half", {"x": X * turn}, **choice)
            assert outputs["y"].tolist() == [[turn / 2 + offset] * 3]
        outputs = await running.outputs("half", {"x": X * turn}, label="stable")
        assert outputs["y"].tolist() == [[turn / 2 + 1] * 3]
    lists = await asyncio.gather(
        *(running.outputs("half", {"x": np.full((n % 3 + 1, 3), n, np.float32)}) for n in range(60))
    )
    for n, outputs in enumerate(lists):
        assert outputs["y"].tolist() == [[n / 2 + 2] * 3] * (n % 3 + 1)


async def test_a_new_version_answers_requests_like_earlier_ones(running, model_folders) -> None:
    for _ in range(2):
        outputs = await running.outputs("half", {"x": X})
        assert outputs["y"].tolist() == [[2.5] * 3]
    model_folders.half_plus_two(3, offset=3)
    await running.until(lambda: running.state("half", 3) == 30)
    assert (await running.outputs("half", {"x": X}))["y"].tolist() == [[3.5] * 3]


async def test_who_asks_is_told_version_and_timing(running, make_request) -> None:
    for metadata, told in (([], False), ([("x-server-timing", "1")], True)):
        call = running.stub(services.PREDICT)(make_request("half", {"x": X}), metadata=metadata)
        await call
        trailers = dict(await call.trailing_metadata())
        assert (trailers.get("x-model-version") == "2") == told
        timing = r"wait;dur=[0-9.]+, run;dur=[0-9.]+"
        assert bool(re.fullmatch(timing, trailers.get("server-timing", ""))) == told


async def test_predict_answers_in_typed_fields(running) -> None:
    response = await running.predict("half", {"x": X})
    assert list(response.outputs["y"].float_val) == [2.5] * 3
    assert not response.outputs["y"].tensor_content
    assert set(response.outputs) == {"y", "z"}
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("half", 2, "serving_default")


async def test_predict_text(running) -> None:
    outputs = await running.outputs("sentiment", {"text": ["good film", "bad film"]})
    assert outputs["label"].tolist() == [b"positive", b"negative"]


async def test_the_answer_may_carry_tensor_content(model_folders, start_server) -> None:
    model_folders.half_plus_two(1)
    running = await start_server(
        model_name="half",
        model_base_path=str(model_folders.model("half")),
        enable_serialization_as_tensor_content=True,
    )
    response = await running.predict("half", {"x": X})
    assert response.outputs["y"].tensor_content == np.full(3, 2.5, np.float32).tobytes()


@pytest.mark.parametrize(
    ("choice", "version", "first"),
    [({}, 2, 2.5), ({"version": 1}, 1, 1.5), ({"label": "stable"}, 1, 1.5)],
)
async def test_choice_of_the_version(running, choice, version, first) -> None:
    response = await running.predict("half", {"x": X}, **choice)
    assert response.model_spec.version.value == version
    assert response.outputs["y"].float_val[0] == first


async def test_signature_choice(running) -> None:
    ids = np.array([[2, 4]], np.int32)
    response = await running.predict("sentiment", {"token_ids": ids}, signature="tensors")
    assert response.model_spec.signature_name == "tensors"
    assert list(response.outputs) == ["probability"]


async def test_output_filter(running) -> None:
    response = await running.predict("half", {"x": X}, output_filter=("z",))
    assert list(response.outputs) == ["z"]


async def test_typed_fields_and_short_fields_are_understood(running, make_request) -> None:
    request = make_request("half", {"x": X})
    tensor = to_tensor_proto(X, content=False)
    del tensor.float_val[1:]
    request.inputs["x"].CopyFrom(tensor)
    response = await running.stub(services.PREDICT)(request)
    assert list(response.outputs["y"].float_val) == [2.5] * 3


@pytest.mark.parametrize(
    ("arguments", "code", "texts"),
    [
        (
            {"model": "halb"},
            Code.NOT_FOUND,
            ["Servable not found for request: Latest(halb)", "served models: half, sentiment"],
        ),
        (
            {"version": 7},
            Code.NOT_FOUND,
            ["Servable not found for request: Specific(half, 7)", "versions of half: 1, 2"],
        ),
        ({"version": 0}, Code.NOT_FOUND, ["Specific(half, 0)"]),
        (
            {"label": "canary"},
            Code.INVALID_ARGUMENT,
            ["Unrecognized servable version label: canary", "stable"],
        ),
        (
            {"signature": "embed"},
            Code.FAILED_PRECONDITION,
            ['Serving signature key "embed" not found.', "serving_default, tensors"],
        ),
        (
            {"inputs": {}},
            Code.INVALID_ARGUMENT,
            ["input size does not match signature: 0!=1", "Missing but required: {x}"],
        ),
        (
            {"inputs": {"x": X, "w": X}},
            Code.INVALID_ARGUMENT,
            ["input size does not match signature: 2!=1", "Sent extra: {w}"],
        ),
        ({"inputs": {"w": X}}, Code.INVALID_ARGUMENT, ["Signature input alias: x"]),
        (
            {"inputs": {"x": X.astype(np.int32)}},
            Code.INVALID_ARGUMENT,
            ["expected float32[?,3], got int32[1,3]"],
        ),
        (
            {"inputs": {"x": X[0]}},
            Code.INVALID_ARGUMENT,
            ["expected float32[?,3], got float32[3]"],
        ),
        (
            {"output_filter": ("q",)},
            Code.INVALID_ARGUMENT,
            ["output tensor alias not found in signature: q", "{y,z}"],
        ),
        (
            {"output_filter": ("y", "y")},
            Code.INVALID_ARGUMENT,
            ["duplicate output tensor alias: y"],
        ),
    ],
)
async def test_mistakes(running, arguments, code, texts) -> None:
    arguments = {"model": "half", "inputs": {"x": X}, **arguments}
    await refused(running.predict(**arguments), code, *texts)


async def test_malformed_messages(running, make_request) -> None:
    call = running.stub(services.PREDICT)
    await refused(call(messages.PredictRequest()), Code.INVALID_ARGUMENT, "Missing ModelSpec")
    await refused(
        call(make_request("", {})), Code.INVALID_ARGUMENT, "ModelSpec has no name specified."
    )
    request = make_request("half", {"x": X})
    request.inputs["x"].tensor_content = b"123"
    await refused(call(request), Code.INVALID_ARGUMENT, "tensor parsing error: x", "needs 12 bytes")
    raw = running.channel.unary_unary(services.PREDICT.path)
    await refused(raw(b"\xff" * 20), Code.INVALID_ARGUMENT, "(20 bytes) is not a")


async def test_error_texts_are_cut(running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.predict("x" * 5000, {})
    details = caught.value.details()
    assert len(details) == 1024 + len("...TRUNCATED")
    assert details.endswith("...TRUNCATED")


async def test_large_texts_do_not_hold_up_small_requests(running) -> None:
    large = running.predict("sentiment", {"text": ["good film " * 200_000]})
    response, _ = await asyncio.gather(large, running.predict("half", {"x": X}))
    assert response.outputs["label"].string_val[0] == b"positive"
    assert response.outputs["truncated"].bool_val[0]
    assert response.outputs["tokens"].int_val[0] == 400_000


async def test_large_tensors_go_both_ways(running) -> None:
    x = np.random.default_rng(0).normal(size=(500_000, 3)).astype(np.float32)
    options = [("grpc.max_receive_message_length", -1)]
    address = f"localhost:{running.port}"
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        running.channel = channel
        outputs = await running.outputs("half", {"x": x})
    np.testing.assert_array_equal(outputs["z"], -x)


async def test_deadlines_and_hanging_up(running, monkeypatch, make_request) -> None:
    gate = threading.Event()
    handle = running.server.manager.find(running_choice())
    original = handle.servable.run

    def slow(signature: str, tensors: Any) -> Any:
        assert gate.wait(10)
        return original(signature, tensors)

    monkeypatch.setattr(handle.servable, "run", slow)
    call = running.stub(services.PREDICT)
    await refused(call(make_request("half", {"x": X}), timeout=0.05), Code.DEADLINE_EXCEEDED)
    hung_up = call(make_request("half", {"x": X}), timeout=10)
    await running.until(lambda: True)
    hung_up.cancel()
    gate.set()
    assert (await running.predict("half", {"x": X})).model_spec.version.value == 2
    async with asyncio.timeout(10):
        while handle.users:
            await asyncio.wait({asyncio.ensure_future(handle.unused())})


def running_choice() -> Any:
    from serving.core.manager import ModelChoice

    return ModelChoice("half")


@pytest.mark.parametrize("method", [services.CLASSIFY, services.REGRESS])
async def test_examples_need_a_signature_that_takes_them(running, method) -> None:
    call = running.stub(method)
    await refused(call(method.request()), Code.INVALID_ARGUMENT, "Missing ModelSpec")
    request = method.request()
    request.model_spec.name = "halb"
    await refused(call(request), Code.NOT_FOUND, "Latest(halb)")
    request.model_spec.name = "sentiment"
    await refused(call(request), Code.INVALID_ARGUMENT, "Tensor")
    request.model_spec.signature_name = "no"
    await refused(call(request), Code.INVALID_ARGUMENT, "No signature was found with the name: no")


async def test_multi_inference_needs_tasks_of_one_model(running) -> None:
    call = running.stub(services.MULTI_INFERENCE)
    request = messages.MultiInferenceRequest()
    await refused(call(request), Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
    task = request.tasks.add(method_name="tensorflow/serving/predict")
    await refused(call(request), Code.INVALID_ARGUMENT, "Missing ModelSpec")
    task.model_spec.name = "half"
    await refused(call(request), Code.UNIMPLEMENTED, "Unsupported signature method_name")


# GetModelMetadata.


async def test_metadata(running) -> None:
    request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "sentiment"
    response = await running.stub(services.GET_MODEL_METADATA)(request)
    assert response.model_spec.name == "sentiment"
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == ""
    described = messages.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(described)
    outputs = described.signature_def["serving_default"].outputs
    assert set(outputs) == {"label", "probability", "tokens", "truncated"}


@pytest.mark.parametrize(
    ("fields", "model", "code", "text"),
    [
        ([], "half", Code.INVALID_ARGUMENT, "must specify at least one metadata_field"),
        (["x"], "half", Code.INVALID_ARGUMENT, "Metadata field x is not supported"),
        (["signature_def"], "halb", Code.NOT_FOUND, "Latest(halb)"),
        (["signature_def"], "", Code.INVALID_ARGUMENT, "has no name"),
    ],
)
async def test_metadata_mistakes(running, fields, model, code, text) -> None:
    request = messages.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = model
    await refused(running.stub(services.GET_MODEL_METADATA)(request), code, text)


# GetModelStatus.


async def test_status_lists_the_newest_first(running) -> None:
    request = messages.GetModelStatusRequest()
    request.model_spec.name = "half"
    request.model_spec.version_label = "ignored"
    response = await running.stub(services.GET_MODEL_STATUS)(request)
    found = [(entry.version, entry.state) for entry in response.model_version_status]
    assert found == [(2, 30), (1, 30)]
    request.model_spec.version.value = 1
    response = await running.stub(services.GET_MODEL_STATUS)(request)
    assert [entry.version for entry in response.model_version_status] == [1]


async def test_status_mistakes(running) -> None:
    call = running.stub(services.GET_MODEL_STATUS)
    request = messages.GetModelStatusRequest()
    await refused(call(request), Code.INVALID_ARGUMENT, "Missing ModelSpec")
    request.model_spec.name = "halb"
    await refused(call(request), Code.NOT_FOUND, "Could not find any versions of model halb")
    request.model_spec.name = "half"
    request.model_spec.version.value = 9
    await refused(call(request), Code.NOT_FOUND, "Could not find version 9 of model half")


# HandleReloadConfigRequest.


def reload_request(*models: tuple[str, Any]) -> Any:
    request = messages.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    for name, base_path in models:
        request.config.model_config_list.config.add(
            name=name, base_path=str(base_path), model_platform="tensorflow"
        )
    return request


async def test_reload_adds_and_removes(running, model_folders) -> None:
    model_folders.lookup()
    request = reload_request(
        ("lookup", model_folders.model("lookup")), ("half", model_folders.model("half"))
    )
    request.metric_names.extend(["/tensorflow/cc/saved_model/load_attempt_count", "/no/such"])
    response = await running.stub(services.HANDLE_RELOAD_CONFIG)(request)
    assert response.status.error_code == 0
    assert [(m.name, m.int64_value_increase) for m in response.metric] == [
        ("/tensorflow/cc/saved_model/load_attempt_count", 1)
    ]
    outputs = await running.outputs("lookup", {"index": np.array([1])})
    assert outputs["y"].tolist() == [10]
    # `half` now has the default policy, and `sentiment` has gone.
    await running.until(lambda: running.state("half", 1) == running.state("sentiment", 1) == 50)
    await refused(running.predict("sentiment", {}), Code.NOT_FOUND, "Latest(sentiment)")


async def test_reload_of_the_same_list_changes_nothing(running, model_folders) -> None:
    names = ("half", "sentiment")
    request = reload_request(*((name, model_folders.model(name)) for name in names))
    for _ in range(3):
        await running.stub(services.HANDLE_RELOAD_CONFIG)(request)
    assert (await running.states("sentiment")) == {1: 30}


async def test_reload_tells_which_new_models_failed(running, model_folders) -> None:
    model_folders.broken(3, name="broken")
    request = reload_request(
        ("broken", model_folders.model("broken")),
        ("empty", model_folders.model("empty")),
        ("half", model_folders.model("half")),
    )
    await refused(
        running.stub(services.HANDLE_RELOAD_CONFIG)(request),
        Code.UNKNOWN,
        "2 model(s) did not become available: {{{name: broken version: 3} due to error: ",
        "Could not read base path",
    )
    assert (await running.predict("half", {"x": X})).model_spec.version.value == 2


async def test_reload_refuses_what_can_not_work(running, model_folders) -> None:
    call = running.stub(services.HANDLE_RELOAD_CONFIG)
    await refused(
        call(messages.ReloadConfigRequest()),
        Code.INVALID_ARGUMENT,
        "ServerModelConfig type not supported by HandleReloadConfigRequest",
    )
    await refused(call(reload_request(("m", "relative"))), Code.INVALID_ARGUMENT, "absolute path")
    request = reload_request(("half", model_folders.model("half")))
    request.config.model_config_list.config[0].version_labels["canary"] = 9
    await refused(call(request), Code.FAILED_PRECONDITION, "assign label to version 9")
    assert (await running.states("sentiment")) == {1: 30}


async def test_labels_move_with_a_reload(running, model_folders) -> None:
    request = reload_request(("half", model_folders.model("half")))
    config = request.config.model_config_list.config[0]
    config.model_version_policy.all.SetInParent()
    config.version_labels["stable"] = 2
    await running.stub(services.HANDLE_RELOAD_CONFIG)(request)
    response = await running.predict("half", {"x": X}, label="stable")
    assert response.model_spec.version.value == 2


# Another project's client.


async def test_ovmsclient(running) -> None:
    """Without a version this client asks for version 0, which is none of ours."""
    client = ovmsclient.make_grpc_client(f"localhost:{running.port}")

    def ask() -> None:
        status = client.get_model_status("half", 1)
        assert status == {1: {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}
        metadata = client.get_model_metadata("half", 2)
        assert metadata["inputs"]["x"]["dtype"] == "DT_FLOAT"
        answer = client.predict({"x": X * 3}, "half", 1)
        np.testing.assert_array_equal(answer["y"], [[2.5] * 3])
        words = client.predict({"text": [b"good", b"bad"]}, "sentiment", 1)
        assert words["label"].tolist() == [b"positive", b"negative"]
        with pytest.raises(ovmsclient.tfs_compat.base.errors.ModelNotFoundError):
            client.predict({"x": X}, "half", 9)

    await asyncio.to_thread(ask)


async def test_calls_that_are_given_up_release_their_version(
    model_folders, start_server, make_request
) -> None:
    model_folders.slow()
    server = await start_server(model_name="slow", model_base_path=str(model_folders.model("slow")))
    predict = server.stub(services.PREDICT)
    request = make_request("slow", {"x": np.array([2000], np.float32)})
    with pytest.raises(grpc.aio.AioRpcError):
        await predict(request, timeout=0.05)
    predictor = server.server.data_plane.predictor
    async with asyncio.timeout(20):
        while predictor.in_flight:
            await asyncio.sleep(0.01)
        call = predict(request)
        while not predictor.in_flight:
            await asyncio.sleep(0.01)
        call.cancel()
        while predictor.in_flight:
            await asyncio.sleep(0.01)
    assert server.server.manager.find(ModelChoice("slow")).users == 0
    assert 'code="CANCELLED",model="slow"' in server.server.metrics.render().decode()
