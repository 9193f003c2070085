"""Untrained TINY translators whose weights are large, so that each answer is a decided one."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from models.common.run_folder import RunFolder
from models.translation.config import TINY, AttentionConfig
from models.translation.network import build_network
from models.translation.signature import TranslationModel
from models.translation.synthetic import make_pairs
from models.translation.tokenizer import train_tokenizer
from protocol.subwords import END_ID

_ATTENTION = replace(TINY, network="attention")
_DATES_LIKE = replace(TINY.attention, recurrent="lstm", feedback=False)
_DEEPER = replace(TINY.transformer, encoder_layers=2, decoder_layers=2)
CONFIGS = {
    "attention": _ATTENTION,
    "attention without feedback": replace(_ATTENTION, attention=_DATES_LIKE),
    "transformer": replace(TINY, network="transformer", transformer=_DEEPER),
}
# Seed, spread and emphasis of END with which `TEXTS` have translations of many lengths.
_WEIGHTS = {
    "attention": (1, 4.0, 3.0),
    "attention without feedback": (3, 4.0, 4.0),
    "transformer": (3, 2.0, 3.0),
}
TEXTS = (
    "the red house",
    "the yellow door and the brown house and the red table",
    "",
    "the Lamp",
    "\u8fd9\u662f",
    " \t\n ",
    "the black car and the white apple " * 20,
    "the grey dress and the blue flower",
    b"the \xff lamp",
)
"""Of many lengths; blank, too long, in an unknown script, and not UTF-8."""


def make_network(kind: str, vocabulary_size: int):
    """Builds a network with random weights; END is made likely enough to be written."""
    seed, spread, emphasis = _WEIGHTS[kind]
    network = build_network(CONFIGS[kind], vocabulary_size)
    random = np.random.default_rng(seed)
    network.set_weights([_random_weight(w, spread, random) for w in network.get_weights()])
    if isinstance(network.config, AttentionConfig):
        kernel, bias = network.output_map.get_weights()
        bias[END_ID] += emphasis
        network.output_map.set_weights([kernel, bias])
    else:
        (embeddings,) = network.embedding.get_weights()
        embeddings[END_ID] *= emphasis
        network.embedding.set_weights([embeddings])
    return network


def _random_weight(weight: np.ndarray, spread: float, random: np.random.Generator) -> np.ndarray:
    """Draws a matrix; changes a bias or scale a little."""
    if weight.ndim > 1:
        return random.normal(0, spread * weight.shape[0] ** -0.5, weight.shape)
    return weight + random.normal(0, 0.3, weight.shape)


def make_model(kind: str, folder: Path) -> TranslationModel:
    """Makes a model with a run folder that holds its tokenizer."""
    config, pairs = CONFIGS[kind], make_pairs(300, seed=1)
    texts = [text for pair in pairs for text in (pair.source, pair.target)]
    tokenizer = train_tokenizer(texts, config.tokenizer)
    run = RunFolder(folder).create()
    tokenizer.save(run.assets)
    network = make_network(kind, tokenizer.vocabulary_size)
    details = {"labels": [], "data": {"made up": "seed-1"}, "metrics": {}}
    return TranslationModel(config, network, tokenizer, run, details)
