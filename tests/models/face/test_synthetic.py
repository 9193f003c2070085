import numpy as np

from models.common.splits import DEV, TRAIN
from models.face.config import TINY
from models.face.synthetic import make_faces, make_source


def test_the_same_seed_draws_the_same_faces():
    first, second = make_faces(3, 2, seed=4), make_faces(3, 2, seed=4)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.pixels(), b.pixels())
    assert (first[0].pixels() != make_faces(3, 2, seed=5)[0].pixels()).any()


def test_faces_are_named_and_sized():
    faces = make_faces(2, 3, seed=0, side=48)
    assert [face.name for face in faces][:2] == [
        "person_000/person_000_0001",
        "person_000/person_000_0002",
    ]
    assert {face.pixels().shape for face in faces} == {(48, 48, 3)}
    assert faces[0].pixels().dtype == np.uint8


def test_a_source_holds_people_out_as_any_other():
    source = make_source(TINY.training)
    train, dev = ({face.identity for face in source.splits[name].faces} for name in (TRAIN, DEV))
    assert train.isdisjoint(dev)
    assert len(train) > len(dev) > 1
    assert len(train) + len(dev) == 60
