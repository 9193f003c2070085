from typing import Any

import numpy as np
import pytest

from protocol.pipelines import Prepared
from serving.core.batch_shape import Whole, fill_up, has_rows, pad_alike, ragged_key, split


def prepared(**arrays: Any) -> Prepared:
    tensors = {name: np.asarray(array) for name, array in arrays.items()}
    return Prepared(tensors, rows=len(tensors["x"]), batch_key="own", is_plain=True)


def test_parts_cover_all_rows_and_keep_parameters() -> None:
    parts = split(prepared(x=np.arange(10).reshape(5, 2), width=7), 2)
    assert [part.rows for part in parts] == [2, 2, 1]
    assert [part.tensors["x"][:, 0].tolist() for part in parts] == [[0, 2], [4, 6], [8]]
    assert all(part.tensors["width"] == 7 for part in parts)


def test_outputs_are_joined_in_the_order_of_the_parts() -> None:
    whole = Whole(prepared(x=[0, 0, 0]), 2)
    assert whole.add(1, {"y": np.array([3])}) is None
    joined = whole.add(0, {"y": np.array([1, 2])})
    assert joined is not None
    assert joined["y"].tolist() == [1, 2, 3]


def test_only_tensors_by_row_can_be_cut() -> None:
    assert has_rows(prepared(x=[1, 2], width=7))
    assert not has_rows(prepared(x=[1, 2], edges=[1, 2, 3]))


def test_filling_up_repeats_a_row() -> None:
    tensors = {"x": np.array([[1, 2], [3, 4]]), "s": np.array([b"a", b"bc"], object)}
    filled = fill_up({**tensors, "width": np.array(7)}, 1, 2)
    assert filled["x"].tolist() == [[1, 2], [3, 4], [3, 4], [3, 4]]
    assert filled["s"].tolist() == [b"a", b"bc", b"bc", b"bc"]
    assert filled["width"] == 7


@pytest.mark.parametrize("rank", range(1, 7))
def test_padding_is_the_tensors_first_element_at_the_end(rank: int) -> None:
    small = np.full((1,) * rank, 5)
    large = np.arange(2**rank).reshape((2,) * rank)
    first, second = pad_alike([prepared(x=small), prepared(x=large)])
    assert second.tensors["x"].tolist() == large.tolist()
    assert first.tensors["x"].shape == (1, *(2,) * (rank - 1))
    assert set(first.tensors["x"].ravel()) == {5}


def test_strings_and_tensors_without_elements_are_padded() -> None:
    words = [
        prepared(x=np.array([[b"a"]], object)),
        prepared(x=np.array([[b"bc", b"d"]], object)),
        prepared(x=np.empty((1, 0), object)),
    ]
    assert [item.tensors["x"].tolist() for item in pad_alike(words)] == [
        [[b"a", b"a"]],
        [[b"bc", b"d"]],
        [[b"", b""]],
    ]


def test_ragged_keys() -> None:
    key = ragged_key(prepared(x=np.zeros((1, 3)), width=7))
    assert key == ragged_key(prepared(x=np.zeros((2, 9)), width=7))
    assert key != ragged_key(prepared(x=np.zeros((1, 3)), width=8))
    assert key != ragged_key(prepared(x=np.zeros((1, 3, 1)), width=7))
    assert key != ragged_key(prepared(x=np.zeros((1, 3), np.int32), width=7))
    assert ragged_key(prepared(x=np.zeros((1,) * 7))) == "own"
    assert ragged_key(Prepared({}, rows=0, batch_key="own")) == "own"
