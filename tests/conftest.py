"""What every test may use: the repository's root, the data sets, TINY models trained once."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.common.data_dir import data_dir as datasets_folder

# Before any test imports ONNX Runtime itself.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

REPOSITORY = Path(__file__).resolve().parent.parent
DATA_DIR = REPOSITORY / datasets_folder()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder that holds the data sets; tests that use it carry the `data` marker."""
    return DATA_DIR


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `data` tests whose data sets are missing: `@pytest.mark.data("sent_sst2")`."""
    for item in items:
        for marker in item.iter_markers("data"):
            missing = [name for name in marker.args or ("",) if not (DATA_DIR / name).is_dir()]
            if missing:
                reason = f"no folder {DATA_DIR / missing[0]}: set DATA_DIR to the data sets"
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a TINY sentiment classifier, trained on synthetic reviews."""
    from models.common.run_folder import RunFolder
    from models.sentiment.config import TINY
    from models.sentiment.synthetic import make_source
    from models.sentiment.train import train

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train(TINY, [make_source()], RunFolder(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_run: Path) -> Any:
    """The same classifier as a `SentimentModel`."""
    from models.sentiment.signature import load_model

    return load_model(tiny_run)


@pytest.fixture(scope="session")
def face_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a TINY recogniser, trained on drawn faces."""
    from models.common.run_folder import RunFolder
    from models.face.config import TINY
    from models.face.synthetic import make_source
    from models.face.train import train

    folder = tmp_path_factory.mktemp("runs") / "face"
    train(TINY, make_source(TINY.training), RunFolder(folder))
    return folder


@pytest.fixture(scope="session")
def face_model(face_run: Path) -> Any:
    """The same recogniser as a `FaceModel`."""
    from models.face.signature import load_model

    return load_model(face_run)


@pytest.fixture(scope="session")
def tiny_segmentation_source() -> Any:
    """Made-up cells."""
    from models.segmentation.synthetic import make_source

    return make_source(48)


@pytest.fixture(scope="session")
def tiny_segmentation_run(
    tiny_segmentation_source: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The run folder of a TINY U-Net, trained on them."""
    from models.common.run_folder import RunFolder
    from models.segmentation.config import TINY
    from models.segmentation.train import train

    folder = tmp_path_factory.mktemp("segmentation") / "tiny"
    config = replace(TINY, training=replace(TINY.training, epochs=2, crops_per_image=2))
    train(config, [tiny_segmentation_source], RunFolder(folder))
    return folder
