from dataclasses import replace

import pytest

from models.common.config import ConfigError
from models.segmentation.config import (
    CAMVID,
    TINY,
    AugmentationConfig,
    NetworkConfig,
    SegmentationConfig,
    TilingConfig,
    TrainingConfig,
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NetworkConfig(encoder="vgg"), "double_conv, inverted, residual; got 'vgg'"),
        (lambda: NetworkConfig(filters=(8,), repeats=(1,)), "two or more levels"),
        (lambda: NetworkConfig(filters=(8, 8), repeats=(1,)), "must name the same stages"),
        (lambda: NetworkConfig(decoder_filters=(8,)), "name 4 levels"),
        (lambda: NetworkConfig(stem_stride=2), "must be 1 with encoder double_conv"),
        (lambda: AugmentationConfig(scale=(2.0, 1.0)), "two rising factors"),
        (lambda: AugmentationConfig(gamma=-0.1), r"gamma must be 0 or more, got -0\.1"),
        (lambda: TrainingConfig(dice_weight=1.5), r"dice_weight must lie in 0\.\.1"),
        (lambda: TilingConfig(tile=64, overlap=40), r"overlap must lie in 0\.\.32, got 40"),
        (lambda: SegmentationConfig(labels=("a",)), "2 to 254 different names"),
        (lambda: SegmentationConfig(labels=("a", "a")), "2 to 254 different names"),
        (lambda: replace(TINY, augmentation=AugmentationConfig(crop=30)), "multiple of 4"),
        (lambda: replace(TINY, void_value=300), r"void_value must be None or lie in 0\.\.255"),
    ],
)
def test_refuses_what_cannot_work(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_size_multiple_counts_the_levels_and_the_stem():
    assert NetworkConfig(filters=(8, 8, 8), repeats=(1, 1, 1)).size_multiple == 4
    assert CAMVID.network.size_multiple == 32
