"""Which files commands take, and what saved pictures are called."""

from pathlib import Path

import pytest
from PIL import Image

from clients import drawing
from clients.commands.images import PictureFolder, in_batches, listed_images
from clients.commands.options import UsageError


def picture() -> Image.Image:
    return Image.new("L", (2, 2))


def test_files_and_folders_in_the_given_order(tmp_path: Path) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    for file in (tmp_path / "z.png", folder / "b.jpg", folder / "a.png", folder / "a.txt"):
        file.touch()
    assert listed_images([tmp_path / "z.png", folder]) == [
        tmp_path / "z.png",
        folder / "a.png",
        folder / "b.jpg",
    ]


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file or folder nothing"):
        listed_images([Path("nothing")])
    with pytest.raises(UsageError, match="no image files"):
        listed_images([tmp_path])


def test_batches() -> None:
    files = [Path(str(number)) for number in range(5)]
    assert [len(batch) for batch in in_batches(files, 2)] == [2, 2, 1]
    assert [file for batch in in_batches(files, 2) for file in batch] == files


def test_names_of_pictures(tmp_path: Path) -> None:
    pictures = PictureFolder(tmp_path / "new" / "folder")
    saved = [pictures.save(source, "boxes", picture) for source in ("a/x.png", "b/x.jpg", "y.png")]
    names = [Path(path).name for paths in saved for path in paths]
    assert names == ["x.boxes.png", "x-2.boxes.png", "y.boxes.png"]
    assert all(Path(path).is_file() for paths in saved for path in paths)


def test_no_folder_no_picture() -> None:
    assert PictureFolder(None).save("x.png", "boxes", lambda: pytest.fail("drawn")) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot save .*x\.boxes\.png"):
        PictureFolder(tmp_path / "file" / "folder").save("x.png", "boxes", picture)


def test_without_pillow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing() -> None:
        raise ImportError("pictures need Pillow")

    monkeypatch.setattr(drawing, "require_pillow", missing)
    with pytest.raises(UsageError, match="pictures need Pillow"):
        PictureFolder(tmp_path)
    PictureFolder(None)
