"""What tests of several model packages share."""

from collections.abc import Iterator

import pytest
import tensorflow as tf


@pytest.fixture
def eagerly() -> Iterator[None]:
    """Runs training step by step: for a few steps, to trace one costs more than all of them take.

    The TINY runs of the session train as users do, on traced steps.
    """
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
