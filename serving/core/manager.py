"""Loads, warms up and unloads versions so that a wanted model always stays available."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Hashable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from protocol.errors import (
    FailedPreconditionError,
    InvalidRequestError,
    NotFoundError,
    ServiceError,
    UnknownError,
)
from serving.core.servable import (
    AspiredVersion,
    Loader,
    Servable,
    ServableHandle,
    ServableId,
    ServableState,
    VersionStatus,
)

log = logging.getLogger(__name__)

# Ended versions that GetModelStatus still lists: how many of a model, and for how long.
_ENDED_VERSIONS_KEPT = 10
_ENDED_KEPT_S = 24 * 3600.0


@dataclass(frozen=True)
class ModelChoice:
    """Which model a request asks for: the latest version, one number, or one label."""

    name: str
    version: int | None = None
    label: str | None = None


@dataclass(frozen=True)
class LoadRetries:
    """How often a failed load is tried again, and how long to wait before each try."""

    count: int = 5
    interval_s: float = 60.0


Listener = Callable[[VersionStatus, ServableHandle | None], None]


@dataclass(eq=False)
class _Version:
    """One version's record, from its first sight until it is forgotten."""

    id: ServableId
    aspired: AspiredVersion
    state: ServableState = ServableState.START
    error: ServiceError | None = None
    handle: ServableHandle | None = None
    dropped: bool = False
    files: Hashable = None
    looked_at: bool = False
    ended: float = 0.0
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def drop(self) -> None:
        """Gives the version up; a wait for its next attempt ends."""
        self.dropped = True
        self.woken.set()

    @property
    def settled(self) -> bool:
        """Whether the first attempt to load it is over, for better or worse."""
        return self.state >= ServableState.AVAILABLE or self.error is not None

    @property
    def status(self) -> VersionStatus:
        return VersionStatus(self.id, self.state, self.aspired.folder, self.error)


@dataclass(eq=False)
class _Model:
    """All versions of one model, the wanted numbers, and the newest that can be used."""

    name: str
    wanted: dict[int, AspiredVersion] = field(default_factory=dict)
    versions: dict[int, _Version] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    latest: ServableHandle | None = None

    def available(self) -> dict[int, _Version]:
        return {
            number: version
            for number, version in self.versions.items()
            if version.state is ServableState.AVAILABLE
        }

    def handle(self, number: int | None) -> ServableHandle | None:
        """The handle of a version that can be used; None asks for the newest."""
        if number is None:
            return self.latest
        version = self.versions.get(number)
        if version is None or version.state is not ServableState.AVAILABLE:
            return None
        return version.handle

    def refresh_latest(self) -> None:
        available = self.available()
        self.latest = available[max(available)].handle if available else None

    def forget_ended(self) -> None:
        ended = sorted(
            number
            for number, version in self.versions.items()
            if version.state is ServableState.END and number not in self.wanted
        )
        oldest = time.monotonic() - _ENDED_KEPT_S
        for number in ended:
            if number in ended[-_ENDED_VERSIONS_KEPT:] and self.versions[number].ended > oldest:
                continue
            del self.versions[number]


class Manager:
    """Owns every loaded version; lives on the event loop, loads in `executor`'s threads.

    A new version loads beside the old one and takes over when it is warm; the old one is unloaded
    when its last request is answered. A version that fails to load leaves the old one serving; it
    is tried again after a while, and as soon as `aspire` finds that its files have changed.

    Args:
        loader: Makes servables; called in `executor`.
        executor: Threads for loading.
        retries: What to do after a failed load.
        closing: Threads for closing; None closes in the threads for loading.

    Attributes:
        generation: Grows whenever `find` may give another answer than before.
    """

    def __init__(
        self,
        loader: Loader,
        executor: Executor,
        retries: LoadRetries | None = None,
        closing: Executor | None = None,
    ) -> None:
        self._loader = loader
        self._executor = executor
        self._closing = closing or executor
        self._retries = retries or LoadRetries()
        self._models: dict[str, _Model] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._closed = False
        self._listeners: list[Listener] = []
        self.generation = 0

    def subscribe(self, listener: Listener) -> None:
        """Calls `listener` after every change of a version's state."""
        self._listeners.append(listener)

    # What should be served.

    def aspire(self, name: str, versions: Sequence[AspiredVersion]) -> None:
        """Sets the versions that should be served; loading and unloading start at once."""
        if self._closed:
            return
        model = self._models.get(name)
        if model is None:
            if not versions:
                return
            model = self._models[name] = _Model(name)
        model.wanted = {aspired.version: aspired for aspired in versions}
        for number, version in model.versions.items():
            if number not in model.wanted:
                version.drop()
        self._reconcile(model)
        self._look_at_failures(model)
        model.forget_ended()

    def set_labels(self, name: str, labels: Mapping[str, int]) -> None:
        """Replaces the labels of a model."""
        model = self._models.setdefault(name, _Model(name))
        model.labels = dict(labels)
        self.generation += 1

    def check_labels(
        self, name: str, labels: Mapping[str, int], *, new_may_wait: bool = False
    ) -> None:
        """Checks that labels point at versions that can be used now.

        Args:
            name: The model.
            labels: The labels it should get.
            new_may_wait: Allow a label the model does not have yet to name any version.

        Raises:
            FailedPreconditionError: A label names a version that is not available.
        """
        model = self._models.get(name, _Model(name))
        available = model.available()
        for label, number in labels.items():
            if number in available or (new_may_wait and label not in model.labels):
                continue
            raise FailedPreconditionError(
                f"Request to assign label to version {number} of model {name}, which is not "
                f"currently available for inference; available versions: {_numbers(available)}"
            )

    # What is served.

    def find(self, choice: ModelChoice) -> ServableHandle:
        """The handle of the chosen version; enter it before the next await.

        Raises:
            NotFoundError: Unknown model, or the version is not available.
            InvalidRequestError: Unknown label.
        """
        model = self._models.get(choice.name)
        number = choice.version
        if choice.label is not None:
            number = self._labelled(model, choice)
        handle = model.handle(number) if model is not None else None
        if handle is not None:
            return handle
        name = choice.name
        wanted = f"Latest({name})" if number is None else f"Specific({name}, {number})"
        raise NotFoundError(f"Servable not found for request: {wanted}; {self._served(name)}")

    def statuses(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """The states of a model's versions, newest first.

        Raises:
            NotFoundError: The model, or its version, was never seen.
        """
        model = self._models.get(name)
        if model is None or not model.versions:
            raise NotFoundError(
                f"Could not find any versions of model {name}; {self._served(name)}"
            )
        if version is None:
            return [model.versions[number].status for number in sorted(model.versions)[::-1]]
        if version not in model.versions:
            raise NotFoundError(
                f"Could not find version {version} of model {name}; "
                f"known versions: {_numbers(model.versions)}"
            )
        return [model.versions[version].status]

    def is_available(self, name: str) -> bool:
        """Whether the model has a version that answers requests."""
        model = self._models.get(name)
        return model is not None and model.latest is not None

    # Waiting.

    async def settled(self, names: Collection[str]) -> None:
        """Waits until each wanted version of the models is available or failed its first load."""
        while not all(self._is_settled(name) for name in names):
            await self._changed.wait()

    def failures(self, name: str) -> list[VersionStatus]:
        """The wanted versions of a model that are not available."""
        model = self._models.get(name)
        if model is None:
            return []
        return [
            model.versions[number].status
            for number in model.wanted
            if number in model.versions
            and model.versions[number].state is not ServableState.AVAILABLE
        ]

    async def close(self) -> None:
        """Drops every version and waits until the last is closed; nothing is loaded afterwards."""
        for name in list(self._models):
            self.aspire(name, [])
        self._closed = True
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # The life of a version.

    def _reconcile(self, model: _Model) -> None:
        """Starts whatever brings the model closer to its wanted versions."""
        for number in sorted(model.wanted, reverse=True):
            known = model.versions.get(number)
            if known is None or (known.state is ServableState.END and known.dropped):
                self._start(model, model.wanted[number])
            elif known.state <= ServableState.AVAILABLE:
                known.dropped = False
                if known.error is not None:
                    # The folder may bear another name by now.
                    known.aspired = model.wanted[number]
        available = model.available()
        unwanted = [number for number in sorted(available) if number not in model.wanted]
        if model.wanted and len(unwanted) == len(available):
            # The newest serves until a wanted one can.
            unwanted = unwanted[:-1]
        for number in unwanted:
            self._spawn(self._unload(model, available[number]))
            self._move(model, available[number], ServableState.UNLOADING)

    def _start(self, model: _Model, aspired: AspiredVersion) -> None:
        version = _Version(ServableId(model.name, aspired.version), aspired)
        model.versions[aspired.version] = version
        self._move(model, version, ServableState.LOADING)
        self._spawn(self._load(model, version))

    async def _load(self, model: _Model, version: _Version) -> None:
        log.info("Loading servable version %s from %s", version.id, version.aspired.folder)
        servable = await self._attempt(version)
        retries = 0
        while servable is None and retries < self._retries.count and not version.dropped:
            self._announce(version)
            if not await _happens(version.woken, self._retries.interval_s):
                retries += 1
            version.woken.clear()
            if not version.dropped:
                count = self._retries.count
                log.info("Loading %s again; retries: %d of %d", version.id, retries, count)
                servable = await self._attempt(version)
        if servable is None:
            self._move(model, version, ServableState.END)
        else:
            version.error = None
            version.handle = ServableHandle(version.id, servable, version.aspired.folder)
            self._move(model, version, ServableState.AVAILABLE)
            log.info("Successfully loaded servable version %s", version.id)
        self._reconcile(model)

    async def _attempt(self, version: _Version) -> Servable | None:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self._load_files, version)
        except ServiceError as error:
            version.error = error
        except Exception as error:
            log.exception("Loading %s ended in an unexpected error", version.id)
            version.error = UnknownError(f"{type(error).__name__}: {error}")
        log.error("Loading servable %s failed: %s", version.id, version.error)
        return None

    def _load_files(self, version: _Version) -> Servable:
        """Remembers what the folder held before this attempt; blocking."""
        version.files = self._loader.fingerprint(version.aspired)
        return self._loader.load(version.id, version.aspired)

    def _look_at_failures(self, model: _Model) -> None:
        """Looks whether the files of wanted versions that failed have changed."""
        for number in model.wanted:
            version = model.versions.get(number)
            if version is not None and version.error is not None and not version.looked_at:
                version.looked_at = True
                self._spawn(self._look_at_files(model, version))

    async def _look_at_files(self, model: _Model, version: _Version) -> None:
        number = version.id.version
        try:
            loop = asyncio.get_running_loop()
            files = await loop.run_in_executor(
                self._executor, self._loader.fingerprint, version.aspired
            )
        finally:
            version.looked_at = False
        wanted = model.wanted.get(number)
        if files == version.files or wanted is None or model.versions.get(number) is not version:
            return
        log.info("The files of %s have changed", version.id)
        version.woken.set()
        if version.state is ServableState.END:
            self._start(model, wanted)

    async def _unload(self, model: _Model, version: _Version) -> None:
        handle = version.handle
        if handle is None:
            return
        await handle.unused()
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._closing, handle.servable.close)
        except Exception:
            log.exception("Closing %s ended in an unexpected error", version.id)
        self._move(model, version, ServableState.END)
        version.handle = None
        log.info("Done unloading servable version %s", version.id)
        self._reconcile(model)

    def _move(self, model: _Model, version: _Version, state: ServableState) -> None:
        if not version.state.may_become(state):
            raise RuntimeError(f"{version.id} can not go from {version.state!r} to {state!r}")
        version.state = state
        self.generation += 1
        if state is ServableState.END:
            version.ended = time.monotonic()
        model.refresh_latest()
        model.forget_ended()
        self._announce(version)

    def _announce(self, version: _Version) -> None:
        for listener in self._listeners:
            listener(version.status, version.handle)
        self._changed.set()
        self._changed = asyncio.Event()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Words for messages.

    def _is_settled(self, name: str) -> bool:
        model = self._models.get(name)
        return model is None or all(
            number in model.versions and model.versions[number].settled for number in model.wanted
        )

    def _labelled(self, model: _Model | None, choice: ModelChoice) -> int:
        labels = model.labels if model is not None else {}
        if choice.label is not None and choice.label in labels:
            return labels[choice.label]
        raise InvalidRequestError(
            f"Unrecognized servable version label: {choice.label}; labels of model "
            f"{choice.name}: {', '.join(sorted(labels)) or 'none'}"
        )

    def _served(self, name: str) -> str:
        """What a caller who asked for the wrong thing could ask for."""
        model = self._models.get(name)
        if model is not None and model.latest is not None:
            return f"available versions of {name}: {_numbers(model.available())}"
        names = sorted(name for name, model in self._models.items() if model.latest is not None)
        return f"served models: {', '.join(names) or 'none'}"


def _numbers(versions: Collection[int]) -> str:
    return ", ".join(map(str, sorted(versions))) or "none"


async def _happens(event: asyncio.Event, timeout_s: float) -> bool:
    """Waits at most `timeout_s` seconds for the event, and tells whether it happened."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
