import gzip

import numpy as np
import pytest

from models.common.splits import DataError
from models.sentiment.embeddings import initial_embeddings


def test_known_words_get_their_vector(tmp_path):
    path = tmp_path / "vectors.txt.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("film 1 2 3\nunused 7 8 9\n")
    matrix, found = initial_embeddings(["good", "film"], 3, path, seed=0)
    assert found == 1
    assert matrix.shape == (4, 3)
    np.testing.assert_array_equal(matrix[0], 0)
    np.testing.assert_array_equal(matrix[3], [1, 2, 3])


def test_random_vectors_repeat_with_the_seed():
    first, _ = initial_embeddings(["a"], 4, None, seed=1)
    again, _ = initial_embeddings(["a"], 4, None, seed=1)
    other, _ = initial_embeddings(["a"], 4, None, seed=2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("line", ["film 1 2", "film 1 2 x"])
def test_broken_line_is_named(tmp_path, line):
    path = tmp_path / "vectors.txt"
    path.write_text(f"good 1 2 3\n{line}\n")
    with pytest.raises(DataError, match=r"vectors\.txt:?2?"):
        initial_embeddings(["film"], 3, path, seed=0)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.txt: cannot be read"):
        initial_embeddings(["film"], 3, tmp_path / "nowhere.txt", seed=0)
