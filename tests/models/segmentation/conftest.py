from dataclasses import replace

import pytest

from models.common.run_folder import RunFolder
from models.segmentation.config import TINY
from models.segmentation.signature import load_model
from models.segmentation.synthetic import make_source
from models.segmentation.train import train


@pytest.fixture(scope="session")
def tiny_segmentation_run(tmp_path_factory):
    """The run folder of a TINY U-Net, trained on made-up cells."""
    folder = tmp_path_factory.mktemp("segmentation") / "tiny"
    config = replace(TINY, training=replace(TINY.training, epochs=2, crops_per_image=2))
    train(config, [make_source(48)], RunFolder(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_segmentation_model(tiny_segmentation_run):
    return load_model(tiny_segmentation_run)
