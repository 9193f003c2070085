"""Texts in, labelled results out, with both clients."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from clients import AsyncSentimentClient, ClientConfig, SentimentClient, SentimentResult
from protocol import messages, services
from protocol.contracts import SENTIMENT, SignatureSpec, signature_def
from protocol.errors import ContractError, InvalidRequestError
from protocol.tensors import to_ndarray, to_tensor_proto

Classify = Callable[..., list[SentimentResult]]


def classify_blocking(config: ClientConfig, texts: Any, **options: Any) -> list[SentimentResult]:
    with SentimentClient(config, **options) as client:
        return client.classify(texts)


def classify_async(config: ClientConfig, texts: Any, **options: Any) -> list[SentimentResult]:
    async def run() -> list[SentimentResult]:
        async with AsyncSentimentClient(config, **options) as client:
            return await client.classify(texts)

    return asyncio.run(run())


@pytest.fixture(params=[classify_blocking, classify_async], ids=["blocking", "async"])
def classify(request: pytest.FixtureRequest) -> Classify:
    """Classifies texts with either client: classify(config, texts, **client options)."""
    function: Classify = request.param
    return function


def sent_texts(server: Any) -> list[list[str]]:
    return [
        [text.decode() for text in to_ndarray(call.request.inputs["text"])]
        for call in server.calls
        if call.method is services.PREDICT
    ]


def test_results(classify: Classify, config: ClientConfig) -> None:
    good, bad = classify(config, ["a good film", "bad"])
    assert good == SentimentResult(
        text="a good film",
        label="positive",
        probability=pytest.approx(0.9),
        probabilities=pytest.approx((0.1, 0.9)),
        tokens=3,
        truncated=False,
    )
    assert (bad.label, bad.probability) == ("negative", 0.75)


def test_truncation_is_told(classify: Classify, config: ClientConfig) -> None:
    [result] = classify(config, ["word " * 401])
    assert result.truncated
    assert result.tokens == 401


def test_long_lists_are_sent_in_chunks_and_keep_their_order(
    classify: Classify, server: Any, config: ClientConfig
) -> None:
    texts = [f"good {index}" if index % 3 else f"bad {index}" for index in range(75)]
    results = classify(config, texts)
    assert [len(chunk) for chunk in sent_texts(server)] == [32, 32, 11]
    assert [result.text for result in results] == texts
    assert [result.label == "positive" for result in results] == [
        bool(index % 3) for index in range(75)
    ]


def test_batch_size(classify: Classify, server: Any, config: ClientConfig) -> None:
    classify(config, ("a", "b", "c"), batch_size=2)
    assert sent_texts(server) == [["a", "b"], ["c"]]


def test_nothing_to_classify(classify: Classify, server: Any, config: ClientConfig) -> None:
    assert classify(config, []) == []
    assert server.calls == []


@pytest.mark.parametrize("text", ["", " ", "naïve \N{PILE OF POO}", "nul \0 inside\0"])
def test_every_text_is_legal(
    classify: Classify, server: Any, config: ClientConfig, text: str
) -> None:
    assert classify(config, [text])[0].text == text
    assert sent_texts(server) == [[text]]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["fine", b"bytes"], r"texts\[1\]: expected str, got bytes"),
        ([None], r"texts\[0\]: expected str, got NoneType"),
        (["\ud800"], r"texts\[0\] cannot be sent as UTF-8"),
        ("one string", "expected a list of strings, got one str"),
    ],
)
def test_other_things_are_refused_before_sending(
    classify: Classify, server: Any, config: ClientConfig, texts: Any, message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        classify(config, texts)
    assert server.calls == []


def test_model_version_and_label_arrive(
    classify: Classify, server: Any, config: ClientConfig
) -> None:
    classify(config, ["x"], model="reviews", version=2)
    classify(config, ["x"], model="reviews", label="stable")
    first, second = (call.request.model_spec for call in server.calls)
    assert (first.name, first.version.value) == ("reviews", 2)
    assert second.version_label == "stable"


def test_tensor_content_is_read_too(classify: Classify, server: Any, config: ClientConfig) -> None:
    answer = server.behaviours[services.PREDICT]

    def behave(request: Any, context: Any) -> Any:
        response = answer(request, context)
        for name in ("probability", "tokens", "truncated"):
            array = to_ndarray(response.outputs[name])
            response.outputs[name].CopyFrom(to_tensor_proto(array, content=True))
        return response

    server.behaviours[services.PREDICT] = behave
    assert classify(config, ["good"])[0].label == "positive"


def without_output(server: Any, name: str) -> None:
    """Lets the server forget one output, in its answers only."""
    answer = server.behaviours[services.PREDICT]

    def behave(request: Any, context: Any) -> Any:
        response = answer(request, context)
        del response.outputs[name]
        return response

    server.behaviours[services.PREDICT] = behave


def serve_signature(server: Any, spec: SignatureSpec) -> None:
    definitions = messages.SignatureDefMap()
    definitions.signature_def[spec.name].CopyFrom(signature_def(spec))

    def behave(request: Any, context: Any) -> Any:
        response = messages.GetModelMetadataResponse(model_spec=request.model_spec)
        response.metadata["signature_def"].Pack(definitions)
        return response

    server.behaviours[services.GET_MODEL_METADATA] = behave


def test_a_missing_output_is_named(classify: Classify, server: Any, config: ClientConfig) -> None:
    without_output(server, "truncated")
    with pytest.raises(ContractError, match="without output 'truncated'"):
        classify(config, ["good"])


def test_another_signature_is_explained(
    classify: Classify, server: Any, config: ClientConfig
) -> None:
    without_output(server, "truncated")
    default = SENTIMENT.signature("serving_default")
    serve_signature(server, SignatureSpec(default.name, default.inputs, (default.outputs[1],)))
    with pytest.raises(ContractError) as caught:
        classify(config, ["good"])
    assert all(name in str(caught.value) for name in ("label", "tokens", "truncated"))
    asked = next(call for call in server.calls if call.method is services.GET_MODEL_METADATA)
    assert asked.request.model_spec.version.value == 3  # the version that answered


def test_a_missing_signature_is_explained(
    classify: Classify, server: Any, config: ClientConfig
) -> None:
    without_output(server, "label")
    serve_signature(server, SENTIMENT.signature("tensors"))
    with pytest.raises(ContractError, match="'serving_default'; it has: tensors"):
        classify(config, ["good"])


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("tokens", np.zeros(2, np.int32)),
        ("tokens", np.zeros(1, np.int64)),
        ("probability", np.zeros(1, np.float32)),
        ("label", np.zeros(1, np.float32)),
    ],
)
def test_outputs_of_another_form_are_refused(
    classify: Classify, server: Any, config: ClientConfig, name: str, array: np.ndarray
) -> None:
    answer = server.behaviours[services.PREDICT]

    def behave(request: Any, context: Any) -> Any:
        response = answer(request, context)
        response.outputs[name].CopyFrom(to_tensor_proto(array))
        return response

    server.behaviours[services.PREDICT] = behave
    with pytest.raises(ContractError, match=name):
        classify(config, ["good"])


def test_classify_one(config: ClientConfig) -> None:
    with SentimentClient(config) as client:
        assert client.classify_one("good").label == "positive"


async def test_classify_one_async(config: ClientConfig) -> None:
    async with AsyncSentimentClient(config) as client:
        assert (await client.classify_one("good")).label == "positive"


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="batch_size: expected 1 or more, got 0"):
        SentimentClient(batch_size=0)


def test_timeout_is_that_of_each_chunk(server: Any, config: ClientConfig) -> None:
    with SentimentClient(config, batch_size=1) as client:
        client.classify(["a", "b"], timeout_s=5.0)
    assert all(4 < call.remaining_s < 5.1 for call in server.calls)
