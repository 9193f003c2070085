import numpy as np

from models.detection.boxes import pairwise_iou
from models.detection.synthetic import COLOURS, LABELS, draw_smear, make_sample, write_source


def test_samples_repeat_and_boxes_hold_their_object():
    sample, again = (make_sample(np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(sample.image_u8, again.image_u8)
    for box, class_id in zip(sample.boxes_xyxy.astype(int), sample.class_ids, strict=True):
        middle = sample.image_u8[(box[1] + box[3]) // 2, (box[0] + box[2]) // 2]
        assert np.abs(middle - COLOURS[class_id]).max() < 70


def test_objects_do_not_overlap():
    for seed in range(20):
        boxes = make_sample(np.random.default_rng(seed)).boxes_xyxy
        assert (pairwise_iou(boxes, boxes) - np.eye(len(boxes)) < 1e-6).all()


def test_source_is_a_coco_folder(tmp_path):
    source = write_source(tmp_path, train=3, dev=2)
    assert [len(source.splits[name]) for name in ("train", "dev", "all")] == [3, 2, 5]
    assert (tmp_path / "train" / "_annotations.coco.json").is_file()
    assert LABELS == ("disc", "square")


def test_smears_repeat_and_hold_cells_of_all_kinds():
    smear, again = (draw_smear(np.random.default_rng(2)) for _ in range(2))
    np.testing.assert_array_equal(smear, again)
    assert smear.shape == (480, 640, 3)
    red, green, blue = smear.reshape(-1, 3).astype(int).T
    assert (blue > green + 40).mean() > 0.02  # nuclei and platelets
    assert (red > green + 30).mean() > 0.2  # red cells
