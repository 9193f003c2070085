"""Texts in, translations and attention out, with both clients."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from clients import (
    Alternative,
    AsyncTranslationClient,
    AttentionResult,
    ClientConfig,
    TranslationClient,
    TranslationResult,
)
from protocol import services
from protocol.errors import ContractError, InvalidRequestError
from protocol.tensors import to_ndarray, to_tensor_proto

Ask = Callable[..., Any]


def ask_blocking(config: ClientConfig, method: str, *texts: Any, **options: Any) -> Any:
    batch_size = options.pop("batch_size", None)
    with TranslationClient(config, batch_size=batch_size) as client:
        return getattr(client, method)(*texts, **options)


def ask_async(config: ClientConfig, method: str, *texts: Any, **options: Any) -> Any:
    batch_size = options.pop("batch_size", None)

    async def run() -> Any:
        async with AsyncTranslationClient(config, batch_size=batch_size) as client:
            return await getattr(client, method)(*texts, **options)

    return asyncio.run(run())


@pytest.fixture(params=[ask_blocking, ask_async], ids=["blocking", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Calls a method of either client: ask(config, method, texts, **options)."""
    function: Ask = request.param
    return function


def sent_inputs(server: Any) -> list[Any]:
    return [call.request.inputs for call in server.calls if call.method is services.PREDICT]


def change_answer(server: Any, name: str, array: np.ndarray[Any, Any]) -> None:
    """Lets the server answer with another array for one output."""
    answer = server.behaviours[services.PREDICT]

    def behave(request: Any, context: Any) -> Any:
        response = answer(request, context)
        response.outputs[name].CopyFrom(to_tensor_proto(array))
        return response

    server.behaviours[services.PREDICT] = behave


def test_results(ask: Ask, config: ClientConfig) -> None:
    found, blank = ask(config, "translate", ["the cat", ""], alternatives=2)
    assert found == TranslationResult(
        text="the cat",
        translation="CAT THE",
        score=0,
        alternatives=(Alternative("CAT THE", 0), Alternative("CAT THE!", -1)),
        truncated=False,
    )
    assert (blank.translation, blank.truncated) == ("", False)


def test_one_text(ask: Ask, config: ClientConfig) -> None:
    assert ask(config, "translate_one", "naïve café").translation == "CAFÉ NAÏVE"
    assert ask(config, "attention_one", "a b").translation == "B A"


def test_truncation_is_told(ask: Ask, config: ClientConfig) -> None:
    assert ask(config, "translate_one", "word " * 41).truncated
    assert ask(config, "attention_one", "word " * 41).truncated


def test_batches_hold_texts_of_like_length_and_answers_keep_their_order(
    ask: Ask, server: Any, config: ClientConfig
) -> None:
    texts = ["long " * 9, "b", "long " * 8, "a", "c c"]
    results = ask(config, "translate", texts, batch_size=2)
    assert [result.text for result in results] == texts
    assert [result.translation for result in results] == [
        " ".join(text.split()[::-1]).upper() for text in texts
    ]
    sent = [to_ndarray(inputs["text"]).tolist() for inputs in sent_inputs(server)]
    assert sent == [[b"b", b"a"], [b"c c", texts[2].encode()], [texts[0].encode()]]


def test_sixteen_texts_are_sent_at_a_time(ask: Ask, server: Any, config: ClientConfig) -> None:
    assert len(ask(config, "translate", ["x"] * 33)) == 33
    assert [len(to_ndarray(inputs["text"])) for inputs in sent_inputs(server)] == [16, 16, 1]


@pytest.mark.parametrize("method", ["translate", "attention"])
def test_nothing_to_translate(ask: Ask, server: Any, config: ClientConfig, method: str) -> None:
    assert ask(config, method, []) == []
    assert server.calls == []


def test_numbers_are_sent_if_given(ask: Ask, server: Any, config: ClientConfig) -> None:
    ask(config, "translate", ["x"])
    result = ask(config, "translate_one", "x", beam_width=6, max_length=20, alternatives=0)
    ask(config, "attention", ["x"], beam_width=np.int64(1), max_length=5)
    without, with_all, attention = sent_inputs(server)
    assert set(without) == {"text"}
    sent = {name: to_ndarray(with_all[name]) for name in with_all if name != "text"}
    assert sent == {"beam_width": 6, "max_length": 20, "alternatives": 0}
    assert all((number.dtype, number.shape) == (np.int32, ()) for number in sent.values())
    assert set(attention) == {"text", "beam_width", "max_length"}
    assert len(result.alternatives) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_width": 0}, "beam_width: expected a whole number from 1, got 0"),
        ({"max_length": -1}, "max_length: expected a whole number from 1, got -1"),
        ({"alternatives": -1}, "alternatives: expected a whole number from 0, got -1"),
        ({"beam_width": 2.5}, "beam_width: expected a whole number from 1, got 2.5"),
        ({"beam_width": True}, "got True"),
        ({"beam_width": "4"}, "got '4'"),
        ({"max_length": 2**31}, "max_length"),
        ({"max_length": 2**70}, "max_length"),
    ],
)
def test_unfit_numbers_are_refused_before_sending(
    ask: Ask, server: Any, config: ClientConfig, options: Any, message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        ask(config, "translate", ["x"], **options)
    assert server.calls == []


def test_numbers_above_the_models_range_are_its_to_refuse(ask: Ask, config: ClientConfig) -> None:
    with pytest.raises(InvalidRequestError, match=r"alternatives: expected 0\.\.4, got 5"):
        ask(config, "translate", ["x"], alternatives=5)


@pytest.mark.parametrize("method", ["translate", "attention"])
def test_other_things_are_refused_before_sending(
    ask: Ask, server: Any, config: ClientConfig, method: str
) -> None:
    with pytest.raises(InvalidRequestError, match=f"use {method.removesuffix('s')}_one for"):
        ask(config, method, "one string")
    with pytest.raises(InvalidRequestError, match=r"texts\[1\]: expected str, got bytes"):
        ask(config, method, ["fine", b"bytes"])
    assert server.calls == []


def test_attention_is_trimmed_to_the_tokens_of_each_text(ask: Ask, config: ClientConfig) -> None:
    short, longer, blank = ask(config, "attention", ["go on", "now let us go", " "])
    assert isinstance(short, AttentionResult)
    assert short.source_tokens == ("▁go", "▁on", "</s>")
    assert short.target_tokens == ("▁ON", "▁GO", "</s>")
    assert short.attention.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert (short.text, short.translation, short.score) == ("go on", "ON GO", 0)
    assert longer.attention.shape == (5, 5)
    assert longer.attention.sum(axis=1) == pytest.approx(1)
    assert blank.source_tokens == blank.target_tokens == ("</s>",)
    assert blank.attention.tolist() == [[1]]


def test_tokens_within_a_text_may_be_empty(ask: Ask, server: Any, config: ClientConfig) -> None:
    tokens = np.array([[b"a", b"", b"</s>", b""]], object)
    change_answer(server, "source_tokens", tokens)
    change_answer(server, "attention", np.ones((1, 2, 4), np.float32))
    [result] = ask(config, "attention", ["x"])
    assert result.source_tokens == ("a", "", "</s>")
    assert result.attention.shape == (2, 3)


def test_the_default_model_is_called_translation(
    ask: Ask, server: Any, config: ClientConfig
) -> None:
    ask(config, "translate", ["x"])
    ask(config, "attention", ["x"])
    first, second = (call.request.model_spec for call in server.calls)
    assert (first.name, first.signature_name) == ("translation", "serving_default")
    assert (second.name, second.signature_name) == ("translation", "attention")


def test_another_model(server: Any, config: ClientConfig) -> None:
    with TranslationClient(config, model="translation_dates", version=2) as client:
        assert client.translate_one("3 mai", timeout_s=5).translation == "MAI 3"
    [call] = server.calls
    assert call.request.model_spec.name == "translation_dates"
    assert call.request.model_spec.version.value == 2
    assert 4 < call.remaining_s < 5.1


@pytest.mark.parametrize(
    ("method", "name", "array"),
    [
        ("translate", "score", np.zeros(2, np.float32)),
        ("translate", "alternatives", np.array([b"x"], object)),
        ("translate", "alternative_scores", np.zeros((1, 3), np.float32)),
        ("attention", "attention", np.zeros((1, 2), np.float32)),
        ("attention", "attention", np.zeros((1, 3, 2), np.float32)),
        ("attention", "target_tokens", np.array([[b"x"]], object)),
        ("attention", "truncated", np.zeros(1, np.int32)),
    ],
)
def test_outputs_of_another_form_are_refused(
    ask: Ask,
    server: Any,
    config: ClientConfig,
    method: str,
    name: str,
    array: np.ndarray[Any, Any],
) -> None:
    change_answer(server, name, array)
    wrong = "attention" if name == "target_tokens" else name
    with pytest.raises(ContractError, match=wrong):
        ask(config, method, ["x"])
