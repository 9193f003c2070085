import base64
import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from protocol.contracts import SignatureSpec, TensorSpec
from protocol.errors import InvalidRequestError, ServiceError, UnimplementedError
from protocol.tensors import DTYPES, data_type
from serving.faces.rest.documents import read_document
from serving.faces.rest.inputs import decode_base64, read_inputs


def signature(**dtypes: str) -> SignatureSpec:
    inputs = tuple(TensorSpec(name, dtype, (), unknown_rank=True) for name, dtype in dtypes.items())
    return SignatureSpec("serving_default", inputs, ())


INT, STRING, FLOAT = signature(x="int32"), signature(x="string"), signature(x="float32")
PAIR = signature(int_tensor="int32", str_tensor="string")
OPTIONAL = SignatureSpec(
    "serving_default",
    (TensorSpec("beam", "int32", (), optional=True), TensorSpec("text", "string", (None,))),
    (),
)


def read(text: str, spec: SignatureSpec) -> dict[str, np.ndarray]:
    return read_inputs(read_document(text.encode()), spec)


@pytest.mark.parametrize(
    ("dtype", "text", "expected"),
    [
        ("float32", "[1, 2.0, 5.003, 1435774380, NaN, -Infinity, 1e39]",
         [1, 2, 5.003, 1435774380, math.nan, -math.inf, math.inf]),
        ("float64", "[1, 0.662, 18446744073709551616]", [1, 0.662, 2.0**64]),
        ("int32", "[-2147483648, 2147483647]", [-(2**31), 2**31 - 1]),
        ("int16", "[1, 65537]", [1, 1]),
        ("int8", "[127, 128]", [127, -128]),
        ("uint8", "[0, 255, 256, -1]", [0, 255, 0, 255]),
        ("int64", "[9223372036854775807, -9223372036854775808]", [2**63 - 1, -(2**63)]),
        ("uint32", "[0, 4294967295]", [0, 2**32 - 1]),
        ("uint64", "[0, 18446744073709551615]", [0, 2**64 - 1]),
        ("bool", "[true, false]", [True, False]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_types(key, dtype, text, expected) -> None:
    found = read(f'{{"{key}": {text}}}', signature(x=dtype))["x"]
    assert found.dtype == dtype
    wide = np.array(expected, np.float64 if dtype.startswith("float") else dtype)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found, wide.astype(dtype))


@pytest.mark.parametrize(
    ("dtype", "value", "shown", "kind", "name"),
    [
        ("float32", '"1"', '"1"', "String", "float"),
        ("float32", "true", "true", "True", "float"),
        ("float64", "null", "null", "Null", "double"),
        ("float32", '{"b64": "AA=="}', '{\n    "b64": "AA=="\n}', "Object", "float"),
        ("int32", "1.0", "1.0", "Number", "int32"),
        ("int32", "2147483648", "2147483648", "Number", "int32"),
        ("uint8", "2147483648", "2147483648", "Number", "uint8"),
        ("int64", "9223372036854775808", "9223372036854775808", "Number", "int64"),
        ("uint32", "-1", "-1", "Number", "uint32"),
        ("uint64", "-1", "-1", "Number", "uint64"),
        ("uint64", "18446744073709551616", "1.8446744073709552e+19", "Number", "uint64"),
        ("bool", "1", "1", "Number", "bool"),
        ("int32", "false", "false", "False", "int32"),
        ("string", "1", "1", "Number", "string"),
        ("string", "null", "null", "Null", "string"),
    ],
)
def test_wrong_types(dtype, value, shown, kind, name) -> None:
    inner = f"JSON Value: {shown} Type: {kind} is not of expected type: {name}"
    with pytest.raises(InvalidRequestError) as caught:
        read(f'{{"inputs": {value}}}', signature(x=dtype))
    assert caught.value.message == inner
    with pytest.raises(InvalidRequestError) as caught:
        read(f'{{"instances": [{value}]}}', signature(x=dtype))
    place = "Failed to process element: 0 of 'instances' list."
    assert caught.value.message == f"{place} Error: INVALID_ARGUMENT: {inner}"


@pytest.mark.parametrize(
    ("dtype", "name"),
    [("float16", "half"), ("bfloat16", "bfloat16"), ("uint16", "uint16"), ("complex64",) * 2],
)
def test_types_that_json_does_not_carry(dtype, name) -> None:
    text = f"Conversion of JSON Value: 0 to type: {name}"
    with pytest.raises(UnimplementedError) as unimplemented:
        read('{"inputs": [0]}', signature(x=dtype))
    assert unimplemented.value.message == text
    with pytest.raises(InvalidRequestError) as wrapped:
        read('{"instances": [0]}', signature(x=dtype))
    assert wrapped.value.message.endswith(f"Error: UNIMPLEMENTED: {text}")
    empty = read('{"inputs": [[], []]}', signature(x="bfloat16"))["x"]
    assert (empty.shape, empty.dtype) == ((2, 0), ml_dtypes.bfloat16)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ('{"instances": [1, 2]}', (2,)),
        ('{"instances": [[1], [2]]}', (2, 1)),
        ('{"instances": [{"x": 1}]}', (1,)),
        ('{"instances": [{"x": [[1, 2, 3]]}, {"x": [[4, 5, 6]]}]}', (2, 1, 3)),
        ('{"instances": [[], []]}', (2, 0)),
        ('{"inputs": 1}', ()),
        ('{"inputs": []}', (0,)),
        ('{"inputs": [[[1, 2]]]}', (1, 1, 2)),
        ('{"inputs": {"x": [1], "other": {}}}', (1,)),
    ],
)
def test_shapes(text, shape) -> None:
    assert read(text, INT)["x"].shape == shape


def test_several_inputs() -> None:
    rows = '{"instances": [{"int_tensor": [1, 2], "str_tensor": "a"},'
    found = read(rows + '{"str_tensor": {"b64": "/w=="}, "int_tensor": [3, 4]}]}', PAIR)
    assert found["int_tensor"].tolist() == [[1, 2], [3, 4]]
    assert found["str_tensor"].tolist() == [b"a", b"\xff"]
    found = read('{"inputs": {"int_tensor": 5, "str_tensor": [["ü", "b"]]}}', PAIR)
    assert found["int_tensor"].tolist() == 5
    assert found["str_tensor"].tolist() == [["ü".encode(), b"b"]]


@pytest.mark.parametrize(
    "text",
    [
        '{"instances": ["a", "b"]}',
        '{"instances": [{"text": "a"}, {"text": "b"}]}',
        '{"inputs": ["a", "b"]}',
        '{"inputs": {"text": ["a", "b"]}}',
    ],
)
def test_optional_inputs_may_be_left_out(text) -> None:
    found = read(text, OPTIONAL)
    assert {name: array.tolist() for name, array in found.items()} == {"text": [b"a", b"b"]}
    given = read('{"inputs": {"text": ["a"], "beam": 3}}', OPTIONAL)
    assert given["beam"].tolist() == 3


def test_raw_bytes_in_strings() -> None:
    found = read_inputs(read_document(b'{"instances": ["\xff\xfe", "\\u0000"]}'), STRING)
    assert found["x"].tolist() == [b"\xff\xfe", b"\0"]


@given(st.binary())
def test_base64_is_decoded(data) -> None:
    text = base64.b64encode(data).decode()
    for variant in (text, text.rstrip("="), "\n".join(text), text.replace("=", ".")):
        assert decode_base64({"b64": variant}) == data


@pytest.mark.parametrize("text", ["A", "AA=", "AAA==", "-_-_", "A A A A A", "ü", "A=AA"])
def test_bad_base64(text) -> None:
    with pytest.raises(InvalidRequestError, match=r"^Unable to base64 decode$"):
        decode_base64({"b64": text})


def test_a_base64_object_has_one_string() -> None:
    for value in ('{"b64": 1}', '{"b64": "AA==", "c": 1}'):
        with pytest.raises(InvalidRequestError, match="not formatted correctly for base64 data"):
            read(f'{{"inputs": [{value}]}}', STRING)
        with pytest.raises(InvalidRequestError, match="does not have named input: b64"):
            read(f'{{"instances": [{value}]}}', STRING)


def object_text(members: str) -> str:
    return f"JSON Value: {{\n    {members}\n}} "


def row(text: str, index: int = 0, key: str = "") -> str:
    """An error as it is wrapped for a row."""
    place = f"{index} key: {key}" if key else str(index)
    return (
        f"Failed to process element: {place} of 'instances' list. Error: INVALID_ARGUMENT: {text}"
    )


ONLY_ONE = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
SEVERAL = "as multiple input tensors required as per tensorinfo_map"
KEYS = ' JSON object: {\n    "int_tensor": 1\n} keys must be equal to: int_tensor,str_tensor'
DEEPER = "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"
INSTANCE = '{"int_tensor": 1, "str_tensor": "a"}'

MISTAKES = [
    ("{}", INT, "Missing 'inputs' or 'instances' key"),
    (
        '{"inputs": 1, "instances": 2}',
        INT,
        object_text('"inputs": 1,\n    "instances": 2') + ONLY_ONE,
    ),
    (
        '{"instances": 1}',
        INT,
        object_text('"instances": 1') + "Expecting 'instances' to be an list/array",
    ),
    (
        '{"instances": []}',
        INT,
        object_text('"instances": []') + "No values in 'instances' array",
    ),
    (
        '{"instances": [1]}',
        PAIR,
        f"instances is a plain list, but expecting list of objects {SEVERAL}",
    ),
    (
        '{"inputs": [1]}',
        PAIR,
        f"inputs is a plain value/list, but expecting an object {SEVERAL}",
    ),
    (
        '{"inputs": {"int_tensor": 1}}',
        PAIR,
        "Missing named input: str_tensor in 'inputs' object.",
    ),
    ('{"instances": [[1, 2], [3]]}', INT, row("Expecting tensor size: 2 but got: 1", 1)),
    ('{"instances": [[1, 2], [[3], [4]]]}', INT, row("Expecting shape [2] but got: [2,1]", 1)),
    ('{"instances": [1, [2]]}', INT, row("Expecting shape [] but got: [1]", 1)),
    (
        '{"instances": [[[1, 2], [3]]]}',
        INT,
        row("Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
    ),
    (
        '{"inputs": [[1, 2], [3]]}',
        INT,
        "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
    ),
    ('{"instances": [[[1], 2]]}', INT, row(DEEPER)),
    (
        '{"instances": [[1, [2]]]}',
        INT,
        row("Encountered list at unexpected level: 1 expected < 1"),
    ),
    (
        f'{{"instances": [{INSTANCE}, {{"int_tensor": [1, 2], "str_tensor": "a"}}]}}',
        PAIR,
        row("Expecting tensor size: 1 but got: 2", 1, "int_tensor"),
    ),
    (
        f'{{"instances": [{INSTANCE}, 1]}}',
        PAIR,
        "Expecting object but got list at item 1 of input list",
    ),
    (
        '{"instances": ["baz", {"x": "bat"}]}',
        STRING,
        "Expecting value/list but got object at item 1 of input list",
    ),
    (
        '{"instances": [{"int_tensor": 1}]}',
        PAIR,
        "Failed to process element: 0 of 'instances' list." + KEYS,
    ),
    (
        f'{{"instances": [{INSTANCE}, {{"int_tensor": 1}}]}}',
        PAIR,
        "Failed to process element: 1 of 'instances' list." + KEYS,
    ),
    (
        '{"instances": [{"int_tensor": 1, "str_tensor": "a", "no": 1}]}',
        PAIR,
        row("JSON object: does not have named input: no", 0, "no"),
    ),
    ('{"instances": [{"b64": "A"}]}', STRING, row("Unable to base64 decode")),
    ('{"inputs": {"b64": "A"}}', STRING, "Unable to base64 decode"),
]


@pytest.mark.parametrize(("text", "spec", "message"), MISTAKES)
def test_mistakes(text, spec, message) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read(text, spec)
    assert caught.value.message == message


def test_an_input_may_not_be_deeper_than_arrays_can_be() -> None:
    deep = "[" * 50_000 + "]" * 50_000
    for text in (f'{{"instances": {deep}}}', f'{{"inputs": {deep}}}'):
        with pytest.raises(InvalidRequestError, match="nested deeper than 63 lists"):
            read(text, INT)


leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.sampled_from([2**31, 2**63, 2.0**64, -(2**63)])
    | st.floats()
    | st.text(max_size=2)
    | st.fixed_dictionaries({"b64": st.text("AQ=", max_size=4)})
)
nested = st.recursive(
    leaves | st.lists(st.integers(0, 9), min_size=2, max_size=2),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.just("x"), children),
)


@given(st.sampled_from(["float32", "int8", "uint64", "bool", "string", "float16"]), nested)
def test_every_value_is_converted_or_refused(dtype, value) -> None:
    for document in ({"instances": value}, {"instances": [value, value]}, {"inputs": value}):
        outcome = _outcome(document, dtype)
        assert not outcome.endswith(("of another type", "nested too deep"))


def _outcome(document: dict, dtype: str) -> str:
    try:
        found = read_inputs(document, signature(x=dtype))["x"]
    except ServiceError as error:
        return error.message
    return "read" if found.dtype == DTYPES[data_type(dtype)] else "of another type"


def test_a_signature_without_inputs() -> None:
    with pytest.raises(InvalidRequestError, match="Failed to get input map for signature: s"):
        read('{"inputs": []}', SignatureSpec("s", (), ()))


@given(arrays.arrays(np.float32, arrays.array_shapes(max_dims=4)))
def test_arrays_come_back(array) -> None:
    found = read_inputs({"inputs": array.tolist()}, FLOAT)["x"]
    np.testing.assert_array_equal(found, array)
    found = read_inputs({"instances": array.tolist()}, FLOAT)["x"]
    np.testing.assert_array_equal(found, array)
