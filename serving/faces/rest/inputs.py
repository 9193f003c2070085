"""The tensors of a predict request: row format (`instances`) and columnar format (`inputs`).

Lists are converted whole, as long as they are regular; where they are not, a walk in TensorFlow
Serving's order finds the first fault and words it as TensorFlow Serving does.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from protocol.contracts import SignatureSpec, TensorSpec
from protocol.errors import InvalidRequestError, ServiceError, UnimplementedError
from protocol.tensors import DTYPES, MAX_RANK, data_type
from serving.faces.rest.documents import (
    excerpt,
    format_error,
    refuse_type,
    text_bytes,
)

INSTANCES, INPUTS = "instances", "inputs"

_B64 = "b64"
_BASE64 = re.compile(r"([A-Za-z0-9+/]*)([=.]*)")
_ASCII_SPACE = re.compile(r"[ \t\n\v\f\r]+")
_DEEPEST = MAX_RANK - 1  # of one instance; their list is one more dimension

_JSON_NAMES = {"float32": "float", "float64": "double", "float16": "half"}
_INT32, _UINT32 = (-(2**31), 2**31 - 1), (0, 2**32 - 1)
_INT64, _UINT64 = (-(2**63), 2**63 - 1), (0, 2**64 - 1)
# Narrow integers travel as int32 in a TensorProto, and are cut to size afterwards.
_RANGES = {
    "int8": _INT32, "int16": _INT32, "int32": _INT32, "uint8": _INT32,
    "int64": _INT64, "uint32": _UINT32, "uint64": _UINT64,
}  # fmt: skip

Array = np.ndarray[Any, Any]


def read_inputs(document: Mapping[str, Any], spec: SignatureSpec) -> dict[str, Array]:
    """Reads a request's tensors.

    Inputs that have a default may be left out, which TensorFlow Serving's REST API does not know.

    Args:
        document: The request; it has either `instances` or `inputs`.
        spec: The signature that will run.

    Returns:
        Array of each input that was given, by name; strings are objects of type bytes.

    Raises:
        InvalidRequestError: Something is missing, irregular, or of another type.
        UnimplementedError: An input has a type that JSON does not carry.
    """
    if not spec.inputs:
        raise InvalidRequestError(f"Failed to get input map for signature: {spec.name}")
    if INSTANCES in document and INPUTS in document:
        raise format_error(
            document,
            f"Not formatted correctly expecting only one of '{INPUTS}' or '{INSTANCES}' keys to "
            "exist ",
        )
    if INSTANCES in document:
        return _read_instances(document, spec)
    if INPUTS in document:
        return _read_columns(document[INPUTS], spec)
    raise InvalidRequestError(f"Missing '{INPUTS}' or '{INSTANCES}' key")


# Columnar format.


def _read_columns(value: Any, spec: SignatureSpec) -> dict[str, Array]:
    if not _is_object(value):
        if len(_required(spec)) > 1:
            raise InvalidRequestError(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        tensor = _main_input(spec)
        return {tensor.name: _read_tensor(value, tensor.dtype)}
    for tensor in spec.inputs:
        if tensor.name not in value and not tensor.optional:
            raise InvalidRequestError(f"Missing named input: {tensor.name} in 'inputs' object.")
    return {
        tensor.name: _read_tensor(value[tensor.name], tensor.dtype)
        for tensor in spec.inputs
        if tensor.name in value
    }


def _read_tensor(value: Any, dtype: str) -> Array:
    try:
        return _convert(value, dtype)
    except InvalidRequestError:
        _check(value, dtype)
        raise


# Row format.


def _read_instances(document: Mapping[str, Any], spec: SignatureSpec) -> dict[str, Array]:
    instances = document[INSTANCES]
    if not isinstance(instances, list):
        raise format_error(document, f"Expecting '{INSTANCES}' to be an list/array")
    if not instances:
        raise format_error(document, f"No values in '{INSTANCES}' array")
    if not isinstance(instances[0], dict) and len(_required(spec)) > 1:
        raise InvalidRequestError(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    try:
        columns = _columns(instances, spec)
        return {name: _convert(columns[name], dtype) for name, dtype in _dtypes(spec, columns)}
    except InvalidRequestError:
        _InstanceCheck(spec, instances[0]).run(instances)
        raise


def _columns(instances: list[Any], spec: SignatureSpec) -> dict[str, list[Any]]:
    """The values of each input, in order of the instances."""
    first = instances[0]
    if not _is_object(first):
        return {_main_input(spec).name: instances}
    if set(map(type, instances)) != {dict} or any(row.keys() != first.keys() for row in instances):
        raise InvalidRequestError("Instances differ in their keys")
    _check_names(first, spec)
    return {name: [row[name] for row in instances] for name in first}


def _check_names(names: Mapping[str, Any], spec: SignatureSpec) -> None:
    missing = {tensor.name for tensor in _required(spec)} - names.keys()
    if missing or names.keys() - {tensor.name for tensor in spec.inputs}:
        raise InvalidRequestError("An instance has other keys than the signature")


def _dtypes(spec: SignatureSpec, columns: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(tensor.name, tensor.dtype) for tensor in spec.inputs if tensor.name in columns]


class _InstanceCheck:
    """Finds the first fault of instances.

    Args:
        spec: The signature.
        first: The first instance: the others must be as it is.
    """

    def __init__(self, spec: SignatureSpec, first: Any) -> None:
        self._dtypes = {tensor.name: tensor.dtype for tensor in spec.inputs}
        self._main = _main_input(spec).name
        self._named = _is_object(first)
        required = {tensor.name for tensor in _required(spec)}
        given = first.keys() & self._dtypes.keys() if self._named else frozenset()
        self._keys = required | given
        self._shapes: dict[str, tuple[list[int], int]] = {}

    def run(self, instances: Sequence[Any]) -> None:
        """Raises the first fault's error."""
        for index, instance in enumerate(instances):
            if self._named:
                self._check_object(index, instance)
            elif _is_object(instance):
                raise InvalidRequestError(
                    f"Expecting value/list but got object at item {index} of input list"
                )
            else:
                self._check_item(instance, self._main, f"{index} of 'instances' list.")

    def _check_object(self, index: int, instance: Any) -> None:
        if not _is_object(instance):
            raise InvalidRequestError(
                f"Expecting object but got list at item {index} of input list"
            )
        for name, item in instance.items():
            self._check_item(item, name, f"{index} key: {name} of 'instances' list.")
        if instance.keys() != self._keys:
            raise InvalidRequestError(
                f"Failed to process element: {index} of 'instances' list. JSON object: "
                f"{excerpt(instance)} keys must be equal to: {','.join(sorted(self._keys))}"
            )

    def _check_item(self, item: Any, name: str, place: str) -> None:
        try:
            if name not in self._dtypes:
                raise InvalidRequestError(f"JSON object: does not have named input: {name}")
            self._check_like_first(name, *_check(item, self._dtypes[name]))
        except ServiceError as error:
            raise InvalidRequestError(
                f"Failed to process element: {place} Error: {error.status.name}: {error.message}"
            ) from error

    def _check_like_first(self, name: str, shape: list[int], size: int) -> None:
        first_shape, first_size = self._shapes.setdefault(name, (shape, size))
        if size != first_size:
            raise InvalidRequestError(f"Expecting tensor size: {first_size} but got: {size}")
        if shape != first_shape:
            raise InvalidRequestError(
                f"Expecting shape {_shape_text(first_shape)} but got: {_shape_text(shape)}"
            )


# Names.


def _required(spec: SignatureSpec) -> list[TensorSpec]:
    return [tensor for tensor in spec.inputs if not tensor.optional]


def _main_input(spec: SignatureSpec) -> TensorSpec:
    """The input that a bare value is for."""
    return next(iter(_required(spec)), spec.inputs[0])


def is_base64(value: Any) -> bool:
    """Whether a value is bytes in base64, `{"b64": "..."}`, and no object of named inputs."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(_B64), str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def _shape_text(shape: Sequence[int]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


# Whole lists at once.


def _convert(value: Any, dtype: str) -> Array:
    """Converts a value, or nested lists of them.

    Raises:
        InvalidRequestError: Not everything fits; `_check` tells what does not.
    """
    shape, leaves = _flatten(value)
    if not leaves:
        return np.empty(shape, DTYPES[data_type(dtype)])
    convert = _CONVERSIONS.get(dtype)
    if convert is None:
        raise InvalidRequestError(f"JSON does not carry {dtype}")
    return convert(leaves).reshape(shape)


def _flatten(value: Any) -> tuple[list[int], list[Any]]:
    """The shape of nested lists, and what they hold in order."""
    shape: list[int] = []
    level = [value]
    while level and isinstance(level[0], list):
        sizes = set(map(len, level)) if set(map(type, level)) == {list} else set()
        if len(sizes) != 1 or len(shape) == MAX_RANK:
            raise InvalidRequestError("Lists are irregular, or nested too deep")
        shape.append(sizes.pop())
        level = list(chain.from_iterable(level))
    return shape, level


def _floats(leaves: list[Any], dtype: str) -> Array:
    _check_types(leaves, {int, float})
    with np.errstate(over="ignore"):
        return np.array(leaves, np.float64).astype(dtype, copy=False)


def _integers(leaves: list[Any], dtype: str) -> Array:
    _check_types(leaves, {int})
    low, high = _RANGES[dtype]
    try:
        wide = np.array(leaves, np.uint64 if dtype == "uint64" else np.int64)
    except OverflowError as error:
        raise InvalidRequestError(str(error)) from error
    if wide.min() < low or wide.max() > high:
        raise InvalidRequestError(f"An integer is outside of {low}..{high}")
    return wide.astype(dtype, copy=False)


def _bools(leaves: list[Any]) -> Array:
    _check_types(leaves, {bool})
    return np.array(leaves, np.bool_)


def _strings(leaves: list[Any]) -> Array:
    strings = np.empty(len(leaves), object)
    strings[:] = [
        text_bytes(leaf) if isinstance(leaf, str) else decode_base64(leaf) for leaf in leaves
    ]
    return strings


def _check_types(leaves: list[Any], allowed: set[type]) -> None:
    if not set(map(type, leaves)) <= allowed:
        raise InvalidRequestError("A value is of another type")


_CONVERSIONS: dict[str, Callable[[list[Any]], Array]] = {
    "float32": partial(_floats, dtype="float32"),
    "float64": partial(_floats, dtype="float64"),
    **{name: partial(_integers, dtype=name) for name in _RANGES},
    "bool": _bools,
    "string": _strings,
}


def decode_base64(value: Any) -> bytes:
    """The bytes of a `{"b64": "..."}`; padding may be missing, white space is passed over.

    Raises:
        InvalidRequestError: It is no such object, or no base64.
    """
    if not is_base64(value):
        raise format_error(value, "not formatted correctly for base64 data")
    text = value[_B64]
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return _decode_loose_base64(text)


def _decode_loose_base64(text: str) -> bytes:
    found = _BASE64.fullmatch(_ASCII_SPACE.sub("", text))
    if found is not None:
        digits, padding = found.groups()
        missing = -len(digits) % 4
        if missing < 3 and len(padding) in (0, missing):
            return base64.b64decode(digits + "=" * missing)
    raise InvalidRequestError("Unable to base64 decode")


# Value by value.


def _check(value: Any, dtype: str) -> tuple[list[int], int]:
    """Walks through nested lists.

    Returns:
        Their shape, and how many values they hold.

    Raises:
        InvalidRequestError: They are irregular, or a value is of another type.
        UnimplementedError: JSON does not carry the type.
    """
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        if len(shape) > _DEEPEST:
            raise format_error(value, f"is nested deeper than {_DEEPEST} lists")
        if not first:
            break
        first = first[0]
    return shape, _count(value, 0, shape, dtype)


def _count(value: Any, level: int, shape: list[int], dtype: str) -> int:
    if not isinstance(value, list):
        if level != len(shape):
            raise format_error(
                value,
                f"found at incorrect level: {level + 1} in the JSON DOM. Expected at level: "
                f"{len(shape)}",
            )
        _check_leaf(value, dtype)
        return 1
    if level >= len(shape):
        raise InvalidRequestError(
            f"Encountered list at unexpected level: {level} expected < {len(shape)}"
        )
    if len(value) != shape[level]:
        raise InvalidRequestError(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
            f"{shape[level]}"
        )
    return sum(_count(item, level + 1, shape, dtype) for item in value)


def _check_leaf(value: Any, dtype: str) -> None:
    expected = _JSON_NAMES.get(dtype, dtype)
    if dtype == "string" and isinstance(value, dict):
        decode_base64(value)
    elif isinstance(value, dict):
        refuse_type(value, expected)
    elif dtype not in _CONVERSIONS:
        raise UnimplementedError(f"Conversion of JSON Value: {excerpt(value)} to type: {expected}")
    elif not _is_of_type(value, dtype):
        refuse_type(value, expected)


def _is_of_type(value: Any, dtype: str) -> bool:
    if dtype == "string":
        return isinstance(value, str)
    if dtype == "bool" or isinstance(value, bool):
        return dtype == "bool" and isinstance(value, bool)
    if dtype in _RANGES:
        low, high = _RANGES[dtype]
        return isinstance(value, int) and low <= value <= high
    return isinstance(value, int | float)
