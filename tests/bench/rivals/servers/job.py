"""What a rival shall serve: the file that tells its process."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ENVIRONMENT_VARIABLE = "BENCH_JOB"


@dataclass(frozen=True)
class Tensor:
    """An input or output: its name, numpy dtype and the shape of one row."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Job:
    """A model and where to serve it.

    Attributes:
        model: name to serve it under.
        folder: version folder with model.onnx.
        port: on which requests come.
        spare_ports: for whatever else the server listens to.
        threads: of ONNX Runtime.
        max_batch: most rows to join.
        input: the one input.
        outputs: in the order of answers.
    """

    model: str
    folder: str
    port: int
    spare_ports: tuple[int, ...]
    threads: int
    max_batch: int
    input: Tensor
    outputs: tuple[Tensor, ...]

    def write(self, path: Path) -> None:
        """Writes the job as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Job":
        """Reads what `write` wrote."""
        document = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            **{
                **document,
                "spare_ports": tuple(document["spare_ports"]),
                "input": _tensor(document["input"]),
                "outputs": tuple(map(_tensor, document["outputs"])),
            }
        )


def this_job() -> Job:
    """Returns the job of this process."""
    return Job.read(Path(os.environ[ENVIRONMENT_VARIABLE]))


def _tensor(document: dict[str, Any]) -> Tensor:
    return Tensor(document["name"], document["dtype"], tuple(document["shape"]))
