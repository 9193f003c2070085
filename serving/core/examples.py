"""Classify, Regress and MultiInference: signatures that take tf.Example, over Predict.

A signature fits Classify if its one input is `inputs` and its outputs hold `classes` (string
[N, C]), `scores` (float32 [N, C]) or both; it fits Regress if it maps `inputs` to `outputs`
(float32 [N] or [N, 1]). Checks and their words are TensorFlow Serving's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from protocol.contracts import (
    CLASSIFY_METHOD,
    REGRESS_METHOD,
    SERVING_DEFAULT,
    SignatureSpec,
    signature_def,
)
from protocol.errors import InvalidRequestError, ServiceError, UnimplementedError
from protocol.messages import POOL
from protocol.tensors import data_type
from serving.core.data_plane import DataPlane
from serving.core.manager import ModelChoice
from serving.core.predictor import PredictCall, Prediction, Timing
from serving.core.servable import ServableHandle, ServableId, Tensors

_DATA_TYPES = POOL.FindEnumTypeByName("tensorflow.DataType").values_by_number

_INPUTS, _CLASSES, _SCORES, _OUTPUTS = "inputs", "classes", "scores", "outputs"


@dataclass(frozen=True, slots=True)
class ExamplesCall:
    """One Classify or Regress to make.

    Attributes:
        model: Which model and version.
        examples: Serialized tf.Example messages, a shared context already merged in front.
        signature: Name of the signature; empty for the default one.
        deadline: When to give up, in the event loop's time.
        entrypoint: `GRPC` or `REST`, in the metrics.
    """

    model: ModelChoice
    examples: Sequence[bytes]
    signature: str = ""
    deadline: float | None = None
    entrypoint: str = "GRPC"


@dataclass(frozen=True, slots=True)
class Classifications:
    """The classes of each example as (label, score).

    Where the signature has no labels they are empty; where it has no scores they are 0.
    """

    id: ServableId
    signature: str
    results: list[list[tuple[str, float]]]
    timing: Timing = field(default=Timing(0.0, 0.0), compare=False)


@dataclass(frozen=True, slots=True)
class Regressions:
    """The value of each example."""

    id: ServableId
    signature: str
    results: list[float]
    timing: Timing = field(default=Timing(0.0, 0.0), compare=False)


@dataclass(frozen=True, slots=True)
class InferenceTask:
    """One signature of a MultiInference.

    Attributes:
        model: Name of the model, the same in all tasks.
        method: `CLASSIFY_METHOD` or `REGRESS_METHOD`.
        signature: Name of the signature, another one in each task; empty for the default one.
    """

    model: str
    method: str
    signature: str = ""


@dataclass(frozen=True, slots=True)
class MultiInferenceCall:
    """Several signatures to run on the same examples.

    Attributes:
        model: Which model and version; the first task tells.
        tasks: What to run.
        examples: As in `ExamplesCall`.
        deadline: As in `ExamplesCall`.
    """

    model: ModelChoice
    tasks: Sequence[InferenceTask]
    examples: Sequence[bytes]
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class ExamplesMethod:
    """What one method demands of signatures and outputs.

    Attributes:
        api: Its name in TensorFlow Serving's metrics.
        check_signature: Raises InvalidRequestError for a signature that does not fit.
        check_outputs: Raises InvalidRequestError for outputs that do not fit so many examples.
        answer: Makes the answer from outputs that fit.
    """

    api: str
    check_signature: Callable[[SignatureSpec], None]
    check_outputs: Callable[[Tensors, int], None]
    answer: Callable[[Prediction], Classifications | Regressions]

    def read_inputs(
        self, spec: SignatureSpec, examples: Sequence[bytes]
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Makes the signature's input of examples.

        Returns:
            `inputs`, an object array [N] of bytes.

        Raises:
            InvalidRequestError: The signature does not fit, or there are no examples.
        """
        self.check_signature(spec)
        check_examples(examples)
        column = np.empty(len(examples), object)
        column[:] = examples
        return {_INPUTS: column}

    def predict_call(self, call: ExamplesCall) -> PredictCall:
        """The prediction that answers a call."""
        return PredictCall(
            model=call.model,
            read_inputs=lambda spec: self.read_inputs(spec, call.examples),
            signature=call.signature,
            deadline=call.deadline,
            api=self.api if call.entrypoint == "GRPC" else self.api.lower(),
            entrypoint=call.entrypoint,
            unknown_signature=_no_such_signature,
            check_outputs=lambda outputs: self.check_outputs(outputs, len(call.examples)),
        )


async def classify(data_plane: DataPlane, call: ExamplesCall) -> Classifications:
    """Classifies examples.

    Raises:
        InvalidRequestError: No such signature, it does not fit, or there are no examples.
        ServiceError: As `DataPlane.predict`.
    """
    return _classifications(await data_plane.predict(CLASSIFY.predict_call(call)))


async def regress(data_plane: DataPlane, call: ExamplesCall) -> Regressions:
    """Computes one value of each example.

    Raises:
        InvalidRequestError: No such signature, it does not fit, or there are no examples.
        ServiceError: As `DataPlane.predict`.
    """
    return _regressions(await data_plane.predict(REGRESS.predict_call(call)))


async def multi_inference(
    data_plane: DataPlane, call: MultiInferenceCall
) -> list[Classifications | Regressions]:
    """Runs several signatures of one version on the same examples, side by side.

    Returns:
        The answers in the order of the tasks.

    Raises:
        InvalidRequestError: The tasks do not go together, a signature does not exist or does not
            fit its method, or there are no examples.
        UnimplementedError: A task asks for an unknown method.
        ServiceError: As `DataPlane.predict`; of several, the first task's.
    """
    with data_plane.pin(call.model) as handle:
        check_tasks(call.tasks, handle.servable.signatures)
        check_examples(call.examples)
        runs = [_run_task(data_plane, handle, call, task) for task in call.tasks]
        answers: list[Classifications | Regressions] = []
        for answer in await asyncio.gather(*runs, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer
            answers.append(answer)
    data_plane.count_examples(handle.id.name, len(call.examples))
    return answers


def check_tasks(tasks: Sequence[InferenceTask], signatures: Mapping[str, SignatureSpec]) -> None:
    """Checks that tasks go together and that their signatures fit.

    Raises:
        InvalidRequestError: They name no model, several models or a signature twice, or one does
            not exist or does not fit.
        UnimplementedError: A method is neither Classify nor Regress.
    """
    seen: set[str] = set()
    for task in tasks:
        if not task.model:
            raise InvalidRequestError("Found ModelSpec with an empty model name.")
        if task.model != tasks[0].model:
            raise InvalidRequestError(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
                f" Came: {tasks[0].model}, {task.model}"
            )
        name = task.signature or SERVING_DEFAULT
        if name in seen:
            raise InvalidRequestError(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        if name not in signatures:
            raise InvalidRequestError(
                f"Requested signature not found in model graph: {name}. Signatures of "
                f"{task.model}: {', '.join(sorted(signatures))}"
            )
        examples_method(task.method).check_signature(signatures[name])


def check_examples(examples: Sequence[bytes]) -> None:
    """Checks that there are examples.

    Raises:
        InvalidRequestError: There are none.
    """
    if not examples:
        raise InvalidRequestError("Input is empty.")


def examples_method(name: str) -> ExamplesMethod:
    """Finds a method by its name in signatures and tasks.

    Raises:
        UnimplementedError: It is neither Classify nor Regress.
    """
    if name not in _METHODS:
        raise UnimplementedError(
            f"Unsupported signature method_name: {name}; supported: {', '.join(_METHODS)}"
        )
    return _METHODS[name]


async def _run_task(
    data_plane: DataPlane, handle: ServableHandle, call: MultiInferenceCall, task: InferenceTask
) -> Classifications | Regressions:
    method = examples_method(task.method)
    single = ExamplesCall(call.model, call.examples, task.signature, call.deadline)
    prediction_call = replace(method.predict_call(single), api="MultiInference")
    return method.answer(await data_plane.predict(prediction_call, pinned=handle))


def _no_such_signature(name: str, served: str) -> ServiceError:
    return InvalidRequestError(f"No signature was found with the name: {name}. {served}")


# Which signatures fit.


def _check_classify_signature(spec: SignatureSpec) -> None:
    _check_one_input(spec)
    if len(spec.outputs) not in (1, 2):
        raise InvalidRequestError(
            f"Expected one or two output Tensors, found {len(spec.outputs)}. {_inventory(spec)}"
        )
    _check_input_name(spec, "classification")
    if not any(tensor.name in (_CLASSES, _SCORES) for tensor in spec.outputs):
        raise InvalidRequestError(
            "Expected classification signature outputs to contain at least one of "
            f'"{_CLASSES}" or "{_SCORES}". Signature was: {signature_def(spec)}'
        )


def _check_regress_signature(spec: SignatureSpec) -> None:
    _check_one_input(spec)
    if len(spec.outputs) != 1:
        raise InvalidRequestError(f"Expected one output Tensor. {_inventory(spec)}")
    _check_input_name(spec, "regression")
    if spec.outputs[0].name != _OUTPUTS:
        raise InvalidRequestError(
            f"No regression outputs found in SignatureDef: {signature_def(spec)}"
        )


def _check_one_input(spec: SignatureSpec) -> None:
    if len(spec.inputs) != 1:
        raise InvalidRequestError(f"Expected one input Tensor. {_inventory(spec)}")


def _check_input_name(spec: SignatureSpec, kind: str) -> None:
    if spec.inputs[0].name != _INPUTS:
        raise InvalidRequestError(f"No {kind} inputs found in SignatureDef: {signature_def(spec)}")


def _inventory(spec: SignatureSpec) -> str:
    inputs = ", ".join(tensor.name for tensor in spec.inputs)
    outputs = ", ".join(tensor.name for tensor in spec.outputs)
    return f"Signature {spec.name} has the inputs {inputs} and the outputs {outputs}"


# Which outputs fit.


def _check_classify_outputs(outputs: Tensors, examples: int) -> None:
    classes, scores = outputs.get(_CLASSES), outputs.get(_SCORES)
    if classes is not None:
        _check_column(_CLASSES, classes, np.dtype(object), "DT_STRING", examples)
    if scores is not None:
        _check_column(_SCORES, scores, np.dtype(np.float32), "DT_FLOAT", examples)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise InvalidRequestError(
            "Tensors class and score should match in dim_size(1). Got "
            f"{classes.shape[1]} vs. {scores.shape[1]}"
        )


def _check_column(
    name: str,
    array: np.ndarray[Any, Any],
    dtype: np.dtype[Any],
    dtype_text: str,
    examples: int,
) -> None:
    if array.ndim != 2:
        raise InvalidRequestError(
            "Expected Tensor shape: [batch_size num_classes] but got "
            f"{_shape_text(array)}; output {name}"
        )
    if array.dtype != dtype:
        raise InvalidRequestError(
            f"Expected {name} Tensor of {dtype_text}. Got: {_dtype_text(array)}"
        )
    if len(array) != examples:
        raise InvalidRequestError(
            f"Expected {name} output batch size of {examples}. Got: {len(array)}"
        )


def _check_regress_outputs(outputs: Tensors, examples: int) -> None:
    values = outputs[_OUTPUTS]
    if values.ndim != 1 and values.shape[1:] != (1,):
        raise InvalidRequestError(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_shape_text(values)}"
        )
    if len(values) != examples:
        raise InvalidRequestError(
            f"Input batch size did not match output batch size: {examples} vs. {len(values)}"
        )
    if values.dtype != np.float32:
        raise InvalidRequestError(f"Expected output Tensor of DT_FLOAT. Got: {_dtype_text(values)}")


def _shape_text(array: np.ndarray[Any, Any]) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"


def _dtype_text(array: np.ndarray[Any, Any]) -> str:
    return str(_DATA_TYPES[data_type(array.dtype)].name)


# Answers.


def _classifications(prediction: Prediction) -> Classifications:
    classes, scores = prediction.outputs.get(_CLASSES), prediction.outputs.get(_SCORES)
    shape = classes.shape if classes is not None else scores.shape if scores is not None else (0, 0)
    labels = _labels(classes) if classes is not None else [[""] * shape[1]] * shape[0]
    values = scores.tolist() if scores is not None else [[0.0] * shape[1]] * shape[0]
    results = [list(zip(*row, strict=True)) for row in zip(labels, values, strict=True)]
    return Classifications(prediction.id, prediction.signature, results, prediction.timing)


def _labels(classes: np.ndarray[Any, Any]) -> list[list[str]]:
    return [[_text(label) for label in row] for row in classes.tolist()]


def _text(label: bytes | str) -> str:
    return label if isinstance(label, str) else label.decode(errors="replace")


def _regressions(prediction: Prediction) -> Regressions:
    values = prediction.outputs[_OUTPUTS].ravel().tolist()
    return Regressions(prediction.id, prediction.signature, values, prediction.timing)


CLASSIFY = ExamplesMethod(
    "Classify", _check_classify_signature, _check_classify_outputs, _classifications
)
REGRESS = ExamplesMethod("Regress", _check_regress_signature, _check_regress_outputs, _regressions)

_METHODS = {CLASSIFY_METHOD: CLASSIFY, REGRESS_METHOD: REGRESS}
