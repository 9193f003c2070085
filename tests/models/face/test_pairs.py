import numpy as np

from models.face.data import Face, FaceSet, Pair
from models.face.pairs import all_pairs, as_arrays, balanced_pairs, pairs_to_compare


def face_set(counts, pairs=()):
    nothing = np.zeros((1, 1, 3), np.uint8)
    return FaceSet(
        tuple(
            Face(f"p{person:03d}", nothing, f"p{person:03d}/{n}")
            for person, count in enumerate(counts)
            for n in range(count)
        ),
        pairs,
    )


def test_all_pairs_are_all_of_them_once():
    faces = face_set([2, 1, 3])
    rows, same = as_arrays(all_pairs(faces))
    assert len(rows) == 15
    assert (rows[:, 0] < rows[:, 1]).all()
    np.testing.assert_array_equal(same, np.diff(faces.identities[rows])[:, 0] == 0)
    assert same.sum() == 1 + 3


def test_balanced_pairs_are_half_and_half_and_right():
    faces = face_set([2, 1, 3, 40, 1, 5])
    rows, same = as_arrays(balanced_pairs(faces))
    np.testing.assert_array_equal(same, np.diff(faces.identities[rows])[:, 0] == 0)
    assert same.sum() == (~same).sum() == 1 + 3 + 10 + 10
    assert len({tuple(row) for row in rows}) == len(rows)


def test_balanced_pairs_are_always_the_same():
    faces = face_set([4] * 12)
    assert balanced_pairs(faces) == balanced_pairs(faces)


def test_few_pictures_give_all_different_pairs_there_are():
    _, same = as_arrays(balanced_pairs(face_set([5, 1])))
    assert (same.sum(), (~same).sum()) == (10, 5)


def test_one_person_has_no_different_pairs():
    assert all(pair.same for pair in balanced_pairs(face_set([4])))


def test_listed_pairs_come_first_then_all_then_a_sample():
    listed = (Pair(0, 1, True),)
    assert pairs_to_compare(face_set([2, 2], listed)) == listed
    assert len(pairs_to_compare(face_set([2, 2]))) == 6
    many = face_set([4] * 160)
    assert pairs_to_compare(many) == balanced_pairs(many)


def test_no_pairs_are_arrays_too():
    rows, same = as_arrays(())
    assert (rows.shape, same.shape) == ((0, 2), (0,))
