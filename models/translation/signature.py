"""The served signatures: text in, its translation and alternatives out.

`TranslationModel` answers from Keras in Python; `make_module` is the same as a `tf.Module` whose
functions become the SavedModel's signatures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.common.config import load_config
from models.common.run_folder import RunFolder
from models.common.training import set_precision
from models.common.weights import load_float16
from models.translation.config import TranslationConfig
from models.translation.network import build_network
from models.translation.predict import Hypotheses, Searcher
from protocol.subwords import END_ID, SubwordTokenizer
from protocol.translation_pipeline import MAX_BEAM_WIDTH, require_range


@dataclass(frozen=True)
class TranslationModel:
    """A trained translator with all that answering needs.

    Attributes:
        network: a `Translator`.
        run: the folder it came from.
        details: what `run.json` says: data digests and dev metrics.
    """

    config: TranslationConfig
    network: keras.Model
    tokenizer: SubwordTokenizer
    run: RunFolder
    details: Mapping[str, Any]
    _searchers: dict[tuple[int, int], Searcher] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def defaults(self) -> dict[str, np.int32]:
        """How is searched where a request does not say; 0 alternatives are as many as there are."""
        decoding = self.config.decoding
        return {
            "beam_width": np.int32(decoding.beam_width),
            "max_length": np.int32(decoding.max_length),
            "alternatives": np.int32(0),
        }

    def run_signature(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers `serving_default`.

        Args:
            inputs: `text`: object array of bytes or str, [N]; optionally `beam_width`,
                `max_length` and `alternatives`, int32 scalars.

        Returns:
            `translation` object [N], `score` float32 [N], `alternatives` object [N, K],
            `alternative_scores` float32 [N, K], `truncated` bool [N].

        Raises:
            InvalidRequestError: a scalar is out of its range.
        """
        search = {name: int(inputs.get(name, value)) for name, value in self.defaults.items()}
        require_range("beam_width", search["beam_width"], 1, MAX_BEAM_WIDTH)
        require_range("max_length", search["max_length"], 1, self.config.decoding.max_length)
        require_range("alternatives", search["alternatives"], 0, search["beam_width"])
        encoded = [self.tokenizer.encode(text) for text in inputs["text"]]
        found = self.translate([each.ids for each in encoded], **search)
        texts = [[self.tokenizer.decode(ids).encode() for ids in row.token_ids] for row in found]
        kept = search["alternatives"] or search["beam_width"]
        alternatives = np.array(texts, dtype=object).reshape(len(found), kept)
        scores = np.array([row.scores for row in found], np.float32).reshape(len(found), kept)
        return {
            "translation": alternatives[:, 0],
            "score": scores[:, 0],
            "alternatives": alternatives,
            "alternative_scores": scores,
            "truncated": np.array([each.truncated for each in encoded], bool),
        }

    def translate(
        self,
        sources: Sequence[Sequence[int]],
        beam_width: int,
        max_length: int,
        alternatives: int = 0,
    ) -> list[Hypotheses]:
        """Searches for the translations of token ids that end with END.

        A source without tokens is not searched for: all its translations are empty.
        """
        kept = alternatives or beam_width
        answers = [Hypotheses([[]] * kept, [0.0] * kept)] * len(sources)
        rows = [row for row, ids in enumerate(sources) if list(ids) != [END_ID]]
        found = self._searcher(beam_width, max_length)([sources[row] for row in rows])
        for row, best in zip(rows, found, strict=True):
            answers[row] = Hypotheses(best.token_ids[:kept], best.scores[:kept])
        return answers

    def _searcher(self, beam_width: int, max_length: int) -> Searcher:
        key = beam_width, max_length
        if key not in self._searchers:
            decoding = replace(self.config.decoding, max_length=max_length)
            self._searchers[key] = Searcher(self.network, decoding, beam_width)
        return self._searchers[key]


def load_model(folder: Path) -> TranslationModel:
    """Loads a run, or shipped weights, to compute in full precision.

    Raises:
        FileNotFoundError: if the folder holds no finished run.
    """
    run = RunFolder(folder)
    details = run.read_details()
    config = load_config(TranslationConfig, run.config)
    tokenizer = SubwordTokenizer.from_folder(run.assets)
    set_precision("float32")
    network = build_network(config, tokenizer.vocabulary_size)
    if run.float16_weights.is_file():
        load_float16(network, run.float16_weights)
    else:
        network.load_weights(run.best_weights)
    return TranslationModel(config, network, tokenizer, run, details)


def make_module(model: TranslationModel) -> Any:
    """Returns a `tf.Module` with the functions `serving_default`, `attention` and `tensors`.

    Tokenisation, the whole search and the joining of tokens are in the graph, with stock ops.
    """
    import tensorflow as tf

    from models.translation.graph_search import GraphSearch, require_range, without_padding
    from models.translation.tokenizer import make_graph_tokenizer

    text = tf.TensorSpec([None], tf.string, name="text")
    ids = tf.TensorSpec([None, None], tf.int32, name="token_ids")
    scalars = [tf.TensorSpec([], tf.int32, name=name) for name in model.defaults]

    class TranslationModule(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokenizer = make_graph_tokenizer(model.tokenizer)
            self.search = GraphSearch(model.network, model.config.decoding)

        @tf.function(autograph=False, input_signature=[text, *scalars])
        def serving_default(self, text: tf.Tensor, *asked: tf.Tensor) -> dict[str, tf.Tensor]:
            source_ids, _, truncated = self.tokenizer.encode(text)
            found, scores = self.search(source_ids, named(*asked))
            texts = self.tokenizer.decode(found)  # (N, K)
            return {
                "translation": texts[:, 0],
                "score": scores[:, 0],
                "alternatives": texts,
                "alternative_scores": scores,
                "truncated": truncated,
            }

        @tf.function(autograph=False, input_signature=[text, *scalars[:2]])
        def attention(self, text: tf.Tensor, *asked: tf.Tensor) -> dict[str, tf.Tensor]:
            source_ids, _, truncated = self.tokenizer.encode(text)
            found, scores = self.search(source_ids, named(*asked, tf.constant(1)))
            targets, weights = self.search.read(source_ids, found[:, 0])
            return {
                "translation": self.tokenizer.decode(found[:, 0]),
                "score": scores[:, 0],
                "attention": weights,
                "source_tokens": self.tokenizer.pieces(source_ids),
                "target_tokens": self.tokenizer.pieces(targets),
                "truncated": truncated,
            }

        @tf.function(autograph=False, input_signature=[ids, *scalars])
        def tensors(self, token_ids: tf.Tensor, *asked: tf.Tensor) -> dict[str, tf.Tensor]:
            last, most = model.tokenizer.vocabulary_size - 1, model.tokenizer.max_tokens
            source_ids = without_padding(require_range("token_ids", token_ids, 0, last))
            tokens = require_range("tokens in a row", tf.shape(source_ids)[1], 0, most)
            found, scores = self.search(source_ids[:, :tokens], named(*asked))
            return {"translation_ids": found, "scores": scores}

    def named(*asked: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(model.defaults, asked, strict=True))

    return TranslationModule()
