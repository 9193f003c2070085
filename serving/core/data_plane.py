"""What a client can ask of the server, free of any wire protocol.

Faces (gRPC, HTTP) translate their messages into these calls and dataclasses and back; what
they ask happens here and in the `Predictor`, once for all of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.errors import ServiceError, UnknownError
from serving.core.batching import BatchingOptions, BatchScheduler
from serving.core.drift import DriftMonitor
from serving.core.manager import Manager, ModelChoice
from serving.core.metrics import ServerMetrics
from serving.core.model_config import ModelConfig, check_model_configs
from serving.core.predictor import PredictCall, Prediction, Predictor
from serving.core.servable import ServableHandle, ServableId, ServableState, VersionStatus
from serving.core.source import FileSystemSource

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Metadata:
    """The signatures of a version, as a `SignatureDefMap` message."""

    id: ServableId
    signature_defs: Any


class DataPlane:
    """Answers predictions, metadata, status and reloads over the models of a manager.

    Args:
        manager: Holds the loaded versions.
        source: Watches the folders.
        metrics: Where everything is counted.
        batching: Gives the batching options of a version folder.
        scheduler: Runs the batches.
        executor: Threads for preparing large inputs.
        drift: Is given samples of requests.
        labels_may_wait: Whether a new label may name a version that is not loaded yet.
        check_method_names: Whether a signature answers only the method it was exported for.

    Attributes:
        predictor: Makes the predictions.
    """

    def __init__(
        self,
        manager: Manager,
        source: FileSystemSource,
        metrics: ServerMetrics,
        batching: Callable[[Path], BatchingOptions],
        scheduler: BatchScheduler,
        executor: Executor,
        drift: DriftMonitor,
        *,
        labels_may_wait: bool = False,
        check_method_names: bool = False,
    ) -> None:
        self._manager = manager
        self._source = source
        self._metrics = metrics
        self.predictor = Predictor(
            manager,
            metrics,
            batching,
            scheduler,
            executor,
            lambda: source.configs,
            drift,
            check_method_names=check_method_names,
        )
        self._labels_may_wait = labels_may_wait
        self._configuring = asyncio.Lock()
        self._changed = asyncio.Event()
        self._draining = False
        manager.subscribe(self._on_state)

    # Predictions.

    async def predict(self, call: PredictCall, pinned: ServableHandle | None = None) -> Prediction:
        """Makes one prediction; see `Predictor`."""
        return await self.predictor.predict(call, pinned)

    @property
    def generation(self) -> int:
        """Changes whenever a model may be answered by another version: routes end then."""
        return self._manager.generation

    def pin(self, model: ModelChoice) -> ServableHandle:
        """The chosen version, for several predictions by the same one: `with` keeps it loaded.

        Raises:
            NotFoundError: No such model or version.
            InvalidRequestError: No such label.
        """
        return self._manager.find(model)

    def count_examples(self, model: str, examples: int) -> None:
        """Records how many examples a request of MultiInference held."""
        self._metrics.tf.request_example_counts.observe(examples, model)
        self._metrics.tf.request_example_count_total.add(model, amount=examples)

    # Questions about what is served.

    def metadata(self, model: ModelChoice) -> Metadata:
        """The signatures of a version.

        Raises:
            NotFoundError: No such model or version.
            InvalidRequestError: No such label.
        """
        handle = self._manager.find(model)
        return Metadata(handle.id, handle.servable.signature_defs())

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """The states of a model's versions, newest first.

        Raises:
            NotFoundError: No such model or version.
        """
        return self._manager.statuses(name, version)

    def counters(self, names: Iterable[str]) -> dict[str, int]:
        """The totals of TensorFlow Serving's counters; names that do not exist are left out."""
        totals = {name: self._metrics.tf.counter_total(name) for name in names}
        return {name: total for name, total in totals.items() if total is not None}

    @property
    def model_names(self) -> list[str]:
        """The configured models."""
        return sorted(self._source.configs)

    def is_available(self, name: str) -> bool:
        """Whether a model answers requests."""
        return not self._draining and self._manager.is_available(name)

    @property
    def is_serving(self) -> bool:
        """Whether the server as a whole is of use: not draining, and some model answers."""
        names = self.model_names
        return not self._draining and (not names or any(map(self._manager.is_available, names)))

    @property
    def is_draining(self) -> bool:
        """Whether the server is on its way out."""
        return self._draining

    async def changed(self) -> None:
        """Waits until something about availability may have changed."""
        await self._changed.wait()

    # What should be served.

    async def configure(self, configs: Sequence[ModelConfig]) -> None:
        """Sets the first list of models and waits until each has loaded, or failed to.

        Raises:
            InvalidRequestError: The list is wrong in itself.
        """
        async with self._configuring:
            check_model_configs(configs)
            await self._apply(configs)
            await self._manager.settled([config.name for config in configs])

    async def reload(self, configs: Sequence[ModelConfig]) -> None:
        """Replaces the list of models; returns when every new one is available.

        Raises:
            InvalidRequestError: The list is wrong; nothing was changed.
            FailedPreconditionError: A label names a version that is not loaded; nothing changed.
            UnknownError: A new model did not become available; the other changes stand.
        """
        async with self._configuring:
            current = self._source.configs
            check_model_configs(configs, current)
            for config in configs:
                self._manager.check_labels(
                    config.name, config.labels, new_may_wait=self._labels_may_wait
                )
            await self._apply(configs)
            new = [config.name for config in configs if config.name not in current]
            await self._manager.settled(new)
            self._check_available(new)

    def drain(self) -> None:
        """Reports NOT_SERVING from now on; requests are still answered."""
        self._draining = True
        self._announce()

    async def _apply(self, configs: Sequence[ModelConfig]) -> None:
        removed = self._source.configs.keys() - {config.name for config in configs}
        for name in removed:
            self._manager.set_labels(name, {})
            self._metrics.forget_model(name)
        for config in configs:
            self._manager.set_labels(config.name, config.labels)
        self._source.configure(configs)
        await self._source.poll()
        self._announce()

    def _check_available(self, names: Sequence[str]) -> None:
        failed = [
            f"{{{status.id} due to error: {_described(status.error)}}}, "
            for name in names
            for status in self._manager.failures(name)
        ]
        failed += [
            f"{{{{name: {name}}} due to error: NOT_FOUND: {self._source.problem(name)}}}, "
            for name in names
            if self._source.problem(name)
        ]
        if failed:
            raise UnknownError(
                f"{len(failed)} model(s) did not become available: {{{''.join(failed)}}}"
            )

    def _on_state(self, status: VersionStatus, handle: ServableHandle | None) -> None:
        self._metrics.state_changed(status.id, status.state)
        if status.state is ServableState.END and handle is not None:
            self.predictor.forget(handle)
            self._metrics.forget_path(str(status.folder))
            if status.id.name not in self._source.configs:
                self._metrics.forget_model(status.id.name)
        self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _described(error: ServiceError | None) -> str:
    return f"{error.status.name}: {error}" if error is not None else "OK"
