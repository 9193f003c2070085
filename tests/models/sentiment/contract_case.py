"""The sentiment classifier as the contract kit sees it."""

import numpy as np

from models.sentiment import config as sentiment_config
from models.sentiment.data import BatchSequence, EncodedExample
from models.sentiment.network import build_network
from models.sentiment.train import TRAINED_OUTPUT, compile_model
from tests.models.case import Case


def make_case() -> Case:
    """Builds the TINY network and one batch of random ids."""
    config = sentiment_config.TINY
    network = build_network(config.network, config.tokenizer.vocabulary_size, 2).model
    random = np.random.default_rng(0)
    examples = [
        EncodedExample(random.integers(1, 500, 9).astype(np.int32), n % 2) for n in range(4)
    ]

    def compiled():
        compile_model(network, config.training, steps=20)
        return network

    return Case(
        config_class=sentiment_config.SentimentConfig,
        presets=sentiment_config.PRESETS,
        network=network,
        batch=BatchSequence(examples, [TRAINED_OUTPUT], batch_size=4)[0],
        output_shapes=dict.fromkeys(network.output_names, (4, 2)),
        compiled=compiled,
    )
