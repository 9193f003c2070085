import numpy as np
import pytest

from models.detection.anchors import find_anchors, main, mean_best_iou, size_iou


def test_size_iou_by_hand():
    found = size_iou(np.array([[10.0, 10]]), np.array([[10.0, 10], [5, 10], [20, 20]]))
    np.testing.assert_allclose(found, [[1, 0.5, 0.25]])


def test_finds_well_separated_sizes():
    random = np.random.default_rng(0)
    centers = np.array([[10.0, 20], [40, 40], [100, 60]])
    sizes = np.concatenate([center * random.uniform(0.95, 1.05, (50, 2)) for center in centers])
    anchors = find_anchors(sizes, 3, seed=3)
    np.testing.assert_allclose(anchors, centers, rtol=0.05)
    assert mean_best_iou(sizes, anchors) > 0.93


def test_more_anchors_fit_better():
    sizes = np.random.default_rng(1).uniform(5, 100, (200, 2))
    fits = [mean_best_iou(sizes, find_anchors(sizes, count)) for count in (1, 3, 9)]
    assert fits == sorted(fits)


def test_too_few_sizes_are_refused():
    with pytest.raises(ValueError, match="3 anchors need as many different box sizes, got 1"):
        find_anchors(np.array([[5.0, 5], [5, 5]]), 3)


@pytest.mark.data("det_bccd")
def test_command_prints_what_the_configuration_takes(data_dir, capsys):
    main(["--data", str(data_dir / "det_bccd"), "--per-level", "1"])
    numbers, fit = capsys.readouterr().out.splitlines()
    assert len(numbers.split()) == 6
    assert fit.startswith("mean IoU with the best anchor: 0.8")
