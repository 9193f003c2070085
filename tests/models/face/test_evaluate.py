import csv
import json

import numpy as np
import pytest

from models.common.splits import ALL, DEV, DataError
from models.face.config import TINY
from models.face.data import FaceSet, Pair
from models.face.evaluate import choose_pairs, embed, evaluate
from models.face.pairs import balanced_pairs
from models.face.synthetic import make_faces, make_source


@pytest.fixture(scope="module")
def faces():
    return make_source(TINY.training).splits[DEV]


@pytest.fixture(scope="module")
def evaluated(face_model, faces, tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluation")
    return evaluate(face_model, ALL, faces, face_model.thresholds, output), output


@pytest.fixture
def undrawn(monkeypatch):
    """Leaves out the pictures, which `evaluated` has."""
    monkeypatch.setattr("models.face.evaluate._draw", lambda *parts: None)


def test_report_is_printed_and_stored(evaluated):
    report, output = evaluated
    assert json.loads((output / "metrics.json").read_text()) == report
    assert {"accuracy", "roc_auc", "eer", "tar_at_far_1e-2", "tar_at_far_1e-3", "rank1"} <= set(
        report
    )
    assert report["n"] == 72
    assert report["same"] + report["different"] == 72 * 71 // 2


def test_expected_pictures_are_drawn(evaluated):
    names = {path.name for path in evaluated[1].glob("*.png")}
    assert names == {"roc.png", "distances.png", "embeddings.png", "worst_pairs.png"}


def test_mistakes_are_listed_worst_first(evaluated, face_model):
    with (evaluated[1] / "mistakes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    threshold = face_model.thresholds["accuracy"]
    assert rows
    excess = []
    for row in rows:
        same, distance = row["same"] == "1", float(row["squared_distance"])
        assert same == (row["first"].split("/")[0] == row["second"].split("/")[0])
        excess.append(abs(distance - threshold))
        assert (distance > threshold - 1e-3) if same else (distance < threshold + 1e-3)
    assert np.all(np.diff(excess) <= 1e-3)


@pytest.mark.usefixtures("undrawn")
def test_the_models_own_thresholds_decide(face_model, faces, tmp_path):
    accept_all = {"accuracy": 5.0, "far_1e-2": 5.0, "far_1e-3": -1.0}
    report = evaluate(face_model, ALL, faces, accept_all, tmp_path)
    assert report["accuracy"] == 0.5
    assert (report["tar_at_far_1e-2"], report["far_at_far_1e-2"]) == (1.0, 1.0)
    assert (report["tar_at_far_1e-3"], report["far_at_far_1e-3"]) == (0.0, 0.0)


@pytest.mark.usefixtures("undrawn")
def test_listed_pairs_judge_a_split_but_not_dev(face_model, faces, tmp_path):
    listed = FaceSet(faces.faces, (Pair(0, 1, True), Pair(0, 10, False), Pair(3, 4, True)))
    assert choose_pairs("test", listed) == listed.pairs
    assert choose_pairs(DEV, listed) == balanced_pairs(faces)
    report = evaluate(face_model, DEV, listed, face_model.thresholds, tmp_path)
    assert (report["listed_same"], report["listed_different"]) == (2, 1)
    assert 0 <= report["listed_accuracy"] <= 1


def test_one_person_cannot_be_verified():
    with pytest.raises(DataError, match="there are 6 and 0"):
        choose_pairs(ALL, FaceSet(make_faces(1, 4, seed=0)))


def test_embeddings_keep_the_order_of_the_faces(face_model, faces):
    some = FaceSet(faces.faces[:40])
    reverse = FaceSet(some.faces[::-1])
    np.testing.assert_allclose(embed(face_model, reverse)[::-1], embed(face_model, some), atol=1e-5)
