import pytest

from models.segmentation.signature import load_model


@pytest.fixture(scope="session")
def tiny_segmentation_model(tiny_segmentation_run):
    return load_model(tiny_segmentation_run)
