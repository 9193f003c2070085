"""BentoML, which speaks HTTP."""

from pathlib import Path

from tests.bench.apis import RowsApi
from tests.bench.rivals.rival import SERVERS, Launch, Rival
from tests.bench.rivals.servers.job import Job


def launch(environment: Path, job: Job, folder: Path) -> Launch:
    """Serves the service of the script."""
    command = [
        *(str(environment / "bin" / "bentoml"), "serve", "bentoml_service:BenchService"),
        *("--working-dir", str(SERVERS), "--host", "127.0.0.1", "--port", str(job.port)),
    ]
    return Launch(command, {"BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True"})


RIVAL = Rival("bentoml", "BentoML 1.4.40 (HTTP)", "bentoml==1.4.40", RowsApi(), launch)
