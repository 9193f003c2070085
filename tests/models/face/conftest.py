"""A TINY recogniser, trained once for all tests of the package."""

from pathlib import Path

import pytest

from models.common.run_folder import RunFolder
from models.face.config import TINY
from models.face.signature import FaceModel, load_model
from models.face.synthetic import make_source
from models.face.train import train


@pytest.fixture(scope="session")
def face_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a TINY recogniser, trained on drawn faces."""
    folder = tmp_path_factory.mktemp("runs") / "face"
    train(TINY, make_source(TINY.training), RunFolder(folder))
    return folder


@pytest.fixture(scope="session")
def face_model(face_run: Path) -> FaceModel:
    """The same recogniser, loaded."""
    return load_model(face_run)
