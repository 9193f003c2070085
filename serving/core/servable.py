"""What is served: identity, life cycle states, and the handle that keeps a version alive.

The vocabulary is the one of TensorFlow Serving: a *source* aspires versions, a *loader* turns a
folder into a *servable*, and requests reach it through a *handle* that counts its users.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import numpy as np

from protocol.contracts import SignatureSpec
from protocol.errors import ServiceError
from protocol.pipelines import Prepared

Tensors = dict[str, np.ndarray[Any, Any]]


class ServableId(NamedTuple):
    """One version of one model."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


class ServableState(enum.IntEnum):
    """Where a version stands in its life; it only ever moves forward.

    The numbers are those of `ModelVersionStatus.State`.
    """

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50

    def may_become(self, following: ServableState) -> bool:
        """Whether a version in this state may move to `following`."""
        return following in _FOLLOWING[self]


_FOLLOWING: Mapping[ServableState, frozenset[ServableState]] = {
    ServableState.START: frozenset({ServableState.LOADING, ServableState.END}),
    ServableState.LOADING: frozenset({ServableState.AVAILABLE, ServableState.END}),
    ServableState.AVAILABLE: frozenset({ServableState.UNLOADING}),
    ServableState.UNLOADING: frozenset({ServableState.END}),
    ServableState.END: frozenset(),
}


@dataclass(frozen=True)
class VersionStatus:
    """What the server tells about one version; `error` explains a failed load."""

    id: ServableId
    state: ServableState
    folder: Path
    error: ServiceError | None = None


class Servable(Protocol):
    """A loaded version. All methods but `signature_defs` may block and run in worker threads."""

    @property
    def runtime(self) -> str:
        """The engine's name, a metric label."""
        ...

    @property
    def signatures(self) -> Mapping[str, SignatureSpec]:
        """What may be asked, by signature name."""
        ...

    @property
    def runs_inline(self) -> bool | None:
        """Whether runs are known to be so short that the event loop does them itself."""
        ...

    def signature_defs(self) -> Any:
        """The signatures as a `SignatureDefMap` message."""
        ...

    def prepares_slowly(self, signature: str) -> bool:
        """Whether `prepare` may take long for small inputs too."""
        ...

    def prepare(self, signature: str, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Prepared:
        """Checks one request's inputs and turns them into the graph's tensors.

        Raises:
            InvalidRequestError: Names, dtypes, ranks or values do not fit.
        """
        ...

    def merge(self, signature: str, items: Sequence[Prepared]) -> Tensors:
        """Joins requests of one batch key along axis 0."""
        ...

    def run(self, signature: str, tensors: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """Runs the graph and returns its raw outputs."""
        ...

    def finish(
        self, signature: str, outputs: Mapping[str, np.ndarray[Any, Any]], prepared: Prepared
    ) -> Tensors:
        """Turns one request's rows of the raw outputs into the signature's outputs."""
        ...

    def warmed_up(self) -> None:
        """Is called once, before the first request: what the warm-up took may be given back."""
        ...

    def close(self) -> None:
        """Gives the memory back; the servable is not used afterwards."""
        ...


@dataclass(frozen=True)
class AspiredVersion:
    """A version that should be served: its number, folder and the platform of its config."""

    version: int
    folder: Path
    platform: str = "tensorflow"


class Loader(Protocol):
    """Turns a version folder into a servable that is ready for its first request."""

    def load(self, servable_id: ServableId, aspired: AspiredVersion) -> Servable:
        """Loads, checks and warms up; blocking.

        Raises:
            ServiceError: The version can not be served; the message says why.
        """
        ...

    def fingerprint(self, aspired: AspiredVersion) -> Hashable:
        """Tells whether the files of a version have changed; blocking.

        Two results are equal if and only if they have not.
        """
        ...


class ServableHandle:
    """A servable in use: `with handle:` around a request keeps the version from being closed."""

    def __init__(self, servable_id: ServableId, servable: Servable, folder: Path) -> None:
        self.id = servable_id
        self.servable = servable
        self.folder = folder
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def users(self) -> int:
        """How many requests hold the handle now."""
        return self._users

    def acquire(self) -> ServableHandle:
        """Keeps the version from being closed, until `release`."""
        if self._users == 0:
            self._unused.clear()
        self._users += 1
        return self

    def release(self) -> None:
        """Undoes one `acquire`."""
        self._users -= 1
        if self._users == 0:
            self._unused.set()

    def __enter__(self) -> ServableHandle:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    async def unused(self) -> None:
        """Waits until no request holds the handle."""
        await self._unused.wait()
