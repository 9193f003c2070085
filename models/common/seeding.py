"""One call that makes a run repeatable on one machine."""

import keras


def set_seed(seed: int) -> None:
    """Seeds Python, NumPy and the Keras backend, and asks TensorFlow for deterministic kernels.

    With the same packages and the same machine a run then repeats to the printed metric.
    """
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
