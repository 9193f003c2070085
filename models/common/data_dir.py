"""Where the shared datasets are."""

import os
from pathlib import Path

DEFAULT_DATA_DIR = "../shared/data"


def data_dir() -> Path:
    """Returns the folder of the datasets: the environment variable DATA_DIR, or its default."""
    return Path(os.environ.get("DATA_DIR", DEFAULT_DATA_DIR))
