"""KServe's Python server."""

from pathlib import Path

from tests.bench.apis import ModelInferApi
from tests.bench.rivals.rival import Launch, Rival, script
from tests.bench.rivals.servers.job import Job


def launch(environment: Path, job: Job, folder: Path) -> Launch:
    """Starts the script."""
    return Launch(script(environment, "kserve_server.py"))


RIVAL = Rival("kserve", "KServe 0.21.0", "kserve==0.21.0", ModelInferApi(), launch)
