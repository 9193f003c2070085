"""Ray Serve, by HTTP."""

from pathlib import Path

from tests.bench.apis import RowsApi
from tests.bench.rivals.rival import Launch, Rival, script
from tests.bench.rivals.servers.job import Job


def launch(environment: Path, job: Job, folder: Path) -> Launch:
    """Starts the script, and with it a cluster of this machine."""
    variables = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(folder)}
    return Launch(script(environment, "ray_server.py"), variables)


RIVAL = Rival("ray", "Ray Serve 2.60.0 (HTTP)", "ray[serve]==2.60.0", RowsApi(), launch)
