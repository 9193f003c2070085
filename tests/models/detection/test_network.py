from dataclasses import replace

import numpy as np
import pytest
from keras import ops

from models.common.backbone import BackboneConfig
from models.detection.config import BASE, TINY, NetworkConfig
from models.detection.network import Decoder, build_network, fold_pixels

ANCHORS = tuple(float(side) for side in range(2, 20))


@pytest.mark.parametrize("block", ["residual", "inverted"])
def test_both_backbones_predict_a_row_for_each_cell(block):
    backbone = BackboneConfig(
        block=block, stem_filters=8, filters=(8, 8, 8, 8), repeats=(1, 1, 1, 1)
    )
    config = replace(TINY, network=NetworkConfig(backbone=backbone, neck_filters=8))
    network = build_network(config)
    assert network.output["predictions"].shape == (None, 64 + 16 + 4, 5 + 2)


def test_untrained_boxes_surround_their_cells_and_scores_are_low():
    decoder = Decoder(TINY)
    boxes = ops.convert_to_numpy(decoder.boxes(np.zeros((1, 84, 7), np.float32)))[0]
    np.testing.assert_allclose((boxes[:, :2] + boxes[:, 2:]) / 2, decoder.centers)
    np.testing.assert_allclose(boxes[:, 2] - boxes[:, 0], 5 * decoder.strides[:, 0], rtol=1e-5)
    grey = np.full((1, 64, 64, 3), 127.5, np.float32)
    raw = build_network(TINY)(grey, training=False)["predictions"]
    np.testing.assert_allclose(ops.convert_to_numpy(ops.sigmoid(raw[..., 4])), 0.01, rtol=1e-3)


def test_distances_by_hand():
    decoder = Decoder(TINY)
    raw = np.zeros((1, 84, 7), np.float32)
    raw[0, 0, :4] = np.log([0.1, 0.2, 0.3, 0.4])  # first cell: centre 4, 4; stride 8
    box = ops.convert_to_numpy(decoder.boxes(raw))[0, 0]
    np.testing.assert_allclose(box, [4 - 2, 4 - 4, 4 + 6, 4 + 8], rtol=1e-5)


def test_anchors_by_hand():
    network = replace(TINY.network, anchors=ANCHORS)
    decoder = Decoder(replace(TINY, network=network))
    assert decoder.centers.shape == (3 * 84, 2)
    # Raw zeros: the cell's centre, the anchor's size.
    boxes = ops.convert_to_numpy(decoder.boxes(np.zeros((1, 252, 7), np.float32)))[0]
    np.testing.assert_allclose(boxes[0], [4 - 1, 4 - 1.5, 4 + 1, 4 + 1.5])
    np.testing.assert_allclose(boxes[1], [4 - 2, 4 - 2.5, 4 + 2, 4 + 2.5])
    np.testing.assert_allclose(boxes[-1], [48 - 9, 48 - 9.5, 48 + 9, 48 + 9.5])
    raw = np.full((1, 252, 7), 100, np.float32)
    box = ops.convert_to_numpy(decoder.boxes(raw))[0, 0]
    np.testing.assert_allclose(box, [12 - 4, 12 - 6, 12 + 4, 12 + 6], rtol=1e-5)


def test_network_with_anchors_matches_its_decoder():
    config = replace(TINY, network=replace(TINY.network, anchors=ANCHORS))
    rows = build_network(config).output["predictions"].shape[1]
    assert rows == len(Decoder(config).centers)


def test_folded_pixels_keep_their_block():
    image = np.arange(4 * 6 * 3, dtype=np.float32).reshape(1, 4, 6, 3)
    folded = ops.convert_to_numpy(fold_pixels(ops.convert_to_tensor(image), 2))
    assert folded.shape == (1, 2, 3, 12)
    np.testing.assert_array_equal(folded[0, 1, 2], image[0, 2:4, 4:6].ravel())


def test_the_shipped_network_is_small():
    assert build_network(BASE).count_params() < 1.5e6
