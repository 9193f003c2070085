import shutil

import pytest

from export.version import FORMATS, export_sentiment
from models.common.run_folder import RunFolder
from models.sentiment.config import TINY
from models.sentiment.signature import load_model
from models.sentiment.synthetic import make_examples, make_source
from models.sentiment.train import train


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """A TINY classifier trained on synthetic reviews."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train(TINY, [make_source()], RunFolder(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_run):
    return load_model(tiny_run)


@pytest.fixture(scope="session")
def exported(tiny_model, tmp_path_factory):
    """A complete version folder; tests that change files use `version_folder`."""
    folder = tmp_path_factory.mktemp("export") / "version"
    export_sentiment(tiny_model, folder, FORMATS, make_examples(100, seed=9))
    return folder


@pytest.fixture
def version_folder(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "version")
