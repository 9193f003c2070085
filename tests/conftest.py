"""What every test may use: the repository's root and the data sets."""

import os
from pathlib import Path

import pytest

# Before any test imports ONNX Runtime itself.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

REPOSITORY = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("DATA_DIR") or REPOSITORY.parent / "shared" / "data")


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
