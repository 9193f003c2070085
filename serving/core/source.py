"""Watches the model repository and says which versions should be served."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

from protocol.errors import NotFoundError
from serving.core.model_config import ModelConfig, SpecificVersions
from serving.core.servable import AspiredVersion

log = logging.getLogger(__name__)

_VERSION_NAME = re.compile(r"[0-9]+")
_LARGEST_VERSION = 2**63 - 1

# When a base path counts as one that does not answer, and how long a poll waits for it.
_SLOW_POLL_S = 10.0
_LONGEST_POLL_S = 15.0

Aspire = Callable[[str, Sequence[AspiredVersion]], None]


def aspired_versions(config: ModelConfig) -> list[AspiredVersion]:
    """Reads a model's base path and applies its version policy; blocking.

    Returns:
        The wanted versions, highest first.

    Raises:
        NotFoundError: The base path can not be read.
    """
    folders = _version_folders(config.folder)
    if isinstance(config.policy, SpecificVersions):
        # An exact folder name wins over another spelling (00000123) of the same number.
        for version in config.policy.versions & folders.keys():
            plain = config.folder / str(version)
            folders[version] = plain if plain.is_dir() else folders[version]
    return [
        AspiredVersion(version, folders[version], config.platform)
        for version in config.policy.choose(folders)
    ]


def _version_folders(base: Path) -> dict[int, Path]:
    """The folders of `base` whose names are version numbers; everything else is skipped."""
    folders: dict[int, Path] = {}
    try:
        named = [child for child in base.iterdir() if _VERSION_NAME.fullmatch(child.name)]
        children = [child for child in sorted(named) if child.is_dir()]
    except OSError as error:
        raise NotFoundError(f"Could not read base path {base}: {error.strerror}") from error
    for child in children:
        version = int(child.name)
        if version > _LARGEST_VERSION:
            log.warning("Skipped %s: the version number does not fit in 64 bits", child)
        elif version in folders:
            log.warning("Skipped %s: %s is the same version", child, folders[version].name)
        else:
            folders[version] = child
    return folders


class FileSystemSource:
    """Polls the base paths of all configured models and passes on the versions wanted.

    Args:
        aspire: Is told the wanted versions of a model.
        executor: Threads for reading folders; each base path that does not answer keeps one.
    """

    def __init__(self, aspire: Aspire, executor: Executor | None = None) -> None:
        self._aspire = aspire
        self._executor = executor
        self._configs: dict[str, ModelConfig] = {}
        self._problems: dict[str, str] = {}
        self._polls: dict[str, tuple[ModelConfig, asyncio.Task[None]]] = {}

    @property
    def configs(self) -> Mapping[str, ModelConfig]:
        """The models that are watched, by name; another mapping when they change."""
        return self._configs

    @property
    def is_idle(self) -> bool:
        """Whether no base path is being read."""
        return all(task.done() for _, task in self._polls.values())

    def problem(self, name: str) -> str:
        """Why the model's base path could not be read at the last poll; empty if it could."""
        return self._problems.get(name, "")

    def configure(self, configs: Sequence[ModelConfig]) -> None:
        """Replaces the watched models; versions of those left out are no longer wanted."""
        new = {config.name: config for config in configs}
        removed = self._configs.keys() - new.keys()
        self._configs = new
        for name in removed:
            self._problems.pop(name, None)
            self._polls.pop(name, None)
            self._aspire(name, [])

    async def poll(self) -> None:
        """Reads every base path once; one that can not be read changes only its own model.

        A base path that does not answer in time is not waited for.
        """
        polls = [self._begin_poll(config) for config in self._configs.values()]
        if polls:
            await asyncio.wait(polls, timeout=_LONGEST_POLL_S)

    async def watch(self, interval_s: float) -> None:
        """Polls for ever, `interval_s` seconds apart, each model on its own."""
        while True:
            await asyncio.sleep(interval_s)
            for config in self._configs.values():
                self._begin_poll(config)

    def _begin_poll(self, config: ModelConfig) -> asyncio.Task[None]:
        """Starts to read a base path, unless that is under way."""
        polled, task = self._polls.get(config.name, (None, None))
        if task is None or task.done() or polled is not config:
            task = asyncio.get_running_loop().create_task(self._poll_model(config))
            self._polls[config.name] = (config, task)
        return task

    async def _poll_model(self, config: ModelConfig) -> None:
        try:
            versions = await self._read(config)
        except NotFoundError as error:
            self._report(config.name, str(error))
        except Exception:
            log.exception("Polling model %s failed", config.name)
        else:
            # The model may have been reconfigured while the folder was read.
            if self._configs.get(config.name) is config:
                self._report(config.name, "" if versions else f"No versions under {config.folder}")
                self._aspire(config.name, versions)

    async def _read(self, config: ModelConfig) -> list[AspiredVersion]:
        reading = asyncio.get_running_loop().run_in_executor(
            self._executor, aspired_versions, config
        )
        done, _ = await asyncio.wait({reading}, timeout=_SLOW_POLL_S)
        if not done:
            self._report(config.name, f"Base path {config.folder} does not answer")
        return await reading

    def _report(self, name: str, problem: str) -> None:
        if problem and self._problems.get(name) != problem:
            log.warning("Model %s: %s", name, problem)
        self._problems[name] = problem
