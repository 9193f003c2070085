"""Another model server: what to install, how to start it for a model, how to ask it."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from tests.bench.apis import Api
from tests.bench.rivals.servers.job import Job

ENVIRONMENTS = Path(".venv-bench")
SERVERS = Path(__file__).resolve().parent / "servers"
# What does the work is of the same version everywhere; the rest of what `protocol` imports is not.
_SAME_VERSION = ("onnxruntime", "pillow")
_ANY_VERSION = ("grpcio", "ml-dtypes", "protobuf")
_READY = ".ready"


@dataclass(frozen=True)
class Launch:
    """How a server is started: a command and its own environment variables."""

    command: list[str]
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rival:
    """A model server.

    Attributes:
        name: of its environment, and on the command line.
        title: in tables.
        requirement: the package and its version.
        api: how to ask it.
        launch: from its environment's folder, the job and an empty folder, to a command.
    """

    name: str
    title: str
    requirement: str
    api: Api
    launch: Callable[[Path, Job, Path], Launch]

    @property
    def environment(self) -> Path:
        """The folder of its virtual environment."""
        return (ENVIRONMENTS / self.name).absolute()

    @property
    def is_installed(self) -> bool:
        """Whether `install` has finished, for this version."""
        ready = self.environment / _READY
        return ready.is_file() and ready.read_text(encoding="utf-8").strip() == self.requirement

    def install(self) -> None:
        """Makes the environment; one that failed half-way, or of another version, is made anew.

        Raises:
            RuntimeError: pip failed; the message shows the end of what it said.
        """
        shutil.rmtree(self.environment, ignore_errors=True)
        ENVIRONMENTS.mkdir(exist_ok=True)
        (ENVIRONMENTS / ".gitignore").write_text("*\n", encoding="utf-8")
        subprocess.run([sys.executable, "-m", "venv", str(self.environment)], check=True)
        pins = [f"{name}=={metadata.version(name)}" for name in _SAME_VERSION]
        done = subprocess.run(
            [
                *(str(self.environment / "bin" / "python"), "-m", "pip", "install", "--quiet"),
                *("--disable-pip-version-check", "--no-input"),
                *(self.requirement, *pins, *_ANY_VERSION),
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError("\n".join(done.stderr.splitlines()[-5:]))
        (self.environment / _READY).write_text(self.requirement + "\n", encoding="utf-8")


def script(environment: Path, name: str) -> list[str]:
    """Returns the command that runs one of the scripts in `servers`."""
    return [str(environment / "bin" / "python"), str(SERVERS / name)]
