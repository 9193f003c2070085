"""Watches drift from the caller's side, for servers that do not; needs prometheus-client.

TensorFlow Serving does not look at what it answers. A caller who has the version folders at hand
can: give a `DriftRecorder` to a client, and let Prometheus scrape the caller.
"""

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from clients.calls import Prediction
from protocol.contracts import SERVING_DEFAULT
from protocol.drift_metrics import drift_metrics
from protocol.errors import ServiceError
from protocol.features import WatchedVersion, watched_version

log = logging.getLogger(__name__)


class DriftRecorder(Collector):
    """Compares a client's requests and answers with the reference of the version that answered.

    The gauges are those of the embedded server, see `protocol.drift_metrics`, so the same
    dashboards and alerts show them.

    Args:
        repository: The model repository, with a manifest in each version's folder.
        rate: Share of the requests to look at, 0 to 1; reading one takes up to milliseconds.
        registry: Where the gauges go; None for Prometheus' default one.
        source: Random numbers in [0, 1).
    """

    def __init__(
        self,
        repository: Path | str,
        rate: float = 1.0,
        registry: CollectorRegistry | None = None,
        source: Callable[[], float] = random.random,
    ) -> None:
        if not 0 <= rate <= 1:
            raise ValueError(f"rate: expected 0 to 1, got {rate}")
        self._repository = Path(repository)
        self._rate = rate
        self._source = source
        self._versions: dict[tuple[str, str], WatchedVersion | None] = {}
        (registry or REGISTRY).register(self)

    def record(self, inputs: Mapping[str, npt.ArrayLike], prediction: Prediction) -> None:
        """Looks at one request and its answer; what can not be read is left out."""
        if prediction.signature not in ("", SERVING_DEFAULT) or self._source() >= self._rate:
            return
        version = (prediction.model, str(prediction.version))
        if version not in self._versions:
            self._versions[version] = watched_version(self._repository / version[0] / version[1])
        watched = self._versions[version]
        if watched is None:
            return
        arrays = {name: _array(value) for name, value in inputs.items()}
        try:
            watched.watch.add(watched.read(arrays, prediction.outputs))
        except (KeyError, ServiceError) as error:
            log.info("A request to %s could not be read: %r", prediction.model, error)

    def collect(self) -> Iterator[Metric]:
        """The gauges as they are now."""
        watched = {name: each for name, each in self._versions.items() if each is not None}
        return drift_metrics({name: each.watch.report() for name, each in watched.items()})


def _array(value: npt.ArrayLike) -> npt.NDArray[Any]:
    """Strings as the servers see them: bytes."""
    array = np.asarray(value)
    if array.dtype.kind not in "USO":
        return array
    texts = [item.encode() if isinstance(item, str) else bytes(item) for item in array.flat]
    found = np.empty(len(texts), dtype=object)
    found[:] = texts
    return found.reshape(array.shape)
