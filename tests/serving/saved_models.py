"""SavedModels as TensorFlow 1 wrote them."""

from pathlib import Path
from typing import Any

import tensorflow as tf

v1 = tf.compat.v1

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
PREDICT = "tensorflow/serving/predict"


def write_half_plus_two(folder: Path) -> Path:
    """y = x / 2 + 2, by tensor and by tf.Example with the feature x, and many unfit signatures."""
    with tf.Graph().as_default(), v1.Session() as session:
        half = v1.get_variable("half", initializer=0.5)
        offset = v1.get_variable("offset", initializer=2.0)
        examples = v1.placeholder(tf.string, [None], name="tf_example")
        features = {
            "x": tf.io.FixedLenFeature([1], tf.float32),
            "x2": tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0]),
        }
        parsed = tf.io.parse_example(examples, features)
        x = tf.identity(parsed["x"], name="x")
        y = tf.identity(half * x + offset, name="y")
        y3 = tf.identity(half * x + 3.0, name="y3")
        both = tf.concat([y, y3], axis=1)
        classes = tf.strings.join(["c", tf.strings.as_string(tf.cast(both, tf.int32))])
        session.run(v1.global_variables_initializer())
        signatures = {
            "serving_default": _signature({"x": x}, {"y": y}, PREDICT),
            "regress": _signature({"inputs": examples}, {"outputs": y}, REGRESS),
            "regress_flat": _signature({"inputs": examples}, {"outputs": y[:, 0]}, REGRESS),
            "classify": _signature({"inputs": examples}, {"scores": both}, CLASSIFY),
            "classify_names": _signature({"inputs": examples}, {"classes": classes}, CLASSIFY),
            "classify_both": _signature(
                {"inputs": examples}, {"classes": classes, "scores": both}, CLASSIFY
            ),
            **_unfit(examples, x, y, both, classes),
        }
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=signatures)
        builder.save()
    return folder


def _unfit(examples: Any, x: Any, y: Any, both: Any, classes: Any) -> dict[str, Any]:
    inputs = {"inputs": examples}
    one = {"outputs": y}
    return {
        "two_inputs": _signature({**inputs, "x": x}, one, PREDICT),
        "three_outputs": _signature(inputs, {"a": y, "b": both, "scores": both}, PREDICT),
        "other_input": _signature({"examples": examples}, one, PREDICT),
        "other_input_scores": _signature({"examples": examples}, {"scores": both}, PREDICT),
        "other_output": _signature(inputs, {"y": y}, PREDICT),
        "wide": _signature(inputs, {"outputs": both}, PREDICT),
        "whole": _signature(inputs, {"outputs": tf.cast(y, tf.int32)}, PREDICT),
        "short": _signature(inputs, {"outputs": y[:1]}, PREDICT),
        "flat_scores": _signature(inputs, {"scores": both[:, 0]}, PREDICT),
        "whole_scores": _signature(inputs, {"scores": tf.cast(both, tf.int32)}, PREDICT),
        "number_classes": _signature(inputs, {"classes": both}, PREDICT),
        "short_scores": _signature(inputs, {"scores": both[:1]}, PREDICT),
        "uneven": _signature(inputs, {"classes": classes, "scores": y}, PREDICT),
    }


def write_vocabulary(folder: Path) -> Path:
    """id = number of a word in an asset file, -1 for others; from 100 on under the tag `long`."""
    words = folder.parent / "words.txt"
    folder.parent.mkdir(parents=True, exist_ok=True)
    words.write_text("good\nbad\n")
    builder = v1.saved_model.Builder(str(folder))
    with tf.Graph().as_default(), v1.Session() as session:
        tensors = _vocabulary(words, first=0)
        session.run([v1.tables_initializer(), v1.global_variables_initializer()])
        builder.add_meta_graph_and_variables(session, ["serve"], **_with_assets(*tensors))
    with tf.Graph().as_default():
        builder.add_meta_graph(["serve", "long"], **_with_assets(*_vocabulary(words, first=100)))
    builder.save()
    words.unlink()
    return folder


def _vocabulary(words: Path, first: int) -> tuple[Any, Any]:
    asset = tf.constant(str(words), name="words")
    v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, asset)
    lines = tf.lookup.TextFileInitializer(
        asset,
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    table = tf.lookup.StaticHashTable(lines, -1)
    zero = v1.get_variable("zero", initializer=tf.constant(0, tf.int64))
    word = v1.placeholder(tf.string, [None], name="word")
    return word, table.lookup(word) + zero + first


def _with_assets(word: Any, number: Any) -> dict[str, Any]:
    return {
        "signature_def_map": {
            "serving_default": _signature({"word": word}, {"id": number}, PREDICT)
        },
        "assets_collection": v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
        "main_op": v1.tables_initializer(),
    }


def _signature(inputs: dict[str, Any], outputs: dict[str, Any], method: str) -> Any:
    def infos(tensors: dict[str, Any]) -> dict[str, Any]:
        return {name: v1.saved_model.build_tensor_info(t) for name, t in tensors.items()}

    return v1.saved_model.build_signature_def(infos(inputs), infos(outputs), method)
