import shutil

import pytest

from export import FORMATS
from export.version import export_version
from models.sentiment.synthetic import make_examples


@pytest.fixture(scope="session")
def exported(tiny_model, tmp_path_factory):
    """A complete version folder; tests that change files use `version_folder`."""
    folder = tmp_path_factory.mktemp("export") / "version"
    export_version("sentiment", tiny_model, folder, FORMATS, make_examples(100, seed=9))
    return folder


@pytest.fixture
def version_folder(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "version")
