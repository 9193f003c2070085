"""Watches the answers of models that know what they were accepted on, a few samples a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from protocol.contracts import SERVING_DEFAULT
from protocol.drift_metrics import drift_metrics
from protocol.errors import ServiceError
from protocol.features import WatchedVersion, watched_version
from serving.core.servable import ServableId

log = logging.getLogger(__name__)

Tensors = Mapping[str, np.ndarray[Any, Any]]


class Sampler:
    """Takes samples of one version's requests.

    Args:
        watched: Reads and remembers their features.
        executor: Threads to read in.
        interval_s: Between two samples, at least.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        watched: WatchedVersion,
        executor: Executor,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.watch = watched.watch
        self._read_features = watched.read
        self._executor = executor
        self._interval_s = interval_s
        self._clock = clock
        self._next = 0.0

    def wants_one(self) -> bool:
        """Whether the next request shall be a sample; then it is the only one for a while."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + self._interval_s
        return True

    def take(self, inputs: Tensors, outputs: Tensors) -> None:
        """Reads a request and its answer, in a thread."""
        self._executor.submit(self._read, inputs, outputs)

    def _read(self, inputs: Tensors, outputs: Tensors) -> None:
        try:
            self.watch.add(self._read_features(inputs, outputs))
        except ServiceError as error:
            log.info("A sample could not be read: %s", error)
        except Exception:
            log.exception("A sample could not be read")


class DriftMonitor(Collector):
    """The samplers of all versions, and their gauges.

    Args:
        executor: Threads to read samples in.
        samples_per_second: Of each version, at most; 0 takes none.
    """

    def __init__(self, executor: Executor, samples_per_second: float) -> None:
        self._executor = executor
        self._samples_per_second = samples_per_second
        self._samplers: dict[ServableId, Sampler] = {}

    def open(self, servable_id: ServableId, folder: Path) -> None:
        """Reads what a version is compared with, if there is anything; blocking."""
        watched = watched_version(folder) if self._samples_per_second > 0 else None
        if watched is not None:
            interval_s = 1 / self._samples_per_second
            self._samplers[servable_id] = Sampler(watched, self._executor, interval_s)

    def sampler(self, servable_id: ServableId, signature: str) -> Sampler | None:
        """The sampler for a signature; None where there is nothing to compare with.

        Args:
            servable_id: The version.
            signature: The signature; only the one for files and texts is watched.
        """
        return self._samplers.get(servable_id) if signature == SERVING_DEFAULT else None

    def forget(self, servable_id: ServableId) -> None:
        """Drops a version that has ended."""
        self._samplers.pop(servable_id, None)

    def collect(self) -> Iterator[Metric]:
        """The gauges as they are now."""
        return drift_metrics(
            {
                (servable_id.name, str(servable_id.version)): sampler.watch.report()
                for servable_id, sampler in list(self._samplers.items())
            }
        )
