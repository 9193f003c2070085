"""The translator as the contract kit sees it."""

from models.translation.config import PRESETS, TINY, TranslationConfig
from models.translation.data import BatchSequence, encode_pairs
from models.translation.network import build_network
from models.translation.synthetic import make_pairs
from models.translation.tokenizer import train_tokenizer
from models.translation.train import compile_network
from tests.models.case import Case


def make_case() -> Case:
    """Builds the TINY network and one batch of made-up sentences."""
    pairs = make_pairs(40, seed=1)
    texts = [text for pair in pairs for text in (pair.source, pair.target)]
    tokenizer = train_tokenizer(texts, TINY.tokenizer)
    encoded, _ = encode_pairs(pairs, tokenizer)
    batch = BatchSequence(encoded, batch_tokens=400, seed=0)[0]
    network = build_network(TINY, tokenizer.vocabulary_size)

    def compiled():
        compile_network(network, TINY.training, steps=20)
        return network

    rows, steps = batch[0]["target_in"].shape
    return Case(
        config_class=TranslationConfig,
        presets=PRESETS,
        network=network,
        batch=batch,
        output_shapes={"logits": (rows, steps, tokenizer.vocabulary_size)},
        compiled=compiled,
    )
