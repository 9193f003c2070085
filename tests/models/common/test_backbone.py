import keras
import numpy as np
import pytest

from models.common.backbone import BackboneConfig, build_backbone
from models.common.config import ConfigError


def build(config, size=(33, 64)):
    image = keras.Input((*size, 3))
    return keras.Model(image, build_backbone(config, image))


@pytest.mark.parametrize("block", ["residual", "inverted"])
@pytest.mark.parametrize("stem_stride", [1, 2])
def test_each_stage_halves_the_size_rounding_up(block, stem_stride):
    config = BackboneConfig(
        block, stem_filters=8, stem_stride=stem_stride, filters=(8, 12, 16), repeats=(1, 2, 1)
    )
    features = build(config)(np.zeros((2, 33, 64, 3), np.float32))
    sizes = [tuple(feature.shape) for feature in features]
    expected = [
        (2, -(-33 // stride), 64 // stride, filters)
        for stride, filters in zip(config.strides, config.filters, strict=True)
    ]
    assert sizes == expected


def count(model, kind):
    return sum(isinstance(layer, kind) for layer in model.layers)


def test_residual_blocks_are_two_convolutions_and_a_shortcut_where_it_is_needed():
    model = build(BackboneConfig(filters=(16, 32), repeats=(2, 1)))
    # The stem, 2 in each of 3 blocks, and one shortcut: the second stage changes size and channels.
    assert count(model, keras.layers.Conv2D) == 1 + 2 * 3 + 1
    assert count(model, keras.layers.Add) == 3


def test_inverted_blocks_expand_filter_and_project():
    model = build(BackboneConfig("inverted", filters=(16, 16), repeats=(1, 2), expansion=3))
    assert count(model, keras.layers.DepthwiseConv2D) == 3
    assert model.get_layer("stage1_block0_expand_conv").filters == 48
    # Only blocks that keep size and channels have a shortcut, and nothing follows the projection.
    assert count(model, keras.layers.Add) == 2
    assert "stage1_block0_project_act" not in {layer.name for layer in model.layers}


def test_a_residual_block_without_its_convolutions_is_the_identity():
    model = build(BackboneConfig(filters=(16,), repeats=(1,), stem_filters=16))
    for layer in model.layers:
        if layer.name.startswith("stage0") and isinstance(layer, keras.layers.Conv2D):
            layer.kernel.assign(np.zeros(layer.kernel.shape))
    image = np.random.default_rng(0).normal(size=(1, 33, 64, 3)).astype(np.float32)
    stem = keras.Model(model.input, model.get_layer("stem_act").output)
    np.testing.assert_allclose(model(image), stem(image), atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"block": "dense"}, "block must be one of inverted, residual; got 'dense'"),
        ({"stem_stride": 3}, "stem_stride must be 1 or 2, got 3"),
        ({"filters": (8,)}, "must name the same stages"),
        ({"filters": (8, 0), "repeats": (1, 1)}, "must be at least 1"),
    ],
)
def test_refused_settings_are_named(fields, message):
    with pytest.raises(ConfigError, match=message):
        BackboneConfig(**fields)
