"""The folder of one training run, and of the weights that ship: same files, same names."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunFolder:
    """Names the files of a run.

    A run that trains writes all of them; the shipped copy in `models/<name>/weights` holds the
    configuration, the assets, the log, the float16 weights and the metrics only.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration, JSON."""
        return self.path / "config.json"

    @property
    def assets(self) -> Path:
        """What the signature needs besides weights: vocabulary, labels."""
        return self.path / "assets"

    @property
    def best_weights(self) -> Path:
        """Weights of the epoch with the best dev score."""
        return self.path / "best.weights.h5"

    @property
    def last_weights(self) -> Path:
        """Weights of the newest epoch."""
        return self.path / "last.weights.h5"

    @property
    def float16_weights(self) -> Path:
        """The weights to ship."""
        return self.path / "weights.float16.npz"

    @property
    def log(self) -> Path:
        """One line an epoch, CSV."""
        return self.path / "log.csv"

    @property
    def plots(self) -> Path:
        """Pictures of the run."""
        return self.path / "plots"

    @property
    def backup(self) -> Path:
        """State from which an interrupted run resumes."""
        return self.path / "backup"

    @property
    def tensorboard(self) -> Path:
        """Event files for TensorBoard."""
        return self.path / "tensorboard"

    @property
    def details(self) -> Path:
        """What export needs to know of the run: labels, temperature, data digests, metrics."""
        return self.path / "run.json"

    def create(self) -> "RunFolder":
        """Makes the folder and its sub-folders; existing ones are kept."""
        for folder in (self.path, self.assets, self.plots):
            folder.mkdir(parents=True, exist_ok=True)
        return self

    def write_details(self, details: dict[str, Any]) -> None:
        """Writes `run.json`."""
        self.details.write_text(json.dumps(details, indent=2) + "\n", encoding="utf-8")

    def read_details(self) -> dict[str, Any]:
        """Reads `run.json`.

        Raises:
            FileNotFoundError: if the folder is not a finished run; the message says what is there.
        """
        if not self.details.is_file():
            there = sorted(p.name for p in self.path.iterdir()) if self.path.is_dir() else []
            raise FileNotFoundError(
                f"{self.path} holds no finished run (no run.json); found: {there}"
            )
        details: dict[str, Any] = json.loads(self.details.read_text(encoding="utf-8"))
        return details
