"""LitServe, which speaks HTTP."""

from pathlib import Path

from tests.bench.apis import RowsApi
from tests.bench.rivals.rival import Launch, Rival, script
from tests.bench.rivals.servers.job import Job


def launch(environment: Path, job: Job, folder: Path) -> Launch:
    """Starts the script."""
    return Launch(script(environment, "litserve_server.py"))


RIVAL = Rival("litserve", "LitServe 0.2.19 (HTTP)", "litserve==0.2.19", RowsApi(), launch)
