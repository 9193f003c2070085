"""What attention must not see, as terms to add to its scores."""

from typing import Any

from keras import ops

# Far below any score, and still a number in half precision.
HIDDEN = -1e4


def padding_bias(seen: Any) -> Any:
    """Returns 0 where `seen`, else a large negative number.

    Args:
        seen: bool [N, S], or any other shape.

    Returns:
        float32 [N, 1, 1, S] for two dimensions, else the shape of `seen`.
    """
    bias = ops.where(seen, 0.0, HIDDEN)
    return ops.expand_dims(bias, (1, 2)) if len(bias.shape) == 2 else bias


def causal_bias(steps: Any) -> Any:
    """Returns what hides the positions after each one, float32 [1, 1, T, T].

    Source: Vaswani et al. 2017, section 3.2.3.
    """
    places = ops.arange(steps, dtype="int32")
    later = ops.expand_dims(places, 0) > ops.expand_dims(places, 1)
    return ops.expand_dims(ops.where(later, HIDDEN, 0.0), (0, 1))
