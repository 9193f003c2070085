"""The served signatures: raw text in, labels and calibrated probabilities out.

`SentimentModel` answers them from Keras in Python; `make_module` is the same as a `tf.Module`
whose functions become the SavedModel's signatures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.common.config import load_config
from models.common.run_folder import RunFolder
from models.common.weights import load_float16
from models.sentiment.calibration import softmax
from models.sentiment.config import SentimentConfig
from models.sentiment.network import SentimentNetwork, build_network
from models.sentiment.tokenizer import make_graph_tokenizer
from models.sentiment.train import predict_logits
from protocol.tokenizer import WordTokenizer

VOCABULARY_FILE = "vocabulary.txt"


@dataclass(frozen=True)
class SentimentModel:
    """A trained classifier with all that answering needs.

    Attributes:
        run: the folder it came from.
        details: what `run.json` says: data digests and dev metrics.
    """

    config: SentimentConfig
    network: SentimentNetwork
    tokenizer: WordTokenizer
    run: RunFolder
    details: Mapping[str, Any]

    @property
    def labels(self) -> Sequence[str]:
        """The names of the classes, in the order of the probabilities."""
        return self.config.labels

    def run_signature(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers `serving_default`.

        Args:
            inputs: `text`: object array of bytes or str, [N].

        Returns:
            `label` object [N], `probability` float32 [N, C], `tokens` int32 [N], `truncated`
            bool [N].
        """
        encoded = [self.tokenizer.encode(text) for text in inputs["text"]]
        ids = [np.asarray(e.ids or [0], np.int32) for e in encoded]
        probabilities = softmax(predict_logits(self.network.model, ids)[0])
        labels = np.array([label.encode() for label in self.labels], dtype=object)
        return {
            "label": labels[probabilities.argmax(axis=1)],
            "probability": probabilities.astype(np.float32),
            "tokens": np.array([e.tokens for e in encoded], np.int32),
            "truncated": np.array([e.truncated for e in encoded], bool),
        }


def load_model(folder: Path) -> SentimentModel:
    """Loads a run, or the shipped weights.

    Raises:
        FileNotFoundError: if the folder holds no finished run.
    """
    run = RunFolder(folder)
    details = run.read_details()
    config = load_config(SentimentConfig, run.config)
    network = build_network(config.network, config.tokenizer.vocabulary_size, len(config.labels))
    if run.float16_weights.is_file():
        load_float16(network.model, run.float16_weights)
    else:
        network.model.load_weights(run.best_weights)
    tokenizer = WordTokenizer.from_folder(run.assets)
    return SentimentModel(config, network, tokenizer, run, details)


def make_module(model: SentimentModel) -> Any:
    """Returns a `tf.Module` with the functions `serving_default` and `tensors`.

    Tokenisation, network, calibration and label lookup are all in the graph, with stock ops.
    """
    import tensorflow as tf

    class SentimentModule(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokenizer = make_graph_tokenizer(
                model.tokenizer, model.run.assets / VOCABULARY_FILE
            )
            self.network = model.network.model
            self.labels = tf.constant(list(model.labels))

        def probability(self, token_ids: tf.Tensor) -> tf.Tensor:
            logits = self.network(token_ids, training=False)["logits"]
            return tf.nn.softmax(logits)  # (N, C)

        @tf.function(
            autograph=False, input_signature=[tf.TensorSpec([None], tf.string, name="text")]
        )
        def serving_default(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
            token_ids, tokens, truncated = self.tokenizer(text)
            probability = self.probability(token_ids)
            label = tf.gather(self.labels, tf.argmax(probability, axis=1))
            return {
                "label": label,
                "probability": probability,
                "tokens": tokens,
                "truncated": truncated,
            }

        @tf.function(
            autograph=False,
            input_signature=[tf.TensorSpec([None, None], tf.int32, name="token_ids")],
        )
        def tensors(self, token_ids: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"probability": self.probability(token_ids)}

    return SentimentModule()
