from pathlib import Path

import pytest

from models.common.run_folder import RunFolder
from models.sentiment.config import TINY
from models.sentiment.signature import SentimentModel, load_model
from models.sentiment.synthetic import make_source
from models.sentiment.train import train


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> Path:
    """A TINY classifier trained on synthetic reviews."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train(TINY, [make_source()], RunFolder(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_run) -> SentimentModel:
    return load_model(tiny_run)
