"""Which models a server has, and in which versions.

TensorFlow Serving's API lists no models; it tells the versions of those one can name.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from clients.calls import VersionStatus
from clients.predict import AsyncPredictClient
from protocol.contracts import CONTRACTS
from protocol.errors import NotFoundError

DEFAULT_MODELS = (
    "face",
    "detection",
    "segmentation",
    "translation",
    "translation_dates",
    "sentiment",
)
_AVAILABLE = "AVAILABLE"


@dataclass(frozen=True)
class ListedModel:
    """A model one can name, and what the server says about it.

    Args:
        name: Its name.
        versions: Its versions, newest first; empty where the server does not know it.
    """

    name: str
    versions: tuple[VersionStatus, ...]

    @property
    def available(self) -> tuple[int, ...]:
        """The versions that can be asked, newest first."""
        return tuple(found.version for found in self.versions if found.state == _AVAILABLE)

    @property
    def state(self) -> str:
        """What to know about it in a few words."""
        if not self.versions:
            return "not served"
        return ", ".join(_version_state(found) for found in self.versions)


def task_of(model: str) -> str:
    """Returns the task of a model: its name, or what stands before the first underscore.

    Raises:
        ValueError: There is no such task.
    """
    task = model.partition("_")[0]
    if task not in CONTRACTS:
        raise ValueError(
            f"model {model!r}: expected the name of a task ({', '.join(CONTRACTS)}), which "
            "an underscore and more may follow"
        )
    return task


async def list_models(client: AsyncPredictClient, names: Sequence[str]) -> list[ListedModel]:
    """Asks the server for the versions of models.

    Raises:
        ServiceError: The server cannot be reached or refuses; a model that it does not know is
            no error.
    """
    return list(await asyncio.gather(*(_listed(client, name) for name in names)))


async def _listed(client: AsyncPredictClient, name: str) -> ListedModel:
    try:
        return ListedModel(name, await client.status(name))
    except NotFoundError:
        return ListedModel(name, ())


def _version_state(found: VersionStatus) -> str:
    reason = f" ({found.error})" if found.error else ""
    return f"version {found.version} {found.state.lower()}{reason}"
