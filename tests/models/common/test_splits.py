import pytest

from models.common.splits import DataError, choose_split, in_held_out_part


@pytest.mark.parametrize(
    ("requested", "available", "expected"),
    [
        (None, {"train", "dev", "test"}, "test"),
        (None, {"train", "dev"}, "dev"),
        (None, {"train"}, "all"),
        ("val", {"train", "dev"}, "dev"),
        ("train", {"train", "dev"}, "train"),
        ("all", {"train"}, "all"),
    ],
)
def test_choice(requested, available, expected):
    assert choose_split(requested, available, "folder") == expected


def test_absent_split_says_what_there_is():
    with pytest.raises(DataError, match="folder has no test split; it has: dev, train"):
        choose_split("test", {"train", "dev"}, "folder")


def test_unknown_split():
    with pytest.raises(DataError, match="unknown split 'prod'"):
        choose_split("prod", {"train"}, "folder")


def test_held_out_part_has_its_size_and_never_moves():
    keys = [f"text {i}" for i in range(20_000)]
    held_out = {key for key in keys if in_held_out_part(key, 0.2)}
    assert 0.19 < len(held_out) / len(keys) < 0.21
    assert held_out == {key for key in reversed(keys) if in_held_out_part(key, 0.2)}
    assert held_out <= {key for key in keys if in_held_out_part(key, 0.3)}
    # Frozen values: a change here would move texts between training and evaluation.
    assert [i for i in range(8) if in_held_out_part(f"text {i}", 0.2)] == [6]
