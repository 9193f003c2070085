"""Canary, promotion and rollback by labels, on running servers of either engine.

The model config file says what is served; the servers are told of each step by
HandleReloadConfigRequest, and the file is written once all of them have taken it. A label only
ever moves to a version that answers already, so callers who ask for the label `stable` notice
nothing. Who asks for no label gets the newest version that is loaded, the canary included.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import text_format

from export.repository import ModelRepository, RepositoryError
from protocol.errors import ServiceError, UnavailableError, error_from_status, status_of
from protocol.messages import GetModelStatusRequest, ModelServerConfig, ReloadConfigRequest
from protocol.services import GET_MODEL_STATUS, HANDLE_RELOAD_CONFIG, stub

STABLE, CANARY = "stable", "canary"

_AVAILABLE, _END = 30, 50
_CALL_S = 60.0
_POLL_S = 0.2


@dataclass(frozen=True)
class Engine:
    """One running server.

    Attributes:
        target: its gRPC address, host:port.
    """

    target: str

    def reload(self, config: Any) -> None:
        """Gives it a new list of models.

        Raises:
            ServiceError: it refuses, or can not be reached; the message names it.
        """
        request = ReloadConfigRequest()
        request.config.CopyFrom(config)
        response = self._call(HANDLE_RELOAD_CONFIG, request)
        if response.status.error_code:
            code = status_of(response.status.error_code) or grpc.StatusCode.UNKNOWN
            raise error_from_status(code, f"{self.target}: {response.status.error_message}")

    def states(self, model: str) -> dict[int, tuple[int, str]]:
        """Returns state and error of each version of a model.

        Raises:
            ServiceError: it knows no such model, or can not be reached.
        """
        request = GetModelStatusRequest()
        request.model_spec.name = model
        response = self._call(GET_MODEL_STATUS, request)
        return {
            each.version: (each.state, each.status.error_message)
            for each in response.model_version_status
        }

    def wait_for(self, model: str, version: int, timeout_s: float) -> None:
        """Waits until a version answers requests.

        Raises:
            ServiceError: it failed to load, or does not answer in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            state, error = self.states(model).get(version, (0, ""))
            if state == _AVAILABLE:
                return
            if error or state == _END or time.monotonic() > deadline:
                raise UnavailableError(
                    f"{self.target}: version {version} of {model} is not available"
                    f"{': ' + error if error else ''}"
                )
            time.sleep(_POLL_S)

    def _call(self, method: Any, request: Any) -> Any:
        with grpc.insecure_channel(self.target) as channel:
            try:
                return stub(channel, method)(request, timeout=_CALL_S)
            except grpc.RpcError as failure:
                details = f"{self.target}: {failure.details()}"
                raise error_from_status(failure.code(), details) from failure


@dataclass(frozen=True)
class Releases:
    """Releases of the models in one config file.

    Attributes:
        config_file: a `ModelServerConfig` in protobuf's text format, which the servers read.
        engines: the servers to tell.
        repository: where the versions are.
        timeout_s: how long a version may take to load.
    """

    config_file: Path
    engines: Sequence[Engine]
    repository: ModelRepository
    timeout_s: float = 300.0

    def canary(self, model: str, version: int | None = None) -> tuple[int, int]:
        """Serves a version beside the stable one, under the label `canary`.

        Args:
            model: name of the model.
            version: which one; the newest that is published where None.

        Returns:
            (stable version, canary).

        Raises:
            RepositoryError: there is nothing to compare the version with.
            ServiceError: a server refuses, or can not load it; the former state is restored.
        """
        stable = self._stable(model)
        chosen = max(self.repository.versions(model), default=0) if version is None else version
        if chosen == stable:
            raise RepositoryError(f"version {stable} of {model} is stable already")
        self._move(model, {STABLE: stable}, {STABLE: stable, CANARY: chosen})
        return stable, chosen

    def promote(self, model: str) -> tuple[int, int]:
        """Makes the canary the stable version, and unloads the former one.

        Returns:
            (former version, version now stable).

        Raises:
            RepositoryError: there is no canary.
            ServiceError: a server refuses; the former state is restored.
        """
        stable, labels = self._stable(model), self._labels(model)
        if CANARY not in labels:
            raise RepositoryError(f"{model} has no canary; `canary` makes one")
        chosen = labels[CANARY]
        self._move(model, labels, {STABLE: chosen})
        return stable, chosen

    def rollback(self, model: str) -> tuple[int, int]:
        """Takes the canary back; without one, returns to the version before the stable one.

        Returns:
            (version taken back, version now stable).

        Raises:
            RepositoryError: there is no older version.
            ServiceError: a server refuses, or can not load it; the former state is restored.
        """
        stable, labels = self._stable(model), self._labels(model)
        if CANARY in labels:
            self._move(model, labels, {STABLE: stable})
            return labels[CANARY], stable
        older = [each for each in self.repository.versions(model) if each < stable]
        if not older:
            raise RepositoryError(f"{model} has no version below {stable} to return to")
        self._move(model, {STABLE: stable}, {STABLE: older[-1]})
        return stable, older[-1]

    def _move(self, model: str, before: dict[str, int], after: dict[str, int]) -> None:
        """Goes from some labels to others: load what is new, move the labels, drop what is old."""
        former = self.config_file.read_text(encoding="utf-8")
        both = {*before.values(), *after.values()}
        try:
            self._apply(self._with(model, both, before))
            for version in both:
                for engine in self.engines:
                    engine.wait_for(model, version, self.timeout_s)
            self._apply(self._with(model, both, after))
            self._apply(self._with(model, set(after.values()), after))
        except ServiceError:
            try:
                self._apply(_parsed(former))
            finally:
                self.config_file.write_text(former, encoding="utf-8")
            raise

    def _apply(self, config: Any) -> None:
        for engine in self.engines:
            engine.reload(config)
        comments = [
            line
            for line in self.config_file.read_text(encoding="utf-8").splitlines()
            if line.startswith("#")
        ]
        text = "".join(f"{line}\n" for line in comments) + text_format.MessageToString(config)
        self.config_file.write_text(text, encoding="utf-8")

    def _with(self, model: str, versions: set[int], labels: dict[str, int]) -> Any:
        config = self._read()
        entry = _entry(config, model)
        entry.model_version_policy.specific.versions[:] = sorted(versions)
        entry.version_labels.clear()
        entry.version_labels.update(labels)
        return config

    def _stable(self, model: str) -> int:
        """The stable version: the label's, else the newest that answers."""
        labels = self._labels(model)
        if STABLE in labels:
            return labels[STABLE]
        states = self.engines[0].states(model)
        available = [version for version, (state, _) in states.items() if state == _AVAILABLE]
        if not available:
            raise RepositoryError(f"{self.engines[0].target} serves no version of {model}")
        return max(available)

    def _labels(self, model: str) -> dict[str, int]:
        return dict(_entry(self._read(), model).version_labels)

    def _read(self) -> Any:
        return _parsed(self.config_file.read_text(encoding="utf-8"))


def _parsed(text: str) -> Any:
    try:
        return text_format.Parse(text, ModelServerConfig())
    except text_format.ParseError as error:
        raise RepositoryError(f"the model config file can not be read: {error}") from error


def _entry(config: Any, model: str) -> Any:
    for entry in config.model_config_list.config:
        if entry.name == model:
            return entry
    names = ", ".join(entry.name for entry in config.model_config_list.config)
    raise RepositoryError(f"the model config file has no model {model!r}; it has: {names}")
