"""SavedModels in a session of TensorFlow's C++ loader, as TensorFlow Serving runs them.

Python's own loader builds the graph by other code. This one calls `tensorflow::LoadSavedModel`
through TensorFlow's C interface, which restores the variables and runs the init operation.
"""

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

_LIBRARIES = [
    ctypes.CDLL(str(Path(tf.__file__).parent / name))
    for name in ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")
]
_STRING_BYTES = 24  # of a TF_TString


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    )


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


def _function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    library = next(library for library in _LIBRARIES if hasattr(library, name))
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function  # type: ignore[no-any-return]


_P, _I, _S = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
_new_status = _function("TF_NewStatus", _P)
_code = _function("TF_GetCode", _I, _P)
_message = _function("TF_Message", ctypes.c_char_p, _P)
_delete_status = _function("TF_DeleteStatus", None, _P)
_new_options = _function("TF_NewSessionOptions", _P)
_new_graph = _function("TF_NewGraph", _P)
_new_buffer = _function("TF_NewBuffer", ctypes.POINTER(_Buffer))
_load = _function(
    "TF_LoadSessionFromSavedModel",
    _P, _P, _P, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p), _I, _P, ctypes.POINTER(_Buffer),
    _P,
)  # fmt: skip
_run = _function(
    "TF_SessionRun",
    None, _P, _P, ctypes.POINTER(_Output), ctypes.POINTER(_P), _I, ctypes.POINTER(_Output),
    ctypes.POINTER(_P), _I, _P, _I, _P, _P,
)  # fmt: skip
_close = _function("TF_CloseSession", None, _P, _P)
_delete_session = _function("TF_DeleteSession", None, _P, _P)
_operation = _function("TF_GraphOperationByName", _P, _P, ctypes.c_char_p)
_allocate = _function("TF_AllocateTensor", _P, _I, ctypes.POINTER(ctypes.c_int64), _I, _S)
_delete_tensor = _function("TF_DeleteTensor", None, _P)
_data = _function("TF_TensorData", _P, _P)
_size = _function("TF_TensorByteSize", _S, _P)
_type = _function("TF_TensorType", _I, _P)
_rank = _function("TF_NumDims", _I, _P)
_dim = _function("TF_Dim", ctypes.c_int64, _P, _I)
_string_init = _function("TF_StringInit", None, _P)
_string_copy = _function("TF_StringCopy", None, _P, ctypes.c_char_p, _S)
_string_data = _function("TF_StringGetDataPointer", _P, _P)
_string_size = _function("TF_StringGetSize", _S, _P)


class CppSession:
    """A loaded SavedModel.

    Args:
        folder: it, with the tag `serve`.

    Raises:
        ValueError: TensorFlow can not load it; the message is TensorFlow's.
    """

    def __init__(self, folder: Path) -> None:
        self._graph, meta = _new_graph(), _new_buffer()
        tags = (ctypes.c_char_p * 1)(b"serve")
        with _status() as status:
            self._session = _load(
                _new_options(), None, str(folder).encode(), tags, 1, self._graph, meta, status
            )
        graph = tf.compat.v1.MetaGraphDef()
        graph.ParseFromString(ctypes.string_at(meta.contents.data, meta.contents.length))
        self.signatures: Mapping[str, Any] = graph.signature_def

    def run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Runs a signature; inputs that are left out get the signature's defaults."""
        spec = self.signatures[signature]
        defaults = {name: tf.make_ndarray(value) for name, value in spec.defaults.items()}
        fed = defaults | dict(inputs)
        feeds = [self._place(spec.inputs[name].name) for name in fed]
        fetches = [self._place(info.name) for info in spec.outputs.values()]
        given = [_to_tensor(np.asarray(value)) for value in fed.values()]
        values, results = (_P * len(feeds))(*given), (_P * len(fetches))()
        with _status() as status:
            _run(
                self._session, None, (_Output * len(feeds))(*feeds), values, len(feeds),
                (_Output * len(fetches))(*fetches), results, len(fetches), None, 0, None, status,
            )  # fmt: skip
        outputs = {
            name: _to_array(tensor) for name, tensor in zip(spec.outputs, results, strict=True)
        }
        for tensor in (*given, *results):
            _delete_tensor(tensor)
        return outputs

    def close(self) -> None:
        """Gives its memory back."""
        with _status() as status:
            _close(self._session, status)
        with _status() as status:
            _delete_session(self._session, status)

    def _place(self, name: str) -> _Output:
        operation, _, index = name.partition(":")
        found = _operation(self._graph, operation.encode())
        assert found, f"the graph has no operation {operation}"
        return _Output(found, int(index))


@contextmanager
def _status() -> Iterator[Any]:
    status = _new_status()
    try:
        yield status
        if _code(status):
            raise ValueError(_message(status).decode())
    finally:
        _delete_status(status)


def _to_tensor(array: Any) -> Any:
    texts = array.dtype.kind in "OSU"
    dtype = tf.string if texts else tf.as_dtype(array.dtype)
    size = array.size * _STRING_BYTES if texts else array.nbytes
    shape: Sequence[int] = array.shape
    tensor = _allocate(
        dtype.as_datatype_enum, (ctypes.c_int64 * len(shape))(*shape), len(shape), size
    )
    if not texts:
        ctypes.memmove(_data(tensor), np.ascontiguousarray(array).ctypes.data, size)
        return tensor
    for number, text in enumerate(array.ravel()):
        place = _data(tensor) + number * _STRING_BYTES
        _string_init(place)
        _string_copy(place, bytes(text), len(text))
    return tensor


def _to_array(tensor: Any) -> Any:
    shape = [_dim(tensor, axis) for axis in range(_rank(tensor))]
    dtype = tf.dtypes.DType(_type(tensor))
    if dtype != tf.string:
        return np.frombuffer(
            ctypes.string_at(_data(tensor), _size(tensor)), dtype.as_numpy_dtype
        ).reshape(shape)
    places = [_data(tensor) + number * _STRING_BYTES for number in range(int(np.prod(shape)))]
    texts = [ctypes.string_at(_string_data(place), _string_size(place)) for place in places]
    return np.array(texts, dtype=object).reshape(shape)
