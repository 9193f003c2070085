"""What is found in a model repository."""

from pathlib import Path

from clients.demo.repository import PublishedModel, published_models
from protocol.version_folder import Manifest


def test_models_with_versions(tmp_path: Path) -> None:
    for folder in ("face/1", "face/10", "face/9", "face/tmp", "empty", ".hidden/1"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "face" / "11").write_text("a file, not a folder")
    (tmp_path / "models.config").touch()
    assert published_models(tmp_path) == [
        PublishedModel("face", 10, task="face", folder=tmp_path / "face" / "10")
    ]


def test_task_of_the_manifest(tmp_path: Path) -> None:
    version = tmp_path / "reviews" / "3"
    version.mkdir(parents=True)
    Manifest(task="sentiment", model_name="reviews", created="2025-01-01T00:00:00Z").write(version)
    assert published_models(tmp_path) == [
        PublishedModel("reviews", 3, task="sentiment", folder=version)
    ]


def test_no_repository(tmp_path: Path) -> None:
    assert published_models(tmp_path / "nothing") == []
