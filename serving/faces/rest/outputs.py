"""Answers as JSON, in the layout and with the number text of TensorFlow Serving.

A float has six digits where they read back as the same value, else nine (17 for float64), and a
point or an exponent in any case. NaN, Infinity and -Infinity stand bare, which is no JSON.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from protocol.errors import InvalidRequestError
from protocol.tensors import data_type, dtype_name

_BYTES_SUFFIX = "_bytes"
_CHUNK = 1 << 16  # values that are written at once: threads change in between
_HALF_NAMES = {"float16": "half"}
_SHORT = 1e6  # whole numbers from here on are written with an exponent, if they are short

_POWERS = np.array([float(f"1e{places}") for places in range(64)])

Array = np.ndarray[Any, Any]

_quoted = json.JSONEncoder(ensure_ascii=False).encode


def check_rows(outputs: Mapping[str, Array]) -> None:
    """Checks that outputs can be cut into rows.

    Raises:
        InvalidRequestError: One is a scalar, another has more rows, or JSON has no such type.
    """
    check_columns(outputs)
    rows = -1
    for name, array in outputs.items():
        if array.ndim == 0:
            raise InvalidRequestError(f"Tensor name: {name} has no shape information ")
        if rows >= 0 and len(array) != rows:
            raise InvalidRequestError(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {rows}"
            )
        rows = len(array)


def check_columns(outputs: Mapping[str, Array]) -> None:
    """Checks that outputs can be written as JSON.

    Raises:
        InvalidRequestError: There are none, or JSON has no such type.
    """
    if not outputs:
        raise InvalidRequestError("Cannot convert empty tensor map to JSON")
    for array in outputs.values():
        if array.size and array.dtype.name not in _WRITERS:
            name = dtype_name(data_type(array.dtype))
            raise InvalidRequestError(
                "Failed to write JSON value for tensor type: " + _HALF_NAMES.get(name, name)
            )


def write_predictions(outputs: Mapping[str, Array]) -> bytes:
    """Writes outputs row by row: bare values, or objects where there are several outputs.

    Args:
        outputs: Arrays [N, ...] that passed `check_rows`.
    """
    columns = {name: _fold(_texts(name, array), array.shape, 1) for name, array in outputs.items()}
    if len(columns) == 1:
        [rows] = columns.values()
        body = ", ".join(rows) + "\n    " if rows else ""
    else:
        names = [f"\n            {_quoted(name)}: " for name in columns]
        rows = [_row(names, values) for values in zip(*columns.values(), strict=True)]
        body = ",".join(rows) + "\n    " if rows else ""
    return _encoded(f'{{\n    "predictions": [{body}]\n}}')


def write_outputs(outputs: Mapping[str, Array]) -> bytes:
    """Writes outputs whole: a bare value, or an object where there are several outputs.

    Args:
        outputs: Arrays that passed `check_columns`.
    """
    texts = {
        _quoted(name): _fold(_texts(name, array), array.shape, 0)[0]
        for name, array in outputs.items()
    }
    if len(texts) == 1:
        [body] = texts.values()
    else:
        members = ",".join(f"\n        {name}: {text}" for name, text in texts.items())
        body = f"{{{members}\n    }}"
    return _encoded(f'{{\n    "outputs": {body}\n}}')


def write_classifications(results: Sequence[Sequence[tuple[str, float]]]) -> bytes:
    """Writes the classes of each example as pairs of label and score."""
    rows = [_classes(row) for row in results]
    return _encoded('{\n    "results": [' + ", ".join(rows) + "\n    ]\n}")


def write_regressions(values: Sequence[float]) -> bytes:
    """Writes the value of each example."""
    texts = _float_texts(np.array(values, np.float32))
    return _encoded('{\n    "results": [' + ", ".join(texts) + "]\n}")


def write_error(message: str) -> bytes:
    """Writes what went wrong."""
    return _encoded(f'{{\n    "error": {_quoted(message)}\n}}')


def _row(names: Sequence[str], values: Sequence[str]) -> str:
    members = ",".join(name + value for name, value in zip(names, values, strict=True))
    return f"\n        {{{members}\n        }}"


def _classes(row: Sequence[tuple[str, float]]) -> str:
    scores = _float_texts(np.array([score for _, score in row], np.float32))
    pairs = (f"[{_quoted(label)}, {score}]" for (label, _), score in zip(row, scores, strict=True))
    return "[" + ", ".join(pairs) + "]"


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


# Nested lists.


def _fold(texts: list[str], shape: Sequence[int], axes: int) -> list[str]:
    """Joins the values of an array to lists, all but its first axes.

    Returns:
        One text for each place on those axes.
    """
    for axis in reversed(range(axes, len(shape))):
        size, count = shape[axis], math.prod(shape[:axis])
        texts = [
            "[" + ", ".join(texts[place * size : (place + 1) * size]) + "]"
            for place in range(count)
        ]
    return texts


def _texts(name: str, array: Array) -> list[str]:
    """The text of each value, in order."""
    if not array.size:
        return []
    if array.dtype == object and name.endswith(_BYTES_SUFFIX):
        return list(map(_base64, array.flat))
    return _WRITERS[array.dtype.name](array.ravel())


# Values.


def _string(value: bytes | str) -> str:
    text = value if isinstance(value, str) else value.decode(errors="surrogateescape")
    return _quoted(text)


def _base64(value: bytes | str) -> str:
    data = value.encode() if isinstance(value, str) else value
    return f'{{"b64": "{base64.b64encode(data).decode()}"}}'


def _string_texts(values: Array) -> list[str]:
    return list(map(_string, values.tolist()))


def _integer_texts(values: Array) -> list[str]:
    return list(map(str, values.tolist()))


def _bool_texts(values: Array) -> list[str]:
    return ["true" if value else "false" for value in values.tolist()]


def _float_texts(values: Array) -> list[str]:
    with np.errstate(all="ignore"):
        return _written(values, _reads_back_quickly(values), 9)


def _double_texts(values: Array) -> list[str]:
    with np.errstate(all="ignore"):
        return _written(values, _reads_back(values), 17)


_WRITERS: dict[str, Callable[[Array], list[str]]] = {
    "float32": _float_texts,
    "float64": _double_texts,
    **dict.fromkeys(
        ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"), _integer_texts
    ),
    "bool": _bool_texts,
    "object": _string_texts,
}


def _written(values: Array, is_short: Array, digits: int) -> list[str]:
    """The text of floats [N], of which some are short enough for six digits."""
    patterns = np.array(
        ["%.6g", "%.6g.0", f"%.{digits}g", f"%.{digits}g.0", "%.0sNaN", "%.0sInfinity",
         "%.0s-Infinity"],
        object,
    )  # fmt: skip
    is_whole = values == np.rint(values)
    lacks_point = is_whole & (np.abs(values) < np.where(is_short, _SHORT, 10.0**digits))
    kinds = np.where(is_short, 0, 2) + lacks_point
    kinds[np.isnan(values)] = 4
    kinds[np.isposinf(values)] = 5
    kinds[np.isneginf(values)] = 6
    texts: list[str] = []
    for start in range(0, len(values), _CHUNK):
        part = slice(start, start + _CHUNK)
        pattern = "\n".join(patterns[kinds[part]].tolist())
        texts += (pattern % tuple(values[part].tolist())).split("\n")
    return texts


def _reads_back_quickly(values: Array) -> Array:
    """Which float32 values [N] have at most six decimal digits.

    Computed in float64: the powers of ten are exact where a decimal can lie midway between two
    values of float32, and elsewhere the error is far below half a step of float32.
    """
    wide = values.astype(np.float64)
    exponents = np.floor(np.log10(np.abs(wide)))
    places = np.where(np.isfinite(exponents), 5 - exponents, 0).astype(np.intp)
    up, down = _POWERS[np.maximum(places, 0)], _POWERS[np.maximum(-places, 0)]
    rounded = np.rint(wide * up / down) / up * down
    is_short: Array = (rounded.astype(np.float32) == values) | (values == 0)
    return is_short


def _reads_back(values: Array) -> Array:
    """Which float64 values [N] have at most six decimal digits."""
    numbers = values.tolist()
    return np.array([float(f"{number:.6g}") == number for number in numbers], np.bool_)
