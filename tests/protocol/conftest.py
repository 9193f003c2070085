"""The official packages are the reference that this package is compared with."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
