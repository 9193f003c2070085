import contextlib
import math
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow.core.framework.tensor_pb2 import TensorProto as OfficialTensorProto

from protocol import tensors
from protocol.errors import InvalidTensorError
from protocol.messages import TensorProto, TensorShapeProto
from protocol.tensors import DTYPES, data_type, dtype_name, to_ndarray, to_tensor_proto

NUMERIC = sorted(number for number in DTYPES if dtype_name(number) != "string")
ENCODINGS = pytest.mark.parametrize("content", [True, False], ids=["content", "typed"])
EVERY_DTYPE = pytest.mark.parametrize("number", NUMERIC, ids=dtype_name)

property_test = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def shapes():
    return hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def arrays_of(number):
    """Arrays of any bit pattern, as the bits of floats (NaNs included) have to survive."""
    dtype = DTYPES[number]
    if dtype.kind == "b":
        return hnp.arrays(np.bool_, shapes())
    if dtype_name(number) in ("int4", "uint4"):
        low, high = (-8, 7) if dtype_name(number) == "int4" else (0, 15)
        return hnp.arrays(np.int8, shapes(), elements=st.integers(low, high)).map(
            lambda array: array.astype(dtype)
        )
    if dtype.kind == "c":
        return hnp.arrays(dtype, shapes())
    bits = hnp.arrays(f"u{dtype.itemsize}", shapes())
    return bits.map(lambda array: array.view(dtype))


def string_arrays():
    return hnp.arrays(object, shapes(), elements=st.binary(max_size=6), fill=st.nothing())


def official(proto):
    return OfficialTensorProto.FromString(proto.SerializeToString())


def ours(proto):
    return TensorProto.FromString(proto.SerializeToString())


def tf_array(proto):
    """What TensorFlow reads, with its one-field structs for quantised types taken off."""
    array = tf.make_ndarray(official(proto))
    return array.view(array.dtype[0]) if array.dtype.names else array


def tf_proto(array, number):
    dtype = tf.dtypes.as_dtype(number)
    if dtype.is_quantized:
        array = np.ascontiguousarray(array).view(dtype.as_numpy_dtype).reshape(array.shape)
    return tf.make_tensor_proto(array, dtype=dtype, shape=array.shape)


def assert_same_bits(first, second):
    assert first.shape == second.shape
    assert first.dtype == second.dtype
    assert first.tobytes() == second.tobytes()


def assert_same_values(first, second):
    assert first.shape == second.shape
    assert first.dtype == second.dtype
    with np.errstate(invalid="ignore"):  # signalling NaNs
        if first.dtype.isbuiltin != 1:  # numpy does not know the NaNs of ml_dtypes
            first, second = first.astype(np.float64), second.astype(np.float64)
        np.testing.assert_array_equal(first, second)


# Both directions, against TensorFlow.


@EVERY_DTYPE
@ENCODINGS
@property_test
@given(data=st.data())
def test_numbers_survive(number, content, data):
    array = data.draw(arrays_of(number))
    proto = to_tensor_proto(array, content=content, dtype=dtype_name(number))
    assert proto.dtype == number
    assert bool(proto.tensor_content) == (content and array.size > 0)
    assert_same_bits(to_ndarray(proto), array)


@EVERY_DTYPE
@ENCODINGS
@property_test
@given(data=st.data())
def test_tensorflow_reads_what_we_write(number, content, data):
    array = data.draw(arrays_of(number))
    proto = to_tensor_proto(array, content=content, dtype=dtype_name(number))
    assert_same_values(tf_array(proto), array)


@EVERY_DTYPE
@property_test
@given(data=st.data())
def test_we_read_what_tensorflow_writes(number, data):
    array = data.draw(arrays_of(number))
    assert_same_values(to_ndarray(ours(tf_proto(array, number))), array)


@EVERY_DTYPE
@property_test
@given(data=st.data())
def test_short_lists_mean_the_same_as_in_tensorflow(number, data):
    """The last value is repeated; no value stands for zeros."""
    array = data.draw(arrays_of(number))
    values = to_tensor_proto(array.ravel(), content=False, dtype=dtype_name(number))
    wanted = data.draw(shapes().filter(lambda shape: math.prod(shape) >= array.size))
    values.tensor_shape.CopyFrom(to_tensor_proto(np.zeros(wanted)).tensor_shape)
    assert_same_values(to_ndarray(values), tf_array(values))


@property_test
@given(array=string_arrays())
def test_strings_survive_and_tensorflow_agrees(array):
    proto = to_tensor_proto(array)
    assert_same_values(to_ndarray(proto), array)
    assert_same_values(tf_array(proto), array)
    assert_same_values(to_ndarray(ours(tf.make_tensor_proto(array, tf.string))), array)


@property_test
@given(array=string_arrays())
def test_tensorflow_ops_read_what_we_write(array):
    parsed = tf.io.parse_tensor(to_tensor_proto(array).SerializeToString(), tf.string)
    assert_same_values(np.asarray(parsed.numpy(), dtype=object), array)


@property_test
@given(array=string_arrays())
def test_strings_packed_by_a_tensorflow_op(array):
    packed = tf.io.serialize_tensor(tf.constant(array, dtype=tf.string, shape=array.shape))
    assert_same_values(to_ndarray(TensorProto.FromString(packed.numpy())), array)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "half", "int8", "bool", "complex64"])
def test_numbers_packed_by_a_tensorflow_op(dtype):
    source = tf.cast([[1, 0, 1], [0, 1, 1]], dtype)
    packed = tf.io.serialize_tensor(source)
    assert_same_bits(to_ndarray(TensorProto.FromString(packed.numpy())), source.numpy())


def test_strings_in_tensor_content():
    content = bytes([3, 0, 130, 1]) + b"abc" + b"x" * 130
    proto = TensorProto(dtype=7, tensor_content=content)
    proto.tensor_shape.dim.add(size=3)
    assert to_ndarray(proto).tolist() == [b"abc", b"", b"x" * 130]


# What the encodings look like.


@pytest.mark.parametrize(
    ("array", "field", "listed"),
    [
        (np.float32([1.5, -2]), "float_val", [1.5, -2]),
        (np.float64([0.1]), "double_val", [0.1]),
        (np.int32([-1, 2]), "int_val", [-1, 2]),
        (np.uint8([200]), "int_val", [200]),
        (np.int8([-128]), "int_val", [-128]),
        (np.uint16([65535]), "int_val", [65535]),
        (np.array([-8, 7], ml_dtypes.int4), "int_val", [-8, 7]),
        (np.int64([-(1 << 63)]), "int64_val", [-(1 << 63)]),
        (np.uint32([(1 << 32) - 1]), "uint32_val", [(1 << 32) - 1]),
        (np.uint64([(1 << 64) - 1]), "uint64_val", [(1 << 64) - 1]),
        (np.bool_([True, False]), "bool_val", [True, False]),
        (np.float16([1.0, -2.0]), "half_val", [0x3C00, 0xC000]),
        (np.array([1.0, -2.0], ml_dtypes.bfloat16), "half_val", [0x3F80, 0xC000]),
        (np.complex64([1 + 2j]), "scomplex_val", [1, 2]),
        (np.complex128([1 + 2j, 3]), "dcomplex_val", [1, 2, 3, 0]),
        (np.array([1.0, -2.0], ml_dtypes.float8_e5m2), "float8_val", [0x3C, 0xC0]),
        (["a", "ü"], "string_val", [b"a", "ü".encode()]),
    ],
)
def test_typed_field_of_each_dtype(array, field, listed):
    proto = to_tensor_proto(array, content=False)
    assert list(getattr(proto, field)) == listed
    assert {found.name for found, _ in proto.ListFields()} == {"dtype", "tensor_shape", field}


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64", "uint32", "uint64"])
@pytest.mark.parametrize("values", [[0, 127], [0, 128], [-1, 127]])
def test_long_lists_of_integers(dtype, values):
    array = np.resize(values, (20, 30)).astype(dtype)
    proto = to_tensor_proto(array, content=False)
    assert_same_values(to_ndarray(proto), array)
    assert_same_values(tf_array(proto), array)


@EVERY_DTYPE
def test_long_lists_of_ones(number):
    array = np.ones(300, DTYPES[number])
    proto = to_tensor_proto(array, content=False, dtype=dtype_name(number))
    assert_same_bits(to_ndarray(proto), array)
    assert_same_values(tf_array(proto), array)


def test_content_is_the_memory_row_by_row():
    array = np.arange(6, dtype=np.int16).reshape(2, 3).T
    proto = to_tensor_proto(array)
    assert proto.tensor_content == np.int16([0, 3, 1, 4, 2, 5]).tobytes()
    assert [dim.size for dim in proto.tensor_shape.dim] == [3, 2]


def test_content_is_read_without_a_copy():
    array = to_ndarray(to_tensor_proto(np.arange(4.0)))
    assert not array.flags.writeable
    assert not array.flags.owndata


def test_foreign_byte_order_comes_home():
    proto = to_tensor_proto(np.array([1, 2], dtype=">i4"))
    assert proto.dtype == data_type("int32")
    assert to_ndarray(proto).tolist() == [1, 2]


@pytest.mark.parametrize(
    "strings",
    [
        ["one", "two\0"],
        [b"one", b"two\0"],
        np.array(["one", "two\0"], dtype=object),
        np.array([memoryview(b"one"), bytearray(b"two\0")], dtype=object),
    ],
)
def test_strings_of_every_kind(strings):
    assert to_ndarray(to_tensor_proto(strings)).tolist() == [b"one", b"two\0"]


def test_numpy_strings_and_scalars():
    assert to_ndarray(to_tensor_proto(np.array(["ä", "bc"]))).tolist() == ["ä".encode(), b"bc"]
    assert to_ndarray(to_tensor_proto(np.array([b"a"]))).tolist() == [b"a"]
    scalar = to_ndarray(to_tensor_proto("text"))
    assert scalar.shape == ()
    assert scalar.item() == b"text"


def test_missing_shape_is_a_scalar():
    assert to_ndarray(TensorProto(dtype=1, float_val=[2.5])) == np.float32(2.5)


def test_unclean_bools_become_true():
    proto = TensorProto(dtype=10, tensor_content=b"\x00\x01\x07")
    proto.tensor_shape.dim.add(size=3)
    array = to_ndarray(proto)
    assert array.tolist() == [False, True, True]
    assert array.view(np.uint8).tolist() == [0, 1, 1]


def test_writing_in_place():
    request_inputs = {"x": TensorProto()}
    tensors.write_tensor(request_inputs["x"], np.float32([1]))
    assert to_ndarray(request_inputs["x"]).tolist() == [1]


# Names of dtypes.


@pytest.mark.parametrize("number", sorted(DTYPES), ids=str)
def test_names_are_tensorflows(number):
    assert dtype_name(number) == tf.dtypes.as_dtype(number).name
    assert data_type(dtype_name(number)) == number


@pytest.mark.parametrize("number", NUMERIC, ids=dtype_name)
def test_number_of_a_numpy_dtype(number):
    if tf.dtypes.as_dtype(number).is_quantized:
        assert data_type(DTYPES[number]) == data_type(dtype_name(number).removeprefix("q"))
    else:
        assert data_type(DTYPES[number]) == number


@pytest.mark.parametrize("dtype", ["U3", "S", object, str, bytes, np.dtypes.StringDType()])
def test_every_string_dtype_is_string(dtype):
    assert data_type(dtype) == 7


@pytest.mark.parametrize("dtype", ["longlong", "q", int, np.intp])
def test_other_names_of_int64(dtype):
    assert data_type(dtype) == 9


@pytest.mark.parametrize("dtype", ["datetime64[s]", "V8", "i4,i4", "no_such_type", np.longdouble])
def test_dtype_that_cannot_be_carried(dtype):
    with pytest.raises(InvalidTensorError, match="cannot be carried in a tensor; known: float32"):
        data_type(dtype)


@pytest.mark.parametrize("number", [0, 20, 21, 101, 999, -1])
def test_number_that_cannot_be_carried(number):
    with pytest.raises(InvalidTensorError, match=f"DataType {number} cannot be carried"):
        to_ndarray(TensorProto(dtype=number, float_val=[1]))


# Arrays that cannot be encoded.


@pytest.mark.parametrize(
    ("array", "dtype", "message"),
    [
        (["a", None], None, "must be str or bytes, not NoneType"),
        (np.array([1, b"a"], dtype=object), None, "must be str or bytes, not int"),
        (["\ud800"], None, "cannot be encoded as UTF-8"),
        ([[1], [2, 3]], None, "not a rectangular array"),
        (np.float32([1]), "float64", "must have numpy dtype float64, not float32"),
        (np.int32([1]), "qint8", "an array of qint8 must have numpy dtype int8, not int32"),
        (np.int32([1]), "string", "must be str or bytes, not int"),
        (["a"], "float32", "must have numpy dtype float32"),
    ],
)
def test_array_that_cannot_be_encoded(array, dtype, message):
    with pytest.raises(InvalidTensorError, match=message):
        to_tensor_proto(array, dtype=dtype)


# Protos that are malformed.


def malformed(dtype, shape, **fields):
    dims = [TensorShapeProto.Dim(size=size) for size in shape]
    return TensorProto(dtype=dtype, tensor_shape=TensorShapeProto(dim=dims), **fields)


HUGE = 1 << 40


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (malformed(1, [2], tensor_content=b"1234567"), "needs 8 bytes of tensor_content, got 7"),
        (malformed(1, [2], tensor_content=b"1" * 12), "needs 8 bytes of tensor_content, got 12"),
        (malformed(1, [0], tensor_content=b"1234"), "needs 0 bytes of tensor_content, got 4"),
        (malformed(1, [-1], float_val=[1]), r"must not be negative, got shape \[-1\]"),
        (malformed(1, [2, -3]), "must not be negative"),
        (TensorProto(dtype=1, tensor_shape=TensorShapeProto(unknown_rank=True)), "must be known"),
        (malformed(1, [1], float_val=[1, 2]), "takes 1 values, got 2 in float_val"),
        (malformed(1, [0], float_val=[1]), "takes 0 values, got 1 in float_val"),
        (malformed(7, [], string_val=[b"a", b"b"]), "takes 1 values, got 2 in string_val"),
        (malformed(1, [HUGE]), "may fill at most"),
        (malformed(1, [HUGE], float_val=[1]), "may fill at most"),
        (malformed(7, [HUGE]), "may fill at most"),
        (malformed(7, [HUGE], tensor_content=b"a"), "cannot hold 1099511627776 strings"),
        (malformed(1, [HUGE], tensor_content=b"1234"), "bytes of tensor_content, got 4"),
        (malformed(1, [HUGE, HUGE]), "too large for any float32 tensor"),
        (malformed(1, [0, HUGE, HUGE]), "too large for any float32 tensor"),
        (malformed(1, [(1 << 63) - 1] * 60), "too large for any float32 tensor"),
        (malformed(1, [1] * 65), "at most 64 dimensions, got 65"),
        (malformed(8, [1], scomplex_val=[1, 2, 3]), "pairs of real and imaginary parts, got 3"),
        (malformed(4, [1], int_val=[256]), "int_val lists 256, which is no uint8"),
        (malformed(6, [2], int_val=[1, -129]), "int_val lists -129, which is no int8"),
        (malformed(19, [1], half_val=[1 << 16]), "half_val lists 65536, which is no float16"),
        (malformed(29, [1], int_val=[8]), "int_val lists 8, which is no int4"),
        (malformed(30, [1], int_val=[-1]), "int_val lists -1, which is no uint4"),
        (malformed(7, [2], tensor_content=b"\x01\x01a"), "need 4 bytes of tensor_content, got 3"),
        (malformed(7, [2], tensor_content=b"\x80\x80"), "within the length of a string"),
        (malformed(7, [1], tensor_content=b"\xff" * 9), "within the length of a string"),
        (malformed(10, [0], tensor_content=b"\x01"), "needs 0 bytes"),
    ],
)
def test_malformed_proto(proto, message):
    tracemalloc.start()
    with pytest.raises(InvalidTensorError, match=message):
        to_ndarray(proto)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_empty_tensor_with_large_sizes():
    assert to_ndarray(malformed(1, [0, HUGE])).shape == (0, HUGE)


def test_largest_rank():
    assert to_ndarray(malformed(1, [1] * 64, float_val=[7])).ndim == 64


SIZES = st.integers(-2, 5) | st.sampled_from([1 << 20, 1 << 40, (1 << 63) - 1])


@st.composite
def random_protos(draw):
    proto = malformed(draw(st.integers(0, 34)), draw(st.lists(SIZES, max_size=4)))
    proto.tensor_shape.unknown_rank = draw(st.integers(0, 9)) == 0
    if draw(st.booleans()):
        proto.tensor_content = draw(st.binary(max_size=40))
    for field in ("float_val", "double_val", "scomplex_val", "dcomplex_val"):
        getattr(proto, field).extend(draw(st.lists(st.floats(width=32), max_size=3)))
    for field in ("int_val", "int64_val", "half_val"):
        getattr(proto, field).extend(draw(st.lists(st.integers(-(1 << 31), 70_000), max_size=3)))
    for field in ("uint32_val", "uint64_val", "bool_val"):
        getattr(proto, field).extend(draw(st.lists(st.integers(0, 1), max_size=3)))
    proto.string_val.extend(draw(st.lists(st.binary(max_size=3), max_size=3)))
    proto.float8_val = draw(st.binary(max_size=3))
    return proto


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(proto=random_protos())
def test_any_proto_is_read_or_refused(proto):
    try:
        array = to_ndarray(proto)
    except InvalidTensorError:
        return
    assert array.shape == tuple(dim.size for dim in proto.tensor_shape.dim)
    assert array.dtype == DTYPES[proto.dtype]


@settings(max_examples=300, deadline=None)
@given(wire=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(wire):
    with contextlib.suppress(InvalidTensorError, DecodeError):
        to_ndarray(TensorProto.FromString(wire))
