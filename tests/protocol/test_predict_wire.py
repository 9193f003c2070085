import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from protocol.errors import InvalidRequestError, InvalidTensorError
from protocol.messages import PredictRequest, PredictResponse, TensorProto
from protocol.predict_wire import read_request, read_tensor, request_layout, write_response
from protocol.tensors import to_ndarray, to_tensor_proto, write_tensor

DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool", "float16", "int8", "uint64")

shapes = stn.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
numbers = st.sampled_from(DTYPES).flatmap(lambda dtype: stn.arrays(dtype, shapes))
strings = stn.arrays(object, shapes, elements=st.binary(max_size=300), fill=st.just(b""))
arrays = numbers | strings


def same(found, expected):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


@given(
    inputs=st.dictionaries(st.text(max_size=12), st.tuples(arrays, st.booleans()), max_size=4),
    name=st.text(max_size=20),
    version=st.none() | st.integers(-(2**63), 2**63 - 1),
    output_filter=st.lists(st.text(max_size=10), max_size=3),
)
def test_requests_are_read_as_the_message_classes_read_them(inputs, name, version, output_filter):
    request = PredictRequest(output_filter=output_filter)
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    for alias, (array, content) in inputs.items():
        request.inputs[alias].CopyFrom(to_tensor_proto(array, content=content))
    found = read_request(request.SerializeToString())
    assert found.spec == request.model_spec
    assert list(found.output_filter) == output_filter
    assert set(found.inputs) == set(inputs)
    for alias, data in found.inputs.items():
        same(read_tensor(data), to_ndarray(request.inputs[alias]))


@given(data=st.binary(max_size=60))
def test_whatever_comes_is_read_alike_or_refused_alike(data):
    try:
        expected = PredictRequest.FromString(data)
    except Exception:
        with pytest.raises(InvalidRequestError, match=rf"\({len(data)} bytes\) is not a"):
            read_request(data)
        return
    found = read_request(data)
    assert found.spec == (expected.model_spec if expected.HasField("model_spec") else None)
    assert list(found.output_filter) == list(expected.output_filter)
    assert set(found.inputs) == set(expected.inputs)


@given(array=arrays, cut=st.integers(0, 40), byte=st.integers(0, 255))
def test_broken_tensors_are_refused_alike(array, cut, byte):
    data = bytearray(to_tensor_proto(array).SerializeToString())
    if data:
        data[cut % len(data)] = byte
    data = bytes(data)
    try:
        expected = to_ndarray(TensorProto.FromString(data))
    except Exception:
        with pytest.raises(InvalidRequestError):
            read_tensor(memoryview(data))
        return
    same(read_tensor(memoryview(data)), expected)


def test_a_second_part_of_a_message_is_merged():
    first, second = PredictRequest(), PredictRequest()
    first.model_spec.name = "half"
    second.model_spec.signature_name = "tensors"
    found = read_request(first.SerializeToString() + second.SerializeToString())
    assert (found.spec.name, found.spec.signature_name) == ("half", "tensors")


@pytest.mark.parametrize("content", [True, False])
def test_large_arrays_are_views_on_the_request(content):
    array = np.random.default_rng(0).normal(0, 1, (3, 50_000)).astype(np.float32)
    request = PredictRequest()
    request.inputs["x"].CopyFrom(to_tensor_proto(array, content=content))
    data = request.SerializeToString()
    found = read_tensor(read_request(data).inputs["x"])
    np.testing.assert_array_equal(found, array)
    assert np.shares_memory(found, np.frombuffer(data, np.uint8))
    assert not found.flags.writeable


def test_the_size_must_fit_the_shape():
    proto = to_tensor_proto(np.ones((2, 3), np.float32))
    proto.tensor_content = b"123"
    with pytest.raises(InvalidTensorError, match=r"needs 24 bytes of tensor_content, got 3"):
        read_tensor(memoryview(proto.SerializeToString()))


@given(
    outputs=st.dictionaries(st.text(max_size=12), arrays, max_size=4),
    name=st.text(max_size=20),
    version=st.integers(0, 2**63 - 1),
    content=st.booleans(),
)
def test_responses_say_what_the_message_classes_would(outputs, name, version, content):
    expected = PredictResponse()
    expected.model_spec.name = name
    expected.model_spec.version.value = version
    expected.model_spec.signature_name = "serving_default"
    for alias, array in outputs.items():
        write_tensor(expected.outputs[alias], array, content=content)
    data = write_response(name, version, "serving_default", outputs, content=content)
    assert PredictResponse.FromString(data) == expected


def test_arrays_that_are_no_row_of_memory_are_written_in_order():
    array = np.arange(24, dtype=np.float32).reshape(4, 6)[:, ::2].T
    data = write_response("m", 1, "s", {"y": array}, content=False)
    tensor = PredictResponse.FromString(data).outputs["y"]
    np.testing.assert_array_equal(to_ndarray(tensor), array)


def layout_of(data):
    return request_layout(data, read_request(data))


@given(
    first=st.dictionaries(st.text(max_size=8), numbers, min_size=1, max_size=3),
    content=st.booleans(),
    name=st.text(max_size=8),
    random=st.randoms(use_true_random=False),
)
def test_requests_of_one_layout_differ_in_their_values_alone(first, content, name, random):
    def request(arrays):
        message = PredictRequest(output_filter=["y"])
        message.model_spec.name = name
        for alias, array in arrays.items():
            message.inputs[alias].CopyFrom(to_tensor_proto(array, content=content))
        return message.SerializeToString(deterministic=True)

    data = request(first)
    layout = layout_of(data)
    if layout is None:
        return
    second = {
        alias: np.frombuffer(random.randbytes(array.nbytes), array.dtype).reshape(array.shape)
        for alias, array in first.items()
    }
    other = request(second)
    assert len(other) == len(data)
    assert layout.fits(data)
    assert layout.fits(other)
    for found, arrays in ((layout.inputs(data), first), (layout.inputs(other), second)):
        assert found.keys() == arrays.keys()
        for alias, array in arrays.items():
            same(found[alias], array)


@given(data=st.data())
def test_a_request_that_says_anything_else_does_not_fit(data):
    message = PredictRequest()
    message.model_spec.name = "half"
    for alias in ("a", "b"):
        message.inputs[alias].CopyFrom(to_tensor_proto(np.ones((2, 3), np.float32)))
    known = message.SerializeToString(deterministic=True)
    layout = layout_of(known)
    place = data.draw(st.integers(0, len(known) - 1))
    changed = bytearray(known)
    changed[place] ^= data.draw(st.integers(1, 255))
    changed = bytes(changed)
    if not layout.fits(changed):
        return
    expected = PredictRequest.FromString(changed)
    found = layout.inputs(changed)
    assert expected.model_spec == message.model_spec
    assert found.keys() == set(expected.inputs)
    for alias, array in found.items():
        same(array, to_ndarray(expected.inputs[alias]))


@pytest.mark.parametrize(
    "array", [np.array([b"text"], object), np.array([True]), np.zeros((0, 3), np.float32)]
)
def test_values_that_are_no_plain_memory_have_no_layout(array):
    message = PredictRequest()
    message.inputs["x"].CopyFrom(to_tensor_proto(array))
    assert layout_of(message.SerializeToString()) is None


def test_integers_in_their_typed_field_have_no_layout():
    message = PredictRequest()
    message.inputs["x"].CopyFrom(to_tensor_proto(np.int32([1, 2]), content=False))
    assert layout_of(message.SerializeToString()) is None
