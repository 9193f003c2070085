import numpy as np
import pytest

from models.face.scores import score

THRESHOLDS = {"accuracy": 1.0, "far_1e-2": 0.5, "far_1e-3": 0.1}


def test_scores_by_hand():
    # Two people at right angles, one picture of the first lies between them.
    embeddings = np.array([[1, 0], [1, 0], [0.6, 0.8], [0, 1], [0, 1]], float)
    identities = np.array([0, 0, 0, 1, 1])
    rows = np.array([[0, 1], [0, 2], [3, 4], [0, 3], [2, 3]])  # 0, 0.8, 0; 2, 0.4
    same = np.array([True, True, True, False, False])
    found = score(embeddings, identities, rows, same, THRESHOLDS).as_dict()
    assert found["accuracy"] == pytest.approx((3 / 3 + 1 / 2) / 2)
    assert found["roc_auc"] == pytest.approx(5 / 6)
    assert found["tar_at_far_1e-2"] == pytest.approx(2 / 3)
    assert found["far_at_far_1e-2"] == pytest.approx(1 / 2)
    assert found["tar_at_far_1e-3"] == pytest.approx(2 / 3)
    assert found["far_at_far_1e-3"] == 0
    # The third picture is nearer to the second person's; all other pictures are recognised,
    # except for the first two with the third in the gallery: 0.8 against 2.
    assert found["rank1"] == pytest.approx(4 / 5)
    assert (found["same"], found["different"], found["n"]) == (3, 2, 5)
