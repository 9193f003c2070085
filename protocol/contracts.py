"""What the signatures of each task promise: names, dtypes and shapes.

The same contract is checked when a model is exported, when a server loads it, and by the client
that calls it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from protocol.errors import ContractError
from protocol.messages import SignatureDef, TensorInfo, TensorProto, TensorShapeProto
from protocol.tensors import DTYPES, data_type, dtype_name

SERVING_DEFAULT = "serving_default"
TENSORS = "tensors"
PROBABILITY = "probability"
ATTENTION = "attention"
PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output.

    Attributes:
        name: its alias in requests and responses.
        dtype: name as `tensors.dtype_name` gives it.
        shape: sizes, outermost first; None where any size may come.
        optional: an input that a request may leave out.
        unknown_rank: nothing is known about the shape; `shape` is then empty.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    optional: bool = False
    unknown_rank: bool = False

    def __str__(self) -> str:
        return f"{self.dtype}{_shape_text(None if self.unknown_rank else self.shape)}"


@dataclass(frozen=True)
class SignatureSpec:
    """Named inputs and outputs of one callable of a model."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def input(self, name: str) -> TensorSpec:
        """Finds an input.

        Raises:
            ContractError: the signature has no such input.
        """
        return self._find("input", name, self.inputs)

    def output(self, name: str) -> TensorSpec:
        """Finds an output.

        Raises:
            ContractError: the signature has no such output.
        """
        return self._find("output", name, self.outputs)

    def _find(self, role: str, name: str, specs: tuple[TensorSpec, ...]) -> TensorSpec:
        for spec in specs:
            if spec.name == name:
                return spec
        raise ContractError(
            f'signature "{self.name}" has no {role} "{name}"; '
            f"{role}s: {', '.join(spec.name for spec in specs)}"
        )

    def to_json(self) -> dict[str, Any]:
        """Describes the signature in JSON types, for manifests."""
        return {
            "name": self.name,
            "inputs": [_spec_to_json(spec) for spec in self.inputs],
            "outputs": [_spec_to_json(spec) for spec in self.outputs],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "SignatureSpec":
        """Reads what `to_json` wrote.

        Raises:
            ContractError: the document is of another form.
        """
        try:
            return cls(
                name=document["name"],
                inputs=tuple(_spec_from_json(spec) for spec in document["inputs"]),
                outputs=tuple(_spec_from_json(spec) for spec in document["outputs"]),
            )
        except (KeyError, TypeError) as error:
            raise ContractError(f"not the description of a signature: {error!r}") from None


@dataclass(frozen=True)
class TaskContract:
    """The signatures that every model of a task has."""

    task: str
    signatures: tuple[SignatureSpec, ...]

    def signature(self, name: str) -> SignatureSpec:
        """Finds a signature.

        Raises:
            ContractError: the task has no such signature.
        """
        for signature in self.signatures:
            if signature.name == name:
                return signature
        raise ContractError(
            f'task "{self.task}" has no signature "{name}"; '
            f"signatures: {', '.join(signature.name for signature in self.signatures)}"
        )


def check_signature(expected: SignatureSpec, found: SignatureSpec) -> None:
    """Makes sure that a model's signature keeps a contract.

    A size that the model leaves open is taken on trust, and more outputs than promised do no
    harm. An input must accept every size that the contract leaves open.

    Raises:
        ContractError: the signatures differ; the message names every difference.
    """
    found_inputs = {spec.name: spec for spec in found.inputs}
    found_outputs = {spec.name: spec for spec in found.outputs}
    differences = [
        *_differences("input", expected.inputs, found_inputs),
        *_unexpected_inputs(expected, found),
        *_differences("output", expected.outputs, found_outputs),
    ]
    if differences:
        raise ContractError(
            f'signature "{found.name}" does not keep its contract: {"; ".join(differences)}'
        )


def check_inputs(spec: SignatureSpec, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
    """Checks the inputs of a request against the signature they are meant for.

    Names and dtypes are refused in TensorFlow Serving's words, followed by what was expected.

    Args:
        spec: the signature that will run.
        inputs: array of each input, by name.

    Raises:
        ContractError: wrong number of inputs, a wrong name, dtype, rank or fixed size.
    """
    check_input_names(spec, inputs)
    check_input_dtypes(spec, inputs)
    for expected in spec.inputs:
        array = inputs.get(expected.name)
        if array is not None and not _fits(expected, array):
            raise ContractError(_expectation(spec, expected, array))


def check_input_dtypes(spec: SignatureSpec, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
    """Checks the dtypes of a request's inputs, in the words of TensorFlow's graphs.

    Args:
        spec: the signature that will run.
        inputs: array of each input, by name; the names are those of the signature.

    Raises:
        ContractError: an input has another dtype than the signature's.
    """
    given = [tensor for tensor in spec.inputs if tensor.name in inputs]
    for index, expected in enumerate(given):
        array = inputs[expected.name]
        if array.dtype != _numpy_dtype(expected.dtype):
            raise ContractError(
                f"Expects arg[{index}] to be {_graph_name(expected.dtype)} but "
                f"{_graph_name(dtype_name(data_type(array.dtype)))} is provided; "
                f"{_expectation(spec, expected, array)}"
            )


def check_input_names(
    spec: SignatureSpec,
    inputs: Mapping[str, Any],
    feed_names: Mapping[str, str] | None = None,
) -> None:
    """Checks which inputs a request has, in the words of TensorFlow Serving.

    Args:
        spec: the signature that will run.
        inputs: the inputs, by name; their values are not looked at.
        feed_names: name of each input's tensor in the graph; `feed_name`, where it is not given.

    Raises:
        ContractError: wrong number of inputs, or a wrong name.
    """
    expected = {tensor.name for tensor in spec.inputs}
    if inputs.keys() == expected:
        return
    optional = {tensor.name for tensor in spec.inputs if tensor.optional}
    if len(inputs) > len(expected) or (len(inputs) < len(expected) and not optional):
        raise ContractError(
            f"input size does not match signature: {len(inputs)}!={len(expected)} "
            f"len({_set_text(inputs)}) != len({_set_text(expected)}). "
            f"Sent extra: {_set_text(inputs.keys() - expected)}. "
            f"Missing but required: {_set_text(expected - inputs.keys())}."
        )
    for tensor in spec.inputs:
        if tensor.name not in inputs and not tensor.optional:
            fed = (feed_names or {}).get(tensor.name) or feed_name(spec, tensor.name)
            raise ContractError(
                f"Signature input alias: {tensor.name}(feed name: {fed}) "
                "not found in request and no default value provided. Inputs expected to be in "
                f"the request {_set_text(inputs)}, or default input alias set: "
                f"{','.join(sorted(optional))}"
            )
    if not inputs.keys() <= expected:
        raise ContractError(
            f"Inputs contains invalid name. Used request inputs: "
            f"{','.join(sorted(inputs.keys() & expected))}, "
            f"request input: {','.join(sorted(inputs))}"
        )


def signature_def(spec: SignatureSpec) -> Any:
    """Describes a signature as a SignatureDef, for metadata.

    Optional inputs are listed with a default of zeros: that there is one is what tells a
    reader that the input may be left out.
    """
    described = SignatureDef(method_name=PREDICT_METHOD)
    for tensor in spec.inputs:
        described.inputs[tensor.name].CopyFrom(_tensor_info(tensor, feed_name(spec, tensor.name)))
        if tensor.optional:
            described.defaults[tensor.name].CopyFrom(_zeros(tensor))
    for index, tensor in enumerate(spec.outputs):
        described.outputs[tensor.name].CopyFrom(_tensor_info(tensor, f"{spec.name}:{index}"))
    return described


def signature_spec(name: str, described: Any) -> SignatureSpec:
    """Reads a SignatureDef; tensors come in the order of their names.

    Args:
        name: name of the signature.
        described: a SignatureDef.

    Raises:
        InvalidTensorError: a tensor has a dtype that cannot be carried.
    """
    return SignatureSpec(
        name=name,
        inputs=_tensor_specs(described.inputs, frozenset(described.defaults)),
        outputs=_tensor_specs(described.outputs, frozenset()),
    )


def feed_name(spec: SignatureSpec, alias: str) -> str:
    """Name of an input's tensor, as TensorFlow names it in an exported graph."""
    return f"{spec.name}_{alias}:0"


def _set_text(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


# Dtypes and shapes.


@cache
def _numpy_dtype(name: str) -> np.dtype[Any]:
    return DTYPES[data_type(name)]


def _fits(expected: TensorSpec, array: npt.NDArray[Any]) -> bool:
    if expected.unknown_rank:
        return True
    return array.ndim == len(expected.shape) and all(
        size is None or size == came for size, came in zip(expected.shape, array.shape, strict=True)
    )


# Names of element types in the messages of TensorFlow's graphs, where they differ.
_GRAPH_NAMES = {"float32": "float", "float64": "double", "float16": "half"}


def _graph_name(dtype: str) -> str:
    return _GRAPH_NAMES.get(dtype, dtype)


def _expectation(spec: SignatureSpec, expected: TensorSpec, array: npt.NDArray[Any]) -> str:
    return (
        f'input "{expected.name}" of signature "{spec.name}": expected {expected}, '
        f"got {_array_text(array)}"
    )


def _shape_text(shape: Iterable[int | None] | None) -> str:
    if shape is None:
        return "[...]"
    return "[" + ",".join("?" if size is None else str(size) for size in shape) + "]"


def _array_text(array: npt.NDArray[Any]) -> str:
    return f"{dtype_name(data_type(array.dtype))}{_shape_text(array.shape)}"


def _differences(
    role: str, expected: tuple[TensorSpec, ...], found: Mapping[str, TensorSpec]
) -> list[str]:
    differences = []
    for tensor in expected:
        candidate = found.get(tensor.name)
        if candidate is None:
            names = ", ".join(sorted(found))
            differences.append(f'{role} "{tensor.name}" {tensor} is missing (found: {names})')
        elif not _keeps(role, tensor, candidate):
            differences.append(f'{role} "{tensor.name}" must be {tensor}, found {candidate}')
        elif tensor.optional and not candidate.optional:
            differences.append(f'{role} "{tensor.name}" must be optional')
    return differences


def _keeps(role: str, expected: TensorSpec, found: TensorSpec) -> bool:
    if expected.dtype != found.dtype:
        return False
    if expected.unknown_rank or found.unknown_rank:
        return True
    return len(expected.shape) == len(found.shape) and all(
        actual is None or actual == wanted or (wanted is None and role == "output")
        for wanted, actual in zip(expected.shape, found.shape, strict=True)
    )


def _unexpected_inputs(expected: SignatureSpec, found: SignatureSpec) -> list[str]:
    known = {tensor.name for tensor in expected.inputs}
    return [
        f'input "{tensor.name}" {tensor} is not in the contract and not optional'
        for tensor in found.inputs
        if tensor.name not in known and not tensor.optional
    ]


# SignatureDef and JSON.


def _tensor_info(spec: TensorSpec, name: str) -> Any:
    return TensorInfo(name=name, dtype=data_type(spec.dtype), tensor_shape=_shape_proto(spec))


def _shape_proto(spec: TensorSpec) -> Any:
    if spec.unknown_rank:
        return TensorShapeProto(unknown_rank=True)
    dims = [TensorShapeProto.Dim(size=-1 if size is None else size) for size in spec.shape]
    return TensorShapeProto(dim=dims)


def _zeros(spec: TensorSpec) -> Any:
    """A TensorProto without values, which stands for zeros; open sizes become 1."""
    dims = [TensorShapeProto.Dim(size=1 if size is None else size) for size in spec.shape]
    return TensorProto(dtype=data_type(spec.dtype), tensor_shape=TensorShapeProto(dim=dims))


def _tensor_specs(
    infos: Mapping[str, Any], optional_names: frozenset[str]
) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=alias,
            dtype=dtype_name(infos[alias].dtype),
            shape=tuple(
                None if dim.size < 0 else dim.size for dim in infos[alias].tensor_shape.dim
            ),
            optional=alias in optional_names,
            unknown_rank=infos[alias].tensor_shape.unknown_rank,
        )
        for alias in sorted(infos)
    )


def _spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    document: dict[str, Any] = {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}
    if spec.optional:
        document["optional"] = True
    if spec.unknown_rank:
        document["unknown_rank"] = True
    return document


def _spec_from_json(document: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(
        name=document["name"],
        dtype=document["dtype"],
        shape=tuple(document["shape"]),
        optional=document.get("optional", False),
        unknown_rank=document.get("unknown_rank", False),
    )


# The contracts. None is a size that differs between requests; the first one counts rows.

_TEXT = TensorSpec("text", "string", (None,))
_IMAGE_BYTES = TensorSpec("image_bytes", "string", (None,))
_IMAGE = TensorSpec("image", "uint8", (None, None, None, 3))

SENTIMENT = TaskContract(
    "sentiment",
    (
        SignatureSpec(
            SERVING_DEFAULT,
            inputs=(_TEXT,),
            outputs=(
                TensorSpec("label", "string", (None,)),
                TensorSpec("probability", "float32", (None, None)),
                TensorSpec("tokens", "int32", (None,)),
                TensorSpec("truncated", "bool", (None,)),
            ),
        ),
        SignatureSpec(
            TENSORS,
            inputs=(TensorSpec("token_ids", "int32", (None, None)),),
            outputs=(TensorSpec("probability", "float32", (None, None)),),
        ),
    ),
)

# `threshold` holds the version's own verification thresholds, the same in each row: squared
# distances of unit vectors at a false-accept rate of 1 % and of 0.1 %.
_EMBEDDING = (
    TensorSpec("embedding", "float32", (None, 128)),
    TensorSpec("threshold", "float32", (None, 2)),
)

FACE = TaskContract(
    "face",
    (
        SignatureSpec(SERVING_DEFAULT, inputs=(_IMAGE_BYTES,), outputs=_EMBEDDING),
        SignatureSpec(TENSORS, inputs=(_IMAGE,), outputs=_EMBEDDING),
    ),
)

_THRESHOLDS = (
    TensorSpec("score_threshold", "float32", (), optional=True),
    TensorSpec("iou_threshold", "float32", (), optional=True),
)
_DETECTIONS = (
    TensorSpec("boxes_xyxy", "float32", (None, None, 4)),
    TensorSpec("scores", "float32", (None, None)),
    TensorSpec("class_ids", "int32", (None, None)),
    TensorSpec("labels", "string", (None, None)),
    TensorSpec("num_detections", "int32", (None,)),
)

DETECTION = TaskContract(
    "detection",
    (
        SignatureSpec(SERVING_DEFAULT, inputs=(_IMAGE_BYTES, *_THRESHOLDS), outputs=_DETECTIONS),
        SignatureSpec(TENSORS, inputs=(_IMAGE, *_THRESHOLDS), outputs=_DETECTIONS),
    ),
)

# The names of the classes repeat in each row, so that a batch can be split by rows.
_CLASS_NAMES = TensorSpec("class_names", "string", (None, None))
_MASK = TensorSpec("mask", "uint8", (None, None, None))

SEGMENTATION = TaskContract(
    "segmentation",
    (
        SignatureSpec(
            SERVING_DEFAULT,
            inputs=(_IMAGE_BYTES,),
            outputs=(
                TensorSpec("mask_png", "string", (None,)),
                TensorSpec("width", "int32", (None,)),
                TensorSpec("height", "int32", (None,)),
                _CLASS_NAMES,
            ),
        ),
        SignatureSpec(TENSORS, inputs=(_IMAGE,), outputs=(_MASK, _CLASS_NAMES)),
        SignatureSpec(
            PROBABILITY,
            inputs=(_IMAGE,),
            outputs=(
                _MASK,
                TensorSpec("probability", "float32", (None, None, None, None)),
                _CLASS_NAMES,
            ),
        ),
    ),
)

_SEARCH = (
    TensorSpec("beam_width", "int32", (), optional=True),
    TensorSpec("max_length", "int32", (), optional=True),
    TensorSpec("alternatives", "int32", (), optional=True),
)
_TRANSLATION = TensorSpec("translation", "string", (None,))
_SCORE = TensorSpec("score", "float32", (None,))
_TRUNCATED = TensorSpec("truncated", "bool", (None,))

TRANSLATION = TaskContract(
    "translation",
    (
        SignatureSpec(
            SERVING_DEFAULT,
            inputs=(_TEXT, *_SEARCH),
            outputs=(
                _TRANSLATION,
                _SCORE,
                TensorSpec("alternatives", "string", (None, None)),
                TensorSpec("alternative_scores", "float32", (None, None)),
                _TRUNCATED,
            ),
        ),
        SignatureSpec(
            ATTENTION,
            inputs=(_TEXT, *_SEARCH[:2]),
            outputs=(
                _TRANSLATION,
                _SCORE,
                TensorSpec("attention", "float32", (None, None, None)),
                TensorSpec("source_tokens", "string", (None, None)),
                TensorSpec("target_tokens", "string", (None, None)),
                _TRUNCATED,
            ),
        ),
        SignatureSpec(
            TENSORS,
            inputs=(TensorSpec("token_ids", "int32", (None, None)), *_SEARCH),
            outputs=(
                TensorSpec("translation_ids", "int32", (None, None, None)),
                TensorSpec("scores", "float32", (None, None)),
            ),
        ),
    ),
)

CONTRACTS: Mapping[str, TaskContract] = MappingProxyType(
    {
        contract.task: contract
        for contract in (FACE, DETECTION, SEGMENTATION, TRANSLATION, SENTIMENT)
    }
)
