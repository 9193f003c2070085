"""Host-side steps around an ONNX graph: what the SavedModel does in its own graph.

The embedded server, offline evaluation and local clients run the same steps: `prepare` turns the
inputs of a request into tensors of the graph, `merge` joins several requests into one run, `run`
calls the graph, and `finish` turns one request's rows of the results into domain values.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from protocol.contracts import SENTIMENT, SERVING_DEFAULT, SignatureSpec
from protocol.errors import ContractError, InvalidRequestError
from protocol.tokenizer import PADDING_ID, EncodedBatch, WordTokenizer

Array = npt.NDArray[Any]

Graph = Callable[[Mapping[str, Array], Sequence[str]], dict[str, Array]]
"""Computes the named outputs of a graph from its inputs."""

SHORTEST_BUCKET = 16


@dataclass(slots=True)
class Prepared:
    """One request, ready for the graph; nobody changes it.

    Attributes:
        tensors: inputs of the graph, by name; their first dimension counts rows.
        rows: number of rows, which is that of the results too.
        batch_key: requests with equal keys may be merged into one run.
        context: what `finish` needs to know of the request.
        is_plain: whether nothing but the graph knows what the tensors mean, so that a server may
            be told to pad them, or to run their rows apart.
        by_shape: whether another request with inputs of these names, dtypes and shapes would
            become the same but for its values: its tensors are its inputs.
    """

    tensors: dict[str, Array]
    rows: int
    batch_key: Hashable
    context: Any = None
    is_plain: bool = False
    by_shape: bool = False

    def with_tensors(self, tensors: dict[str, Array]) -> "Prepared":
        """Returns what a request `by_shape` becomes with other values."""
        return Prepared(tensors, self.rows, self.batch_key, None, self.is_plain, True)


class Pipeline(Protocol):
    """The steps around a graph that make up one signature."""

    @property
    def spec(self) -> SignatureSpec:
        """The signature that callers see."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs that `finish` needs."""

    @property
    def prepares_slowly(self) -> bool:
        """Whether even a small input may take long to prepare, as a packed image does."""

    def prepare(self, inputs: Mapping[str, Array]) -> Prepared:
        """Turns the inputs of a request, already checked against `spec`, into tensors.

        Raises:
            InvalidRequestError: the values, not their dtypes or ranks, are at fault.
        """

    def merge(self, items: Sequence[Prepared]) -> dict[str, Array]:
        """Joins requests of equal batch keys, one after the other, along the first dimension."""

    def run(self, graph: Graph, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Computes `outputs`, each with a row for each row of the merged `tensors`."""

    def finish(self, outputs: Mapping[str, Array], prepared: Prepared) -> dict[str, Array]:
        """Turns this request's rows of the graph's outputs into the outputs of `spec`."""


def answer_alone(pipeline: Pipeline, graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Prepares, runs and finishes one request by itself."""
    prepared = pipeline.prepare(inputs)
    outputs = pipeline.run(graph, pipeline.merge([prepared]))
    return pipeline.finish(outputs, prepared)


class TensorPipeline:
    """Passes tensors straight to a graph and back.

    Args:
        spec: the signature; its inputs and outputs bear the names of the graph's. An input that
            it declares a scalar is a parameter of the whole run.
    """

    prepares_slowly = False

    def __init__(self, spec: SignatureSpec) -> None:
        self.spec = spec
        self.outputs = tuple(tensor.name for tensor in spec.outputs)
        self._parameters = parameter_names(spec)

    def prepare(self, inputs: Mapping[str, Array]) -> Prepared:
        """Counts the rows; requests of the same trailing sizes and parameters share a run."""
        columns = {n: array for n, array in inputs.items() if n not in self._parameters}
        rows = common_rows(columns)
        sizes = tuple((name, array.shape[1:]) for name, array in sorted(columns.items()))
        batch_key = (sizes, parameter_values(inputs, self._parameters))
        return Prepared(
            tensors=dict(inputs),
            rows=rows,
            batch_key=batch_key,
            is_plain=True,
            by_shape=not self._parameters,
        )

    def merge(self, items: Sequence[Prepared]) -> dict[str, Array]:
        """Joins the rows of all requests; their parameters are equal."""
        return merge_rows(items, self._parameters)

    def run(self, graph: Graph, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Calls the graph."""
        return graph(tensors, self.outputs)

    def finish(self, outputs: Mapping[str, Array], prepared: Prepared) -> dict[str, Array]:
        """Returns the outputs as they are."""
        return dict(outputs)


class SentimentPipeline:
    """Text -> label and probability of each class.

    Args:
        tokenizer: turns text into the graph's `token_ids`, int32 [N, T].
        labels: names of the classes, in the order of the graph's `probability`, float32 [N, C].
    """

    spec = SENTIMENT.signature(SERVING_DEFAULT)
    outputs = ("probability",)
    prepares_slowly = False

    def __init__(self, tokenizer: WordTokenizer, labels: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.labels = np.array([label.encode() for label in labels], dtype=object)

    def prepare(self, inputs: Mapping[str, Array]) -> Prepared:
        """Tokenises; requests of similar length share a run, so that little is padding."""
        encoded = self.tokenizer.encode_batch(inputs["text"].tolist())
        rows, longest = encoded.token_ids.shape
        return Prepared(
            tensors={"token_ids": encoded.token_ids},
            rows=rows,
            batch_key=length_bucket(longest),
            context=encoded,
        )

    def merge(self, items: Sequence[Prepared]) -> dict[str, Array]:
        """Joins the rows, padded to the longest of them."""
        return {"token_ids": stack_padded([item.tensors["token_ids"] for item in items])}

    def run(self, graph: Graph, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Calls the graph."""
        return graph(tensors, self.outputs)

    def finish(self, outputs: Mapping[str, Array], prepared: Prepared) -> dict[str, Array]:
        """Names the most probable class of each text."""
        encoded: EncodedBatch = prepared.context
        probability = outputs["probability"]
        return {
            "label": self.labels[probability.argmax(axis=1)],
            "probability": probability,
            "tokens": encoded.tokens,
            "truncated": encoded.truncated,
        }


def parameter_names(spec: SignatureSpec) -> frozenset[str]:
    """Names the inputs that are scalars, which hold for all rows of a request."""
    return frozenset(
        tensor.name for tensor in spec.inputs if tensor.shape == () and not tensor.unknown_rank
    )


def parameter_values(inputs: Mapping[str, Array], names: frozenset[str]) -> Hashable:
    """Returns the parameters that a request sets, to be compared with another's."""
    return tuple((name, inputs[name].item()) for name in sorted(names & inputs.keys()))


def merge_rows(items: Sequence[Prepared], parameters: frozenset[str]) -> dict[str, Array]:
    """Joins the rows of requests whose parameters are equal."""
    first = items[0].tensors
    return {
        name: array
        if name in parameters
        else np.concatenate([item.tensors[name] for item in items])
        for name, array in first.items()
    }


def common_rows(inputs: Mapping[str, Array]) -> int:
    """Counts the rows that all inputs have in common, in TensorFlow Serving's words.

    Raises:
        InvalidRequestError: there is no input, one is a scalar, or their rows differ.
    """
    if not inputs:
        raise ContractError("Batching Run() must have at least one input tensor")
    if any(array.ndim == 0 for array in inputs.values()):
        raise InvalidRequestError("Batching Run() input tensors must have at least one dimension")
    rows = {len(array) for array in inputs.values()}
    if len(rows) > 1:
        raise InvalidRequestError("Batching Run() input tensors must have equal 0th-dimension size")
    return rows.pop()


def length_bucket(length: int) -> int:
    """Rounds up to a power of two."""
    return max(SHORTEST_BUCKET, 1 << (length - 1).bit_length())


def stack_padded(blocks: Sequence[npt.NDArray[np.int32]]) -> npt.NDArray[np.int32]:
    """Stacks blocks of token ids; (n_i, t_i) -> (sum of n_i, largest t_i)."""
    if len(blocks) == 1:
        return blocks[0]
    longest = max(block.shape[1] for block in blocks)
    stacked = np.full((sum(map(len, blocks)), longest), PADDING_ID, dtype=np.int32)
    start = 0
    for block in blocks:
        stacked[start : start + len(block), : block.shape[1]] = block
        start += len(block)
    return stacked
