"""Proof that an exported file answers as the Keras model does."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np


class ParityError(RuntimeError):
    """An exported file answers otherwise than the Keras model; it does not count."""


@dataclass(frozen=True)
class Parity:
    """How far an engine is from Keras on the same inputs.

    Attributes:
        engine: what was compared, e.g. `onnx`.
        examples: number of inputs.
        max_difference: largest absolute difference of a float output.
        metric: name of the task metric.
        metric_keras: its value for the Keras model on these inputs.
        metric_engine: the engine's.
    """

    engine: str
    examples: int
    max_difference: float
    metric: str
    metric_keras: float
    metric_engine: float

    def as_dict(self) -> dict[str, object]:
        """Returns the fields by name, for the manifest."""
        return asdict(self)


def largest_difference(
    expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], engine: str
) -> float:
    """Compares two answers of one signature, output by output.

    Returns:
        The largest absolute difference among the float outputs.

    Raises:
        ParityError: if an output is missing, has another shape, or differs at all where it is
            not a float.
    """
    if set(expected) != set(found):
        raise ParityError(f"{engine}: outputs {sorted(found)}, expected {sorted(expected)}")
    worst = 0.0
    for name, value in expected.items():
        other = found[name]
        if other.shape != value.shape:
            raise ParityError(f"{engine}: {name} has shape {other.shape}, expected {value.shape}")
        if np.issubdtype(value.dtype, np.floating):
            if not np.isfinite(other).all():
                raise ParityError(f"{engine}: {name} holds NaN or infinity")
            worst = max(worst, float(np.abs(other - value).max(initial=0.0)))
        elif not np.array_equal(value, other):
            rows = int(np.sum(value != other))
            raise ParityError(f"{engine}: {name} differs in {rows} of {value.size} places")
    return worst


def check_parity(parity: Parity, tolerance: float, metric_tolerance: float) -> None:
    """Raises ParityError if the differences exceed the tolerances."""
    if parity.max_difference > tolerance:
        raise ParityError(
            f"{parity.engine}: outputs differ from Keras by {parity.max_difference:.2g}, "
            f"allowed {tolerance:.2g}"
        )
    drop = abs(parity.metric_engine - parity.metric_keras)
    if drop > metric_tolerance:
        raise ParityError(
            f"{parity.engine}: {parity.metric} {parity.metric_engine:.4f} against Keras "
            f"{parity.metric_keras:.4f}, allowed difference {metric_tolerance}"
        )
