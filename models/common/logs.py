"""Logging of the commands: our lines, without TensorFlow's chatter."""

import logging
import os
import sys


def configure_logging() -> None:
    """Sends our messages to standard error and TensorFlow's only if they are errors.

    Call it before TensorFlow is imported.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
