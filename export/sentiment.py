"""Export of the sentiment classifier: SavedModel, ONNX, assets and warm-up requests."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from export.onnx_graph import (
    Part,
    count_operators,
    from_tensorflow,
    guard_empty_input,
    join,
    keep_rows,
)
from export.parity import Parity, check_parity, largest_difference
from export.recurrent import reader_model
from export.saved_model import write_signatures
from models.common.backends import Backend
from models.common.run_folder import RunFolder
from models.sentiment.config import TINY
from models.sentiment.data import Example
from models.sentiment.evaluate import BATCH_SIZE, load_examples_to_evaluate
from models.sentiment.metrics import compute_metrics
from models.sentiment.signature import SentimentModel, load_model, make_module
from models.sentiment.synthetic import make_examples, make_source
from models.sentiment.train import train
from protocol.contracts import SENTIMENT
from protocol.messages import ModelSpec, PredictRequest
from protocol.tensors import to_tensor_proto

TOLERANCE = {"saved_model": 1e-4, "onnx": 1e-4}
METRIC_TOLERANCE = 0.002

SAMPLE_TEXTS = (
    "A wonderful little film .",
    "I don't think I have ever been so bored.<br /><br />Avoid!",
    "Caf\u00e9 society \u2014 \u201cnot bad\u201d, but it isn\u2019t great either\u2026",
    "",
    "\u8fd9\u90e8\u7535\u5f71\u5f88\u597d",
    "It starts slowly and the first hour drags, but then the last act pays for it. " * 60,
)


def model_to_export(run: Path | None, scratch: Path) -> SentimentModel:
    """Loads a run, else a TINY model trained here on made-up reviews.

    Args:
        run: run folder, or None.
        scratch: empty folder for the TINY run; must outlive the model.
    """
    if run is None:
        train(TINY, [make_source()], RunFolder(scratch))
    return load_model(run or scratch)


def sample_examples() -> list[Example]:
    """Returns odd texts and made-up reviews, to compare engines on where no dataset is given."""
    return [*(Example(text, 0) for text in SAMPLE_TEXTS), *make_examples(120, seed=11)]


def load_examples(data: Path, model: SentimentModel) -> list[Example]:
    """Reads the test or dev texts of a data folder."""
    fraction = model.config.training.dev_fraction
    _, examples = load_examples_to_evaluate(data, model.labels, None, fraction)
    return examples


def write_saved_model(model: SentimentModel, folder: Path) -> None:
    """Writes `saved_model.pb`, variables and assets to `folder`."""
    write_signatures(make_module(model), SENTIMENT, folder)


def write_onnx(model: SentimentModel, path: Path) -> None:
    """Writes the network as ONNX: `token_ids` int32 [N, T] -> `probability` float32 [N, C].

    Raises:
        ValueError: if the recurrent layer did not stay one operator.
    """
    graph = onnx_model(model)
    operator = model.config.network.recurrent.upper()
    if count_operators(graph, operator) != 1 or count_operators(graph, "Loop"):
        raise ValueError(f"expected one {operator} and no Loop in the ONNX graph")
    onnx.save(graph, path)


def onnx_model(model: SentimentModel) -> onnx.ModelProto:
    """Builds the ONNX model: embeddings, one recurrent operator, pooling and classifier."""
    import tensorflow as tf

    network, config = model.network, model.config.network
    token_ids = {"token_ids": tf.TensorSpec([None, None], tf.int32)}
    states = {"states": tf.TensorSpec([None, None, 2 * config.recurrent_units], tf.float32)}
    embed = from_tensorflow(
        lambda token_ids: network.embed(token_ids, training=False), token_ids, ["embeddings"]
    )
    classify = from_tensorflow(
        lambda token_ids, states: tf.nn.softmax(
            network.classify([token_ids, states], training=False)["logits"]
        ),
        token_ids | states,
        ["probability"],
    )
    reader = reader_model(network.recurrent, config.embedding_units)
    guarded = {"guarded_ids": "guarded_ids", "rows": "rows"}
    ids, vectors, context = (
        {"token_ids": "guarded_ids"},
        {"embeddings": "embeddings"},
        {"states": "states"},
    )
    all_rows, classes = {"probability": "all_rows"}, len(model.labels)
    return join(
        [
            Part("guard", guard_empty_input(), {"token_ids": "token_ids"}, guarded),
            Part("embed", embed, ids, vectors),
            Part("reader", reader, ids | vectors, context),
            Part("classify", classify, ids | context, all_rows),
            Part(
                "keep_rows",
                keep_rows(classes),
                {"all_rows": "all_rows", "rows": "rows"},
                {"kept": "probability"},
            ),
        ],
        {"token_ids": (TensorProto.INT32, ["N", "T"])},
        {"probability": (TensorProto.FLOAT, ["N", classes])},
        name="sentiment",
    )


def write_assets(model: SentimentModel, folder: Path) -> None:
    """Copies the tokenizer and the vocabulary, for engines that tokenise outside the graph."""
    shutil.copytree(model.run.assets, folder, dirs_exist_ok=True)


def warmup_requests(model_name: str) -> list[PredictRequest]:
    """Returns requests of several lengths and batch sizes, so that no caller is the first."""
    batches: Sequence[Sequence[str]] = (
        SAMPLE_TEXTS[:1],
        SAMPLE_TEXTS[1:2],
        SAMPLE_TEXTS,
        SAMPLE_TEXTS[-1:],
        [SAMPLE_TEXTS[0]] * 8,
    )
    requests = []
    for texts in batches:
        spec = ModelSpec(name=model_name, signature_name="serving_default")
        request = PredictRequest(model_spec=spec)
        values = np.array([text.encode() for text in texts], dtype=object)
        request.inputs["text"].CopyFrom(to_tensor_proto(values))
        requests.append(request)
    return requests


def compare(
    model: SentimentModel, backend: Backend, engine: str, examples: Sequence[Example]
) -> Parity:
    """Runs an engine and Keras on the same texts.

    Raises:
        ParityError: if they differ by more than `TOLERANCE` or `METRIC_TOLERANCE`.
    """
    examples = sorted(examples, key=lambda example: len(example.text))  # little padding
    worst = 0.0
    of_keras, of_engine = [], []
    for start in range(0, len(examples), BATCH_SIZE):
        batch = [example.text.encode() for example in examples[start : start + BATCH_SIZE]]
        inputs = {"text": np.array(batch, dtype=object)}
        expected, found = model.run_signature(inputs), backend.run_signature(inputs)
        worst = max(worst, largest_difference(expected, found, engine))
        of_keras.append(expected["probability"])
        of_engine.append(found["probability"])
    parity = Parity(
        engine=engine,
        examples=len(examples),
        max_difference=worst,
        metric="accuracy",
        metric_keras=accuracy(examples, np.concatenate(of_keras)),
        metric_engine=accuracy(examples, np.concatenate(of_engine)),
    )
    check_parity(parity, TOLERANCE[engine], METRIC_TOLERANCE)
    return parity


def accuracy(examples: Sequence[Example], probabilities: np.ndarray) -> float:
    """Returns the share of texts whose most probable class, of float32 [N, C], is right."""
    truth = np.array([example.class_id for example in examples])
    return compute_metrics(truth, probabilities).accuracy


def pipeline_parameters(model: SentimentModel) -> Mapping[str, Any]:
    """Returns the temperatures, which are in the graph already, for the record."""
    return {"temperatures": model.details["temperatures"]}
