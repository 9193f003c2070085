"""The segmentation model as the contract kit sees it."""

from models.segmentation.config import PRESETS, TINY, SegmentationConfig
from models.segmentation.data import CropSequence
from models.segmentation.network import build_network
from models.segmentation.synthetic import make_examples
from models.segmentation.train import compile_network
from tests.models.case import Case


def make_case() -> Case:
    """Builds the TINY network and one batch of crops."""
    network = build_network(TINY.network, len(TINY.labels))
    batch = CropSequence(make_examples(4, seed=1), TINY.augmentation, batch_size=4)[0]

    def compiled():
        compile_network(network, TINY.training, [0.8, 0.2], steps=20)
        return network

    return Case(
        config_class=SegmentationConfig,
        presets=PRESETS,
        network=network,
        batch=batch,
        output_shapes={"logits": (4, 32, 32, 2)},
        compiled=compiled,
    )
