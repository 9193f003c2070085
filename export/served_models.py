"""The models that are served: the name of each, its task, and the weights it ships with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import models
from models.common.run_folder import RunFolder

_PACKAGES = Path(models.__file__).parent


@dataclass(frozen=True)
class ServedModel:
    """What is published under a name unless another run is asked for.

    Attributes:
        task: whose signatures it answers; the package in `models` and the module in `export`.
        weights: the run folder that ships, within the task's package. Where it does not exist
            yet, a TINY model is trained instead.
    """

    task: str
    weights: str = "weights"

    def shipped_run(self) -> Path | None:
        """Returns the folder of the shipped weights, None where there are none."""
        folder = _PACKAGES / self.task / self.weights
        return folder if RunFolder(folder).details.is_file() else None


SERVED: Mapping[str, ServedModel] = MappingProxyType(
    {
        "face": ServedModel("face"),
        "detection": ServedModel("detection"),
        "segmentation": ServedModel("segmentation"),
        "translation": ServedModel("translation", "weights/en_fr"),
        "translation_dates": ServedModel("translation", "weights/dates"),
        "sentiment": ServedModel("sentiment"),
    }
)
"""Several models may have the same task."""
