import gzip
import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import ovmsclient
import pytest

from serving.faces.rest.bodies import UNPACKED_BYTES

ECHOES = [
    ("float32", "[1, 0.2, -2.5, NaN, 9000000]", "[1.0, 0.2, -2.5, NaN, 9e+06]"),
    ("float64", "[0.1, 1e300]", "[0.1, 1e+300]"),
    ("int8", "[-128, 127, 128]", "[-128, 127, -128]"),
    ("int16", "[-32768, 5]", "[-32768, 5]"),
    ("int32", "[[1], [2]]", "[[1], [2]]"),
    ("int64", "[9007199254740993]", "[9007199254740993]"),
    ("uint8", "[0, 255]", "[0, 255]"),
    ("uint32", "[4294967295]", "[4294967295]"),
    ("uint64", "[18446744073709551615]", "[18446744073709551615]"),
    ("bool", "[true, false]", "[true, false]"),
    ("string", '["ü", {"b64": "YWJj"}]', '["ü", "abc"]'),
]


# Predict.


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"instances": [1.0, 2.0]}, {"predictions": [2.5, 3.0]}),
        ({"instances": [[1, 2], [3, 4]]}, {"predictions": [[2.5, 3.0], [3.5, 4.0]]}),
        ({"instances": [{"x": 1}, {"x": 2}]}, {"predictions": [2.5, 3.0]}),
        ({"inputs": [3.0, 4.0]}, {"outputs": [3.5, 4.0]}),
        ({"inputs": {"x": [3.0]}}, {"outputs": [3.5]}),
        ({"inputs": 3.0}, {"outputs": 3.5}),
        ({"signature_name": "", "instances": [1]}, {"predictions": [2.5]}),
        ({"signature_name": "serving_default", "instances": [1]}, {"predictions": [2.5]}),
        ({"instances": [1], "unknown": {"key": 1}}, {"predictions": [2.5]}),
    ],
)
def test_predict(live, body, answer) -> None:
    reply = live.predict(body)
    assert (reply.status, reply.document) == (200, answer)
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["X-Model-Version"] == "3"
    timing = r"total;dur=[0-9.]+, wait;dur=[0-9.]+, run;dur=[0-9.]+"
    assert re.fullmatch(timing, reply.headers["Server-Timing"])


@pytest.mark.parametrize(
    ("path", "answer", "version"),
    [
        ("/v1/models/onnx:predict", 3.5, "2"),
        ("/v1/models/onnx/versions/1:predict", 2.5, "1"),
        ("/v1/models/onnx/labels/stable:predict", 2.5, "1"),
        ("/V1/Models/onnx/Versions/2:predict", 3.5, "2"),
        ("/v1/models/%6Fnnx:predict", 3.5, "2"),
    ],
)
def test_versions_of_an_onnx_model(live, path, answer, version) -> None:
    reply = live.post(path, {"instances": [1.0]})
    assert (reply.status, reply.document) == (200, {"predictions": [answer]})
    assert reply.headers["X-Model-Version"] == version


@pytest.mark.parametrize(("dtype", "text", "answer"), ECHOES)
def test_every_type(live, dtype, text, answer) -> None:
    head = f'{{"signature_name": "echo_{dtype}", '
    rows = live.predict(f'{head}"instances": {text}}}')
    assert rows.body.decode() == f'{{\n    "predictions": {answer[:-1]}\n    ]\n}}'
    columns = live.predict(f'{head}"inputs": {text}}}')
    assert columns.body.decode() == f'{{\n    "outputs": {answer}\n}}'


@pytest.mark.parametrize(
    ("dtype", "name"),
    [("float16", "half"), ("bfloat16", "bfloat16"), ("uint16", "uint16"), ("complex64",) * 2],
)
def test_types_that_json_does_not_carry(live, dtype, name) -> None:
    text = f"Conversion of JSON Value: 0 to type: {name}"
    columns = live.predict({"inputs": [0]}, f"echo_{dtype}")
    assert (columns.status, columns.error) == (501, text)
    rows = live.predict({"instances": [0]}, f"echo_{dtype}")
    assert rows.status == 400
    assert rows.error.endswith(f"Error: UNIMPLEMENTED: {text}")


def test_several_inputs_and_outputs(live) -> None:
    rows = live.predict({"instances": [{"a": 1, "b": "x"}, {"b": "y", "a": 2}]}, "two")
    assert rows.document == {"predictions": [{"a": 1.0, "b": "x"}, {"a": 2.0, "b": "y"}]}
    columns = live.predict({"inputs": {"a": [[1, 2]], "b": "x"}}, "two")
    assert columns.document == {"outputs": {"a": [[1.0, 2.0]], "b": "x"}}


def test_strings_are_raw_unless_their_name_says_bytes(live) -> None:
    reply = live.predict({"instances": [{"b64": "/wA="}]}, "both")
    assert b'"text": "\xff\\u0000"' in reply.body
    assert b'"s_bytes": {"b64": "/wA="}' in reply.body


def test_json_dialect(live) -> None:
    deep = "[" * 50_000 + "]" * 50_000
    assert live.predict('{"instances": [1]} trailing').document == {"predictions": [2.5]}
    assert live.predict(f'{{"nested": {deep}, "instances": [1]}}').document["predictions"] == [2.5]
    reply = live.predict('{"instances": [NaN, Infinity, -Infinity]}')
    assert reply.body == b'{\n    "predictions": [NaN, Infinity, -Infinity\n    ]\n}'
    reply = live.predict(f'{{"instances": {deep}}}')
    assert reply.status == 400
    assert "nested deeper" in reply.error


def test_empty_rows(live) -> None:
    assert live.predict({"instances": [1.0]}, "none").document == {"predictions": []}


def test_large_tensors_both_ways(live) -> None:
    array = np.random.default_rng(0).normal(size=(100, 1000)).astype(np.float32)
    expected = array / 2 + np.float32(2)
    rows = live.predict({"instances": array.tolist()}).document["predictions"]
    np.testing.assert_array_equal(np.array(rows, np.float32), expected)
    columns = live.predict({"inputs": array.tolist()}).document["outputs"]
    np.testing.assert_array_equal(np.array(columns, np.float32), expected)


MALFORMED = "Malformed request: {}"
NO_SUCH_MODEL = "Servable not found for request: Latest(other)"


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("tf:predict", b"", 400, "JSON Parse error: The document is empty"),
        ("tf:predict", "instances = [1]", 400, "JSON Parse error: Invalid value. at offset: 0"),
        ("tf:predict", "[1]", 400, "JSON Value: [1] Is not object"),
        ("tf:predict", {"signature_name": 1}, 400, "'signature_name' key must be a string value."),
        ("tf:predict", {}, 400, "Missing 'inputs' or 'instances' key"),
        ("tf:predict", {"instances": ["x"]}, 400, "is not of expected type: float"),
        (
            "tf:predict",
            {"signature_name": "s", "instances": [1]},
            400,
            'Serving signature name: "s" not found in signature def',
        ),
        ("other:predict", {"instances": [1]}, 404, NO_SUCH_MODEL),
        ("empty:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(empty)"),
        (
            "tf/versions/99:predict",
            {"instances": [1]},
            404,
            "Servable not found for request: Specific(tf, 99)",
        ),
        (
            "tf/labels/x:predict",
            {"instances": ["x"]},
            400,
            "Unrecognized servable version label: x",
        ),
        # Syntax and the signature's name come before the model, tensors after it.
        ("other:predict", "{", 400, "JSON Parse error: Missing a name for object member."),
        ("other:predict", {"signature_name": 1}, 400, "'signature_name' key must be a string"),
        ("other:predict", {}, 404, NO_SUCH_MODEL),
        # Examples are read before the model is looked up.
        ("other:classify", {}, 400, "When method is classify, key 'examples' is expected"),
        ("other:regress", {"examples": []}, 400, "'examples' value is an empty array"),
        ("other:regress", {"examples": [{}]}, 404, NO_SUCH_MODEL),
        ("tf:regress", {"examples": [1]}, 400, "Example must be JSON object but got JSON Number"),
        ("tf:classify", {"examples": [{}]}, 400, "No classification inputs found in SignatureDef"),
        (
            "tf:classify",
            {"examples": [{}], "signature_name": "s"},
            400,
            "No signature was found with the name: s",
        ),
        (
            f"tf/versions/{2**63}:predict",
            {},
            400,
            f"Failed to convert version: {2**63} to numeric.",
        ),
        ("tf:predict?x=1", {}, 400, "Malformed request: POST /v1/models/tf:predict?x=1"),
    ],
)
def test_mistakes(live, path, body, status, message) -> None:
    reply = live.post(f"/v1/models/{path}", body)
    assert reply.status == status
    assert message in reply.error
    assert reply.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("total", "Tensor name: total has no shape information "),
        ("uneven", "has inconsistent batch size"),
    ],
)
def test_outputs_that_have_no_rows(live, signature, message) -> None:
    rows = live.predict({"instances": [1.0, 2.0]}, signature)
    assert rows.status == 400
    assert message in rows.error
    assert live.predict({"inputs": [1.0, 2.0]}, signature).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/foo"),
        ("GET", "/v1/models/tf:predict"),
        ("PUT", "/v1/models/tf:predict"),
        ("DELETE", "/v1/models/tf"),
        ("POST", "/v1/models/tf"),
        ("POST", "/v1/models/tf/versions/3/labels/x:predict"),
        ("GET", "/v1/models/tf/metadata?x=1"),
    ],
)
def test_malformed_requests(live, method, path) -> None:
    reply = live.ask(method, path)
    assert (reply.status, reply.error) == (400, f"Malformed request: {method} {path}")


# Classify and regress.


def test_classify(live) -> None:
    body = {
        "signature_name": "classified",
        "context": {"k": 2.0},
        "examples": [{"x": 0.2, "label": "one"}, {"x": [1.5], "k": 4.0, "label": {"b64": "dHdv"}}],
    }
    reply = live.post("/v1/models/tf:classify", body)
    assert reply.status == 200
    assert reply.document == {
        "results": [[["one", 0.2], ["other", 0.4]], [["two", 1.5], ["other", 6.0]]]
    }
    assert reply.headers["X-Model-Version"] == "3"


def test_regress(live) -> None:
    body = {"signature_name": "regressed", "examples": [{"x": 80.0}, {}]}
    for path in ("tf", "tf/versions/3"):
        reply = live.post(f"/v1/models/{path}:regress", body)
        assert (reply.status, reply.document) == (200, {"results": [42.0, 2.0]})


# Questions about models.


def test_status(live) -> None:
    status = {"error_code": "OK", "error_message": ""}
    entries = [{"version": n, "state": "AVAILABLE", "status": status} for n in ("2", "1")]
    for path in ("onnx", "onnx/labels/none", "ONNX".lower()):
        assert live.get(f"/v1/models/{path}").document == {"model_version_status": entries}
    one = live.get("/v1/models/onnx/versions/1").document
    assert one == {"model_version_status": entries[1:]}
    assert live.get("/v1/models/other").status == 404
    assert "Could not find any versions of model other" in live.get("/v1/models/other").error
    assert "Could not find version 9 of model onnx" in live.get("/v1/models/onnx/versions/9").error


def test_metadata(live) -> None:
    reply = live.get("/v1/models/tf/metadata")
    assert reply.status == 200
    document = reply.document
    assert document["model_spec"] == {"name": "tf", "signature_name": "", "version": "3"}
    signatures = document["metadata"]["signature_def"]["signature_def"]
    assert "__saved_model_init_op" in signatures
    default = signatures["serving_default"]
    assert default["method_name"] == "tensorflow/serving/predict"
    assert default["defaults"] == {}
    assert default["inputs"]["x"] == {
        "name": "serving_default_x:0",
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [], "unknown_rank": True},
    }
    shape = signatures["regressed"]["inputs"]["inputs"]["tensor_shape"]
    assert shape == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}


@pytest.mark.parametrize(
    ("path", "status", "version"),
    [
        ("onnx/metadata", 200, "2"),
        ("onnx/versions/1/metadata", 200, "1"),
        ("onnx/labels/stable/metadata", 200, "1"),
        ("onnx/versions/9/metadata", 404, None),
        ("onnx/labels/none/metadata", 400, None),
        ("other/metadata", 404, None),
    ],
)
def test_whose_metadata(live, path, status, version) -> None:
    reply = live.get(f"/v1/models/{path}")
    assert reply.status == status
    if version is not None:
        assert reply.document["model_spec"]["version"] == version


def test_listing(live) -> None:
    models = live.get("/v1/models").document["models"]
    versions = {
        entry["name"]: [version["version"] for version in entry["model_version_status"]]
        for entry in models
    }
    assert versions == {"empty": [], "onnx": ["2", "1"], "tf": ["3"], "two": ["1"]}


# HTTP.


def test_a_query_is_part_of_a_name(live) -> None:
    reply = live.get("/v1/models/tf?x=1")
    assert reply.status == 404
    assert "Could not find any versions of model tf?x=1" in reply.error


def test_outside_of_the_api(live) -> None:
    for path in ("/", "/v1", "/v2/models", "/nothing"):
        assert live.get(path).status == 404


def test_gzip(live) -> None:
    body = gzip.compress(b'{"instances": [1, 2]}')
    packed = {"Content-Encoding": "gzip"}
    reply = live.ask("POST", "/v1/models/tf:predict", body, packed | {"Accept-Encoding": "gzip"})
    assert reply.document == {"predictions": [2.5, 3.0]}
    assert "Content-Encoding" not in reply.headers
    bomb = gzip.compress(b'{"instances": [1]}' + b" " * UNPACKED_BYTES)
    for broken in (b"no gzip", body[:-4], bomb):
        reply = live.ask("POST", "/v1/models/tf:predict", broken, packed)
        assert (reply.status, reply.error) == (400, "JSON Parse error: The document is empty")


def test_chunked_bodies(live) -> None:
    with socket.create_connection(("localhost", live.port)) as connection:
        connection.sendall(
            b"POST /v1/models/tf:predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b'Transfer-Encoding: chunked\r\n\r\n8\r\n{"instan\r\nA\r\nces": [1]}\r\n0\r\n\r\n'
        )
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"[2.5" in answer


def test_cross_origin_requests(live, serve) -> None:
    path, origin = "/v1/models/tf:predict", {"Origin": "https://example.com"}
    for answer in (live.ask("OPTIONS", path), live.ask("OPTIONS", path, None, {"Origin": "x"})):
        assert (answer.status, answer.body) == (400, b"")
    allowed = live.ask("OPTIONS", path, None, origin)
    assert (allowed.status, allowed.body) == (200, b"")
    assert "Access-Control-Allow-Origin" not in allowed.headers
    shared = serve(rest_api_enable_cors_support=True)
    for answer in (
        shared.ask("OPTIONS", path, None, origin),
        shared.ask("OPTIONS", path),
        shared.predict({"instances": [1]}),
        shared.get("/v1/foo"),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Access-Control-Allow-Methods"] == "POST, GET"
        assert answer.headers["Access-Control-Allow-Headers"] == "Content-Type"
    assert "Access-Control-Allow-Origin" not in shared.get("/healthz").headers


def test_limits(serve) -> None:
    limited = serve(rest_api_max_body_bytes=1000, rest_api_timeout_in_ms=100)
    reply = limited.predict({"instances": [1] * 1000})
    assert reply.status == 413
    assert "--rest_api_max_body_bytes=1000" in reply.error
    assert limited.predict({"instances": [1]}).status == 200
    reply = limited.predict({"instances": [2000]}, "slow")
    assert reply.status == 504


def test_trace_context_comes_back(live) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    path, body = "/v1/models/tf:predict", '{"instances": [1]}'
    assert live.post(path, body, traceparent=trace).headers["traceparent"] == trace
    assert "traceparent" not in live.post(path, body, traceparent="nonsense").headers


def test_metrics(serve) -> None:
    live = serve()
    for _ in range(2):
        live.predict({"instances": [1]})
    live.post("/v1/models/tf:regress", {"signature_name": "regressed", "examples": [{}]})
    live.get("/v1/models/tf")
    live.get("/v1/models/onnx/metadata")
    live.predict("{")
    live.predict({"instances": [1]}, "total")
    live.predict({"instances": [1]}, model="made-up")
    live.get("/v1/foo")
    page = live.get("/monitoring/prometheus/metrics").body.decode()
    count, latency = ":tensorflow:serving:request_count", ":tensorflow:serving:request_latency"
    assert {line for line in page.splitlines() if line.startswith(count)} == {
        f'{count}{{model_name="tf",status="OK"}} 4',
        f'{count}{{model_name="onnx",status="OK"}} 1',
        f'{count}{{model_name="tf",status="INVALID_ARGUMENT"}} 2',
        f'{count}{{model_name="unknown",status="NOT_FOUND"}} 1',
        f'{count}{{model_name="",status="INVALID_ARGUMENT"}} 1',
    }
    for model, api, calls in (("tf", "predict", 2), ("tf", "regress", 1), ("tf", "", 1)):
        labels = f'model_name="{model}",API="{api}",entrypoint="REST"'
        assert f"{latency}_count{{{labels}}} {calls}" in page
    assert "made-up" not in page


def test_metrics_take_any_method_and_no_query(live) -> None:
    path = "/monitoring/prometheus/metrics"
    assert live.post(path).status == 200
    reply = live.get(f"{path}?x=1")
    assert (reply.status, reply.body.decode()) == (
        400,
        f"Unexpected path: {path}?x=1. Should be {path}",
    )


def test_many_at_once(live) -> None:
    def ask(number: int) -> list[float]:
        return live.predict({"instances": [number] * 5000}).document["predictions"]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(48)))
    assert answers == [[number / 2 + 2] * 5000 for number in range(48)]


# Another project's client.


def test_ovmsclient(live) -> None:
    """Without a version this client asks for version 0, which is none of ours."""
    client = ovmsclient.make_http_client(f"localhost:{live.port}")
    status = client.get_model_status("onnx", 1)
    assert status == {1: {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}
    metadata = client.get_model_metadata("tf", 3)
    assert metadata["model_spec"]["version"] == "3"
    answer = client.predict({"x": np.array([1, 2], np.float32)}, "onnx", 2)
    np.testing.assert_array_equal(answer, [3.5, 4.0])
    words = client.predict({"b": ["ü", "b"], "a": [[1.0]]}, "two", 1)
    assert words["b"].tolist() == ["ü", "b"]
    assert words["a"].tolist() == [[1.0]]
    answer = client.predict({"x": np.array([1.0], np.float32)}, "onnx", 1)
    np.testing.assert_array_equal(answer, [2.5])
    with pytest.raises(ovmsclient.tfs_compat.base.errors.ModelNotFoundError):
        client.predict({"x": [1.0]}, "onnx", 9)


def test_every_answer_is_json(live) -> None:
    for reply in (live.get("/v1/models"), live.get("/v1/models/tf/metadata"), live.get("/v1/x")):
        assert reply.headers["Content-Type"] == "application/json"
        json.loads(reply.body)
