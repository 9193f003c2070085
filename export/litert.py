"""LiteRT files, float32 and int8, from the modules of `litert_modules`."""

import contextlib
import io
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.formats import FormatError
from export.int8_static import FEWEST_CHANNELS
from export.saved_model import one_handle_for_each_variable

QUANTIZED = ("CONV_2D", "MAX_POOL_2D", "TRANSPOSE_CONV")
"""Operators that compute in eight bits, but the last convolutions; all others stay float32."""


def write_litert(module: Any, path: Path) -> None:
    """Writes a float32 file.

    Args:
        module: a `SignatureModule`.
        path: where to.

    Raises:
        FormatError: LiteRT's own operators are not enough.
    """
    with _converter(module) as converter:
        path.write_bytes(_converted(converter))


def write_litert_dynamic(module: Any, path: Path) -> None:
    """Writes it with int8 weights; what they are multiplied with is rounded as it comes.

    Raises:
        FormatError: LiteRT's own operators are not enough.
    """
    import tensorflow as tf

    with _converter(module) as converter:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        path.write_bytes(_converted(converter))


def write_litert_int8(
    module: Any,
    path: Path,
    images: Sequence[np.ndarray],
    options: Mapping[str, np.ndarray],
) -> None:
    """Writes it with int8 convolutions, weights by channel.

    Args:
        module: a `SignatureModule` that takes an image.
        path: where to.
        images: to measure activations on, uint8 [H, W, 3].
        options: further inputs of the signature.

    Raises:
        FormatError: LiteRT's own operators are not enough, or there is no image.
    """
    import tensorflow as tf
    from tensorflow.lite.python import convert

    if not images:
        raise FormatError("there are no images to calibrate on")
    with _converter(module) as converter:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            (module.signature, {"image": image[None], **options}) for image in images
        )
        converter._experimental_calibrate_only = True
        calibrated = _converted(converter)
    kept, last = float_operators(calibrated)
    path.write_bytes(convert.mlir_quantize(calibrated, denylisted_ops=kept, denylisted_nodes=last))


def float_operators(file: bytes) -> tuple[list[str], list[str]]:
    """Tells what of a file stays float32.

    Returns:
        The operators that are not in `QUANTIZED`, and the output tensors of the last convolutions.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    names = {number: name for name, number in vars(schema.BuiltinOperator).items()}
    model = schema.ModelT.InitFromPackedBuf(file, 0)
    codes = [names[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in model.operatorCodes]
    last = []
    for graph in model.subgraphs:
        for operator in graph.operators:
            if codes[operator.opcodeIndex] != "CONV_2D":
                continue
            kernel = graph.tensors[operator.inputs[1]]  # (out, height, width, in)
            if kernel.shape[0] < FEWEST_CHANNELS:
                last.append(graph.tensors[operator.outputs[0]].name.decode())
    return sorted(set(codes) - set(QUANTIZED)), last


@contextlib.contextmanager
def _converter(module: Any) -> Iterator[Any]:
    """Yields the converter of a module, which is saved for as long as that takes."""
    import tensorflow as tf

    name = module.signature
    with tempfile.TemporaryDirectory() as folder:
        with one_handle_for_each_variable():
            tf.saved_model.save(module, folder, signatures={name: getattr(module, name)})
        yield tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[name])


def _converted(converter: Any) -> bytes:
    """Runs the converter.

    Raises:
        FormatError: it would need operators of TensorFlow's, which the interpreter does not have.
    """
    from tensorflow.lite.python.convert import ConverterError

    try:
        # The calibration warns of TensorFlow's own interpreter, which it uses.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            file: bytes = converter.convert()
    except ConverterError as error:
        lines = [line for line in str(error).splitlines() if "ops:" in line]
        named = "; ".join(dict.fromkeys(lines)) or "the converter does not say which"
        raise FormatError(f"LiteRT lacks operators that the graph needs ({named})") from error
    return file
