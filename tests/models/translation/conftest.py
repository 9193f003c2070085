import pytest

from models.common.run_folder import RunFolder
from models.translation.config import TINY
from models.translation.synthetic import make_source
from models.translation.train import train


@pytest.fixture(scope="session")
def tiny_translation_run(tmp_path_factory):
    """A run folder of the TINY preset, trained once."""
    folder = tmp_path_factory.mktemp("translation") / "run"
    train(TINY, [make_source()], RunFolder(folder))
    return folder
