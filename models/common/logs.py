"""Logging of the commands: our lines, without the chatter of the libraries."""

import logging
import os
import sys

OURS = ("models", "export")


def configure_logging() -> None:
    """Sends our messages to standard error, and those of libraries only if they are errors.

    Call it before TensorFlow is imported.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stderr)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
