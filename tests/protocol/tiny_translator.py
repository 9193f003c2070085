"""A translator that costs next to nothing to run, as two ONNX graphs and in numpy.

What it writes depends on the whole source, on all that a hypothesis wrote before, and on nothing
that was learned. Each token attends to the source's tokens of like id.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from protocol.contracts import TRANSLATION
from protocol.subwords import END_ID, FIRST_PIECE_ID, PADDING_ID, WORD_START, SubwordTokenizer
from protocol.version_folder import ASSETS_FOLDER, ONNX_FILE, ONNX_STEP_FILE, Manifest

PIECES = (WORD_START, *"abcdefgh", WORD_START + "a", "bc")
SIZE = FIRST_PIECE_ID + len(PIECES)
MAX_TOKENS = 24
PIPELINE = {
    "vocabulary_size": SIZE,
    "beam_width": 3,
    "max_length": 20,
    "length_penalty": 0.6,
    "length_factor": 1.5,
    "length_allowance": 2,
    "state": {"seen": [0]},
}

Array = np.ndarray[Any, Any]


def make_tokenizer() -> SubwordTokenizer:
    return SubwordTokenizer(PIECES, {"\n": " ", "\t": " "}, MAX_TOKENS)


def publish_tiny_translator(folder: Path) -> None:
    """Writes a version folder."""
    make_tokenizer().save(folder / ASSETS_FOLDER)
    (folder / ONNX_FILE).write_bytes(encoder_graph())
    (folder / ONNX_STEP_FILE).write_bytes(step_graph())
    Manifest(
        task=TRANSLATION.task,
        model_name=TRANSLATION.task,
        created="2025-01-01T00:00:00+00:00",
        signatures=TRANSLATION.signatures,
        pipeline=PIPELINE,
    ).write(folder)


def tables() -> dict[str, Array]:
    """Returns what a source token, and a token written before, adds to the logits."""
    random = np.random.default_rng(7)
    source, past = random.normal(0, 0.8, (2, SIZE, SIZE)).astype(np.float32)
    source[PADDING_ID] = 0
    past[:, END_ID] += 0.25
    never = np.zeros(SIZE, np.float32)
    never[:END_ID] = -1e9
    return {"source_table": source, "past_table": past, "never": never}


# In numpy.


class NumpyTranslator:
    """Both graphs as a `Graph`; counts how often each was asked, and for how many rows."""

    def __init__(self) -> None:
        self.tables = tables()
        self.encoded: list[int] = []
        self.steps: list[int] = []

    def __call__(self, tensors: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        if tuple(outputs) == ("memory_*",):
            self.encoded.append(len(tensors["token_ids"]))
            return self.encode(**tensors)
        self.steps.append(len(tensors["token_ids"]))
        found = self.step(**tensors)
        return {name: found[name] for name in outputs}

    def encode(self, token_ids: Array) -> dict[str, Array]:
        wishes = self.tables["source_table"][token_ids].sum(axis=1)
        return {"memory_ids": token_ids.astype(np.float32), "memory_wishes": wishes}

    def step(
        self,
        token_ids: Array,
        parents: Array,
        position: Array,
        alive: Array,
        memory_ids: Array,
        memory_wishes: Array,
        state_seen: Array,
    ) -> dict[str, Array]:
        rows, width = alive.shape
        assert state_seen.shape == (rows * width, position)
        seen = np.concatenate([state_seen[parents], token_ids[:, None]], axis=1)
        past = self.tables["past_table"][seen.astype(int)].sum(axis=1).reshape(rows, width, -1)
        logits = past + memory_wishes[:, None] + self.tables["never"]
        log_probability = np.log(np.maximum(softmax(logits), 1e-30))
        total = (alive[..., None] + log_probability).reshape(rows, -1)
        places = np.argsort(-total, axis=1, kind="stable")[:, : 2 * width]
        last = token_ids.reshape(rows, width, 1)
        hidden = np.where(memory_ids == PADDING_ID, -1e4, 0.0)[:, None]
        return {
            "scores": np.take_along_axis(total, places, axis=1).astype(np.float32),
            "continuations": places.astype(np.int32),
            "attention": softmax(hidden - np.abs(memory_ids[:, None] - last)).astype(np.float32),
            "next_seen": seen.astype(np.float32),
        }


def softmax(values: Array) -> Array:
    powers: Array = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


# In ONNX.


def encoder_graph() -> bytes:
    """Builds token_ids -> memory_ids [N, S], memory_wishes [N, V]."""
    return _serialized(
        [
            helper.make_node("Cast", ["token_ids"], ["memory_ids"], to=TensorProto.FLOAT),
            helper.make_node("Gather", ["source_table", "token_ids"], ["wishes"]),
            helper.make_node("ReduceSum", ["wishes", "one"], ["memory_wishes"], keepdims=0),
        ],
        {"one": np.array([1]), "source_table": tables()["source_table"]},
        {"token_ids": (TensorProto.INT32, ["N", "S"])},
        {
            "memory_ids": (TensorProto.FLOAT, ["N", "S"]),
            "memory_wishes": (TensorProto.FLOAT, ["N", SIZE]),
        },
    )


def step_graph() -> bytes:
    """Builds one step; see `models.translation` for what it takes and gives."""
    return _serialized(
        [
            helper.make_node("Gather", ["state_seen", "parents"], ["past_seen"]),
            helper.make_node("Cast", ["token_ids"], ["last"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["last", "one"], ["last_column"]),
            helper.make_node("Concat", ["past_seen", "last_column"], ["next_seen"], axis=1),
            helper.make_node("Cast", ["next_seen"], ["seen_ids"], to=TensorProto.INT64),
            helper.make_node("Gather", ["past_table", "seen_ids"], ["past_wishes"]),
            helper.make_node("ReduceSum", ["past_wishes", "one"], ["past"], keepdims=0),
            helper.make_node("Shape", ["alive"], ["rows_width"]),
            helper.make_node("Concat", ["rows_width", "rest"], ["by_row"], axis=0),
            helper.make_node("Reshape", ["past", "by_row"], ["past_by_row"]),
            helper.make_node("Unsqueeze", ["memory_wishes", "one"], ["wishes_by_row"]),
            helper.make_node("Sum", ["past_by_row", "wishes_by_row", "never"], ["logits"]),
            helper.make_node("LogSoftmax", ["logits"], ["log_probability"], axis=-1),
            helper.make_node("Unsqueeze", ["alive", "two"], ["alive_column"]),
            helper.make_node("Add", ["alive_column", "log_probability"], ["total"]),
            helper.make_node("Flatten", ["total"], ["flat_total"], axis=1),
            helper.make_node("Gather", ["rows_width", "one"], ["width"]),
            helper.make_node("Mul", ["width", "two"], ["count"]),
            helper.make_node("TopK", ["flat_total", "count"], ["scores", "places"]),
            helper.make_node("Cast", ["places"], ["continuations"], to=TensorProto.INT32),
            helper.make_node("Reshape", ["last", "by_row"], ["last_by_row"]),
            helper.make_node("Unsqueeze", ["memory_ids", "one"], ["ids_by_row"]),
            helper.make_node("Sub", ["ids_by_row", "last_by_row"], ["difference"]),
            helper.make_node("Abs", ["difference"], ["distance"]),
            helper.make_node("Equal", ["ids_by_row", "zero"], ["is_padding"]),
            helper.make_node("Where", ["is_padding", "far", "distance"], ["seen_distance"]),
            helper.make_node("Neg", ["seen_distance"], ["energies"]),
            helper.make_node("Softmax", ["energies"], ["attention"], axis=-1),
        ],
        {
            "one": np.array([1]),
            "two": np.array([2]),
            "rest": np.array([-1]),
            "zero": np.array(0, np.float32),
            "far": np.array(1e4, np.float32),
            "past_table": tables()["past_table"],
            "never": tables()["never"],
        },
        {
            "token_ids": (TensorProto.INT32, ["R"]),
            "parents": (TensorProto.INT32, ["R"]),
            "position": (TensorProto.INT32, []),
            "alive": (TensorProto.FLOAT, ["N", "B"]),
            "memory_ids": (TensorProto.FLOAT, ["N", "S"]),
            "memory_wishes": (TensorProto.FLOAT, ["N", SIZE]),
            "state_seen": (TensorProto.FLOAT, ["R", "T"]),
        },
        {
            "scores": (TensorProto.FLOAT, ["N", "C"]),
            "continuations": (TensorProto.INT32, ["N", "C"]),
            "attention": (TensorProto.FLOAT, ["N", "B", "S"]),
            "next_seen": (TensorProto.FLOAT, ["R", "T_next"]),
        },
    )


def _serialized(
    nodes: Sequence[Any],
    constants: Mapping[str, Array],
    inputs: Mapping[str, tuple[int, list[Any]]],
    outputs: Mapping[str, tuple[int, list[Any]]],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny_translator",
        *(
            [helper.make_tensor_value_info(name, *described) for name, described in each.items()]
            for each in (inputs, outputs)
        ),
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    serialized: bytes = model.SerializeToString()
    return serialized
