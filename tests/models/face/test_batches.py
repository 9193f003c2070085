import dataclasses

import numpy as np
import pytest

from models.common.splits import DataError
from models.face.batches import IdentityBatches, group_distinct, read_people
from models.face.config import TINY
from models.face.data import Face, FaceSet

P, K = TINY.training.identities_per_batch, TINY.training.images_per_identity


def people(counts, side=40):
    random = np.random.default_rng(0)
    return [
        [random.integers(0, 256, (side, side, 3)).astype(np.uint8) for _ in range(count)]
        for count in counts
    ]


def test_a_batch_holds_p_people_k_times():
    images, targets = IdentityBatches(people([5] * 20), TINY)[0]
    assert (images.shape, images.dtype) == ((P * K, 32, 32, 3), np.uint8)
    assert list(targets) == ["cosines"]
    ids = targets["cosines"].reshape(P, K)
    assert ids.dtype == np.int32
    assert (ids == ids[:, :1]).all()
    assert len(set(ids[:, 0])) == P


def test_the_triplet_loss_gets_targets_where_it_has_weight():
    loss = dataclasses.replace(TINY.loss, triplet_weight=1.0)
    _, targets = IdentityBatches(people([5] * 20), dataclasses.replace(TINY, loss=loss))[0]
    assert set(targets) == {"cosines", "embedding"}


def test_every_epoch_has_as_many_batches_and_another_order():
    batches = IdentityBatches(people([5] * 60), TINY)
    length, first = len(batches), batches[0][1]["cosines"]
    for _ in range(20):
        batches.on_epoch_end()
        assert len(batches) == length
    assert not np.array_equal(batches[0][1]["cosines"], first)


def test_many_pictures_of_one_person_do_not_fill_an_epoch():
    training = dataclasses.replace(TINY.training, most_images=8)
    config = dataclasses.replace(TINY, training=training)
    batches = IdentityBatches(people([400] + [4] * 30), config)
    ids = np.concatenate([batches[i][1]["cosines"] for i in range(len(batches))])
    assert (ids == 0).sum() <= 8


def test_too_few_people_for_a_batch_are_refused():
    with pytest.raises(DataError, match=r"a batch needs 8 identities .* there are 3"):
        IdentityBatches(people([5] * 3), TINY)


def test_groups_hold_different_items():
    groups = group_distinct([1, 1, 1, 2, 2, 3, 4], 2)
    assert all(len(set(group)) == 2 for group in groups)
    assert len(groups) == 3
    assert group_distinct([1, 1, 1], 2) == []


def face_set(counts, side=40):
    return FaceSet(
        tuple(
            Face(f"p{person}", np.full((side, side + 20, 3), person, np.uint8), f"p{person}/{n}")
            for person, count in enumerate(counts)
            for n in range(count)
        )
    )


def test_people_with_too_few_pictures_are_left_out():
    found = read_people(face_set([3, 1, 2]), TINY)
    assert [len(pictures) for pictures in found] == [3, 2]
    assert found[1][0].shape == (40, 40, 3)
    assert (found[1][0] == 2).all()


def test_large_pictures_are_kept_smaller():
    assert read_people(face_set([2], side=500), TINY)[0][0].shape == (64, 64, 3)


def test_nobody_with_enough_pictures_is_an_error():
    with pytest.raises(DataError, match="no identity has 2 pictures"):
        read_people(face_set([1, 1]), TINY)
