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
    return bias[:, None, None, :] if len(bias.shape) == 2 else bias


def causal_bias(steps: Any) -> Any:
    """Returns what hides the positions after each one, float32 [1, 1, T, T].

    Source: Vaswani et al. 2017, section 3.2.3.
    """
    places = ops.arange(steps, dtype="int32")
    return ops.where(places[None, :] <= places[:, None], 0.0, HIDDEN)[None, None]
