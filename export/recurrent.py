"""Keras recurrent layers as single ONNX operators.

A converter that follows TensorFlow's while-loop turns a masked LSTM or a GRU into an ONNX Loop,
several times slower than the operator ONNX has for it. So the operator is written here, from the
layer's weights, with the texts' lengths in place of the mask.
"""

import keras
import numpy as np
import onnx
from onnx import TensorProto, helper

from export.onnx_graph import small_model


class RecurrentLayerError(ValueError):
    """The layer has a setting that the ONNX operator cannot express."""


def reader_model(layer: keras.layers.Bidirectional, embedding_units: int) -> onnx.ModelProto:
    """Writes a bidirectional LSTM or GRU as an ONNX model.

    Inputs: `token_ids` int32 [N, T], 0 is padding and only stands at the end, and `embeddings`
    float32 [N, T, E]. Output: `states` float32 [N, T, 2U], as the Keras layer's with a mask,
    except that states on padding are 0.

    Args:
        layer: built layer with `return_sequences` and concatenated directions.
        embedding_units: E.

    Raises:
        RecurrentLayerError: if the layer is of another kind, or has activations other than the
            defaults.
    """
    cells = (layer.forward_layer, layer.backward_layer)
    _check(layer, cells)
    operator, linear_before_reset = _operator(cells[0])
    units = cells[0].units
    tensors = {
        name: np.stack([part[name] for part in map(_weights, cells)])
        for name in ("weights", "recurrence", "bias")
    }
    tensors |= {
        "padding": np.array(0, np.int32),
        "one": np.array(1, np.int32),
        "time": np.array([1], np.int64),
        "joined": np.array([0, 0, 2 * units], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Equal", ["token_ids", "padding"], ["is_padding"]),
        node("Not", ["is_padding"], ["is_token"]),
        node("Cast", ["is_token"], ["ones"], to=TensorProto.INT32),
        node("ReduceSum", ["ones", "time"], ["lengths"], keepdims=0),
        # A text without tokens still needs one step; pooling ignores its state.
        node("Max", ["lengths", "one"], ["sequence_lens"]),
        node("Transpose", ["embeddings"], ["by_time"], perm=[1, 0, 2]),  # (T, N, E)
        node(
            operator,
            ["by_time", "weights", "recurrence", "bias", "sequence_lens"],
            ["directions"],  # (T, 2, N, U)
            direction="bidirectional",
            hidden_size=units,
            linear_before_reset=linear_before_reset,
        ),
        node("Transpose", ["directions"], ["by_text"], perm=[2, 0, 1, 3]),  # (N, T, 2, U)
        node("Reshape", ["by_text", "joined"], ["states"]),
    ]
    return small_model(
        "reader",
        nodes,
        {
            "token_ids": (TensorProto.INT32, ["N", "T"]),
            "embeddings": (TensorProto.FLOAT, ["N", "T", embedding_units]),
        },
        {"states": (TensorProto.FLOAT, ["N", "T", 2 * units])},
        tensors,
    )


def _check(
    layer: keras.layers.Bidirectional, cells: tuple[keras.layers.Layer, keras.layers.Layer]
) -> None:
    problems = []
    if layer.merge_mode != "concat":
        problems.append(f"merge_mode {layer.merge_mode!r}, expected 'concat'")
    for cell in cells:
        if not isinstance(cell, keras.layers.LSTM | keras.layers.GRU):
            problems.append(f"{type(cell).__name__}, expected LSTM or GRU")
            continue
        if not cell.return_sequences:
            problems.append("return_sequences is off")
        activations = (cell.activation.__name__, cell.recurrent_activation.__name__)
        if activations != ("tanh", "sigmoid"):
            problems.append(f"activations {activations}, expected ('tanh', 'sigmoid')")
        if not cell.use_bias:
            problems.append("use_bias is off")
    if problems:
        raise RecurrentLayerError(f"layer {layer.name}: {'; '.join(problems)}")


def _operator(cell: keras.layers.Layer) -> tuple[str, int | None]:
    """Returns the operator and its attribute `linear_before_reset`, which an LSTM does not have."""
    if isinstance(cell, keras.layers.LSTM):
        return "LSTM", None
    # Keras' `reset_after` applies the reset gate after the recurrent product, as this does.
    return "GRU", int(cell.reset_after)


def _weights(cell: keras.layers.Layer) -> dict[str, np.ndarray]:
    """Returns ONNX weights of one direction: [gates U, E], [gates U, U] and [2 gates U]."""
    kernel, recurrence, bias = (np.asarray(w, np.float32) for w in cell.get_weights())
    # LSTM in Keras: input, forget, cell, output; in ONNX: input, output, forget, cell.
    # GRU in both: update, reset, hidden.
    order = [0, 3, 1, 2] if isinstance(cell, keras.layers.LSTM) else [0, 1, 2]
    if bias.ndim == 1:  # one bias for input and state together
        bias = np.stack([bias, np.zeros_like(bias)])

    def reorder(matrix: np.ndarray) -> np.ndarray:
        gates = np.split(matrix, len(order), axis=-1)
        return np.concatenate([gates[i] for i in order], axis=-1)

    return {
        "weights": reorder(kernel).T,
        "recurrence": reorder(recurrence).T,
        "bias": reorder(bias).reshape(-1),
    }
