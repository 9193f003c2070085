import os
from pathlib import Path

import pytest

from protocol.errors import UnavailableError
from serving.core.version_files import check_complete, fingerprint


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_a_fingerprint_tells_names_sizes_and_times(tmp_path: Path) -> None:
    write(tmp_path, "model.onnx", "assets/words.txt")
    before = fingerprint(tmp_path)
    assert [name for name, _, _ in before] == ["assets/words.txt", "model.onnx"]
    assert fingerprint(tmp_path) == before
    os.utime(tmp_path / "model.onnx", ns=(1, 1))
    touched = fingerprint(tmp_path)
    write(tmp_path, "assets/more.txt")
    assert len({before, touched, fingerprint(tmp_path)}) == 3


def test_what_can_not_be_read_has_no_fingerprint(tmp_path: Path) -> None:
    assert fingerprint(tmp_path / "missing") == ()
    (tmp_path / "nowhere").symlink_to("missing")
    assert fingerprint(tmp_path) == ()


INDEX = "variables/variables.index"
SHARDS = tuple(f"variables/variables.data-0000{number}-of-00002" for number in range(2))


@pytest.mark.parametrize("names", [(), ("saved_model.pb",), (INDEX, *SHARDS)])
def test_complete_folders(tmp_path: Path, names: tuple[str, ...]) -> None:
    check_complete(write(tmp_path, *names))
    (tmp_path / "variables").mkdir(exist_ok=True)
    check_complete(tmp_path)


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (SHARDS, INDEX),
        ((INDEX,), "variables/variables.data-00000-of-00001"),
        ((INDEX, SHARDS[0]), SHARDS[1]),
        ((INDEX, SHARDS[1]), SHARDS[0]),
        (("variables/.variables.index.x7gH",), INDEX),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, names: tuple[str, ...], missing: str) -> None:
    with pytest.raises(UnavailableError, match=f"not complete: {missing} is missing; found: "):
        check_complete(write(tmp_path, *names))
