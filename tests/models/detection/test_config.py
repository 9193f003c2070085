from dataclasses import replace

import pytest

from models.common.backbone import BackboneConfig
from models.common.config import ConfigError
from models.detection.config import (
    BASE,
    TINY,
    AugmentationConfig,
    DetectionConfig,
    NetworkConfig,
    TrainingConfig,
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(BASE, height=100), "must be multiples of 32"),
        (lambda: replace(BASE, labels=()), "different, non-empty names"),
        (lambda: replace(BASE, labels=("a", "a")), "different, non-empty names"),
        (lambda: replace(TINY, max_detections=1000), "at most 84, what the grid predicts"),
        (lambda: replace(BASE, score_threshold=1.0), "score_threshold must lie in"),
        (lambda: NetworkConfig(anchors=(1.0, 2.0)), "a width and a height for each of 3 levels"),
        (lambda: NetworkConfig(anchors=(1.0, -2.0) * 3), "anchors must be above 0"),
        (
            lambda: NetworkConfig(backbone=BackboneConfig(filters=(8, 8), repeats=(1, 1))),
            "needs stages of the strides",
        ),
        (lambda: AugmentationConfig(mosaic=0.8, plain=0.4), "at most 1 together"),
        (lambda: AugmentationConfig(scale_min=2.0), "scale_max must be at least scale_min"),
        (lambda: TrainingConfig(epochs=3, closing_epochs=4), "closing_epochs must lie in 0..3"),
        (lambda: TrainingConfig(precision="float8"), "precision must be one of"),
    ],
)
def test_refused_values_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_predictors_follow_the_anchors():
    assert NetworkConfig().predictors == 1
    assert NetworkConfig(anchors=(8.0, 8.0) * 9).predictors == 3
    assert DetectionConfig().network.strides == (4, 8, 16, 32)
