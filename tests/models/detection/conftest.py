"""A TINY detector trained on drawn shapes, shared by this folder's tests."""

from pathlib import Path

import pytest

from models.common.run_folder import RunFolder
from models.detection.config import TINY
from models.detection.data import Source
from models.detection.signature import DetectionModel, load_model
from models.detection.synthetic import write_source
from models.detection.train import train


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Drawn images: 64 to train on, 24 dev."""
    return write_source(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="session")
def detector_run(shapes: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a TINY detector."""
    folder = tmp_path_factory.mktemp("runs") / "detector"
    train(TINY, shapes, RunFolder(folder))
    return folder


@pytest.fixture(scope="session")
def detector(detector_run: Path) -> DetectionModel:
    """The same, loaded."""
    return load_model(detector_run)
