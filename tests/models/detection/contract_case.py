"""The detector as the contract kit sees it."""

import numpy as np

from models.detection.batches import TrainingBatches
from models.detection.config import PRESETS, TINY, DetectionConfig
from models.detection.network import build_network
from models.detection.synthetic import make_sample
from models.detection.train import make_learner
from tests.models.case import Case


def make_case() -> Case:
    """Builds the TINY network and one batch of drawn shapes."""
    random = np.random.default_rng(0)
    batch = TrainingBatches([make_sample(random) for _ in range(8)], TINY)[0]
    network = build_network(TINY)

    rows, predictions = TINY.training.batch_size, 8 * 8 + 4 * 4 + 2 * 2
    return Case(
        config_class=DetectionConfig,
        presets=PRESETS,
        network=network,
        batch=batch,
        output_shapes={"predictions": (rows, predictions, 5 + len(TINY.labels))},
        compiled=lambda: make_learner(network, TINY, steps=20),
    )
