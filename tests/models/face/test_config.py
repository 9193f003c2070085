import dataclasses

import pytest

from models.common.config import ConfigError
from models.face.config import (
    TINY,
    AugmentationConfig,
    DiscriminantConfig,
    GradientConfig,
    LossConfig,
    NetworkConfig,
    TrainingConfig,
)


@pytest.mark.parametrize(
    ("config_class", "values", "message"),
    [
        (NetworkConfig, {"head": "attention"}, "head must be one of average, flatten"),
        (NetworkConfig, {"image_size": 8}, "image_size must be at least 16, got 8"),
        (NetworkConfig, {"central": 1.2}, "central must lie in"),
        (DiscriminantConfig, {"units": 128}, "units must lie in 0..127, got 128"),
        (GradientConfig, {"scales": (1.0, 0.0)}, "scales must be above 0"),
        (LossConfig, {"mining": "easy"}, "mining must be one of batch_hard, semi_hard"),
        (LossConfig, {"angular_weight": 0.0}, "nothing to learn from"),
        (LossConfig, {"triplet_weight": -1.0}, "must not be negative"),
        (AugmentationConfig, {"erase": 1.5}, "erase must lie in"),
        (AugmentationConfig, {"zoom": -0.1}, "zoom must not be negative"),
        (TrainingConfig, {"identities_per_batch": 0}, "identities_per_batch must be above 0"),
        (TrainingConfig, {"precision": "int8"}, "precision must be one of"),
    ],
)
def test_a_wrong_value_is_named(config_class, values, message):
    with pytest.raises(ConfigError, match=message):
        config_class(**values)


def test_triplets_need_two_pictures_of_a_person():
    training = dataclasses.replace(TINY.training, images_per_identity=1)
    loss = dataclasses.replace(TINY.loss, triplet_weight=1.0)
    with pytest.raises(ConfigError, match="images_per_identity must be at least 2"):
        dataclasses.replace(TINY, training=training, loss=loss)
