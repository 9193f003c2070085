"""May a new version take the place of the one that is served? Their metrics decide."""

from collections.abc import Mapping

from export.repository import RepositoryError
from protocol.contracts import DETECTION, FACE, SEGMENTATION, SENTIMENT, TRANSLATION
from protocol.version_folder import Manifest

DEFAULT_MARGIN = 0.01

# The metric that tells how good a model of a task is, and what its best value is.
_METRICS: Mapping[str, tuple[str, float]] = {
    FACE.task: ("accuracy", 1.0),
    DETECTION.task: ("map50", 1.0),
    SEGMENTATION.task: ("mean_iou", 1.0),
    SENTIMENT.task: ("accuracy", 1.0),
    TRANSLATION.task: ("bleu", 100.0),
}


class GateError(RepositoryError):
    """The new version is worse than the one that is served."""


def check_gate(new: Manifest, served: Manifest, margin: float = DEFAULT_MARGIN) -> str:
    """Compares a version with the one that is served, on every data set that both know.

    Args:
        new: manifest of the version to publish.
        served: manifest of the version that is served.
        margin: how much worse it may be on a data set, as a share of the best value.

    Returns:
        What was compared, in words.

    Raises:
        GateError: it is worse by more, or of another task; the message says where.
    """
    if new.task != served.task:
        raise GateError(f"the served version is of the task {served.task}, not {new.task}")
    metric, best = _METRICS[new.task]
    pairs = {
        name: (float(new.metrics[name][metric]), float(served.metrics[name][metric]))
        for name in sorted(new.metrics.keys() & served.metrics.keys())
        if metric in new.metrics[name] and metric in served.metrics[name]
    }
    if not pairs:
        return "not compared: no data set has metrics of both versions"
    words = [
        f"{metric} on {name} {now:.4g} (served {was:.4g})" for name, (now, was) in pairs.items()
    ]
    if any(now < was - margin * best for now, was in pairs.values()):
        raise GateError(
            f"worse than the served version by more than {margin * best:g}: {'; '.join(words)}"
        )
    return "; ".join(words)
