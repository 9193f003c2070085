import json
import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from protocol.errors import InvalidRequestError
from serving.faces.rest import outputs


def number_text(value: float, dtype: type) -> str:
    """TensorFlow Serving's WriteDecimal, value by value."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    with np.errstate(all="ignore"):
        text = f"{value:.6g}"
        if dtype(text) != dtype(value):
            text = f"{value:.{9 if dtype is np.float32 else 17}g}"
    return text if "." in text or "e" in text else text + ".0"


def texts(values: np.ndarray) -> list[str]:
    written = outputs.write_outputs({"y": values}).decode()
    return written.partition('"outputs": [')[2].partition("]")[0].split(", ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (9000000, "9e+06"), (999999, "999999.0"), (0.5, "0.5"), (0.0003, "0.0003"),
        (0.00003, "3e-05"), (555557.5, "555557.5"), (0.2, "0.2"), (1 / 3, "0.333333343"),
        (16777216, "16777216.0"), (1e10, "1e+10"), (3, "3.0"), (0, "0.0"), (-0.0, "-0.0"),
        (-2.5, "-2.5"), (1e-45, "1.4013e-45"), (math.nan, "NaN"), (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ],
)  # fmt: skip
def test_number_text(value, text) -> None:
    assert texts(np.array([value], np.float32)) == [text]


def test_number_text_of_doubles() -> None:
    values = np.array([0.1, 1 / 3, 1e22, 5e-324, 123456.0, 1234567.0, 12345678901234567.0])
    assert texts(values) == [
        "0.1", "0.33333333333333331", "1e+22", "4.94066e-324", "123456.0", "1234567.0",
        "12345678901234568.0",
    ]  # fmt: skip


@pytest.mark.parametrize(("dtype", "bits"), [(np.float32, np.uint32), (np.float64, np.uint64)])
def test_number_text_of_any_bits(dtype, bits) -> None:
    values = np.random.default_rng(0).integers(0, np.iinfo(bits).max, 4000, bits).view(dtype)
    decimals = np.array([f"{v:.5g}" for v in values[:2000]]).astype(dtype)
    for array in (values, decimals, np.rint(decimals)):
        numbers = array.tolist()
        assert texts(array) == [number_text(number, dtype) for number in numbers]


def test_decimals_midway_between_two_floats() -> None:
    values = np.array([6.4928e10, 1.00663296e8, 8388609, 33554434.0], np.float32)
    numbers = [*values.tolist(), *np.nextafter(values, np.float32(0)).tolist()]
    assert texts(np.array(numbers, np.float32)) == [number_text(n, np.float32) for n in numbers]


@given(st.floats(width=32), st.integers(1, 9))
def test_number_text_of_floats(value, digits) -> None:
    rounded = np.float32(f"{value:.{digits}g}")
    assert texts(np.array([rounded])) == [number_text(float(rounded), np.float32)]


@given(arrays.arrays(np.float32, arrays.array_shapes(min_dims=1, max_dims=4, min_side=0)))
def test_floats_come_back(array) -> None:
    written = json.loads(outputs.write_predictions({"y": array}))["predictions"]
    found = np.array(written, np.float32).reshape(array.shape)
    np.testing.assert_array_equal(found, array)
    assert json.dumps(written) == json.dumps(array.tolist()) or array.size


TENSORS = {
    "double": np.array([8.0, 9.0]),
    "float": np.array([[1.0], [2.0]], np.float32),
    "int": np.arange(12).reshape(2, 3, 2),
    "flag": np.array([True, False]),
    "str": np.array([[b"foo", b'"\n'], [b"\xc3\xbc", b"bat"]], object),
    "str_bytes": np.array([b"hello", b"\xff"], object),
}


def test_rows() -> None:
    assert json.loads(outputs.write_predictions(TENSORS)) == {
        "predictions": [
            {"double": 8.0, "float": [1.0], "int": [[0, 1], [2, 3], [4, 5]], "flag": True,
             "str": ["foo", '"\n'], "str_bytes": {"b64": "aGVsbG8="}},
            {"double": 9.0, "float": [2.0], "int": [[6, 7], [8, 9], [10, 11]], "flag": False,
             "str": ["ü", "bat"], "str_bytes": {"b64": "/w=="}},
        ]
    }  # fmt: skip


def test_columns() -> None:
    document = json.loads(outputs.write_outputs(TENSORS))["outputs"]
    assert document["int"] == TENSORS["int"].tolist()
    assert document["flag"] == [True, False]
    assert document["str_bytes"] == [{"b64": "aGVsbG8="}, {"b64": "/w=="}]
    assert json.loads(outputs.write_outputs({"y": np.array(5)})) == {"outputs": 5}


def test_layout() -> None:
    y = np.array([2.5, 3], np.float32)
    assert outputs.write_predictions({"y": y}) == b'{\n    "predictions": [2.5, 3.0\n    ]\n}'
    assert outputs.write_predictions({"y": y[:1], "z": y[:1]}) == (
        b'{\n    "predictions": [\n        {\n            "y": 2.5,\n            "z": 2.5\n'
        b"        }\n    ]\n}"
    )
    assert outputs.write_predictions({"y": y[:0]}) == b'{\n    "predictions": []\n}'
    assert outputs.write_predictions({"y": np.zeros((2, 0))}) == (
        b'{\n    "predictions": [[], []\n    ]\n}'
    )


def test_bytes_that_are_no_text_stand_raw() -> None:
    raw = np.array([b"\xff\x01"], object)
    assert outputs.write_outputs({"y": raw}) == b'{\n    "outputs": ["\xff\\u0001"]\n}'
    bytes_name = np.array([1.0], np.float32)
    assert b"[1.0]" in outputs.write_outputs({"y_bytes": bytes_name})


def test_results() -> None:
    classified = outputs.write_classifications([[("a", 0.1), ('"', 1.0)], []])
    assert json.loads(classified) == {"results": [[["a", 0.1], ['"', 1.0]], []]}
    assert b"0.1]" in classified
    assert json.loads(outputs.write_regressions([42.0, 0.5])) == {"results": [42.0, 0.5]}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": np.array(1)}, "Tensor name: y has no shape information "),
        (
            {"x": np.zeros(2), "y": np.zeros(3)},
            "Tensor name: y has inconsistent batch size: 3 expecting: 2",
        ),
        (
            {"y": np.zeros(2, np.complex64)},
            "Failed to write JSON value for tensor type: complex64",
        ),
        ({"y": np.zeros(2, np.float16)}, "Failed to write JSON value for tensor type: half"),
        (
            {"y": np.zeros(2, ml_dtypes.bfloat16)},
            "Failed to write JSON value for tensor type: bfloat16",
        ),
    ],
)
def test_outputs_that_do_not_fit(tensors, message) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        outputs.check_rows(tensors)
    assert caught.value.message == message


def test_columns_need_no_common_size() -> None:
    outputs.check_columns({"x": np.zeros(2), "y": np.zeros(3), "z": np.array(1)})
