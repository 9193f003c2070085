"""MLServer, with its adaptive batching."""

import json
from pathlib import Path
from typing import Any

from tests.bench.apis import ModelInferApi
from tests.bench.rivals.rival import Launch, Rival
from tests.bench.rivals.servers.job import Job

_BATCH_WAIT_S = 0.001  # it must be positive


def launch(environment: Path, job: Job, folder: Path) -> Launch:
    """Writes its settings: no further processes, since the model is one of few cores."""
    http, metrics = job.spare_ports[:2]
    settings = {
        "host": "127.0.0.1",
        "grpc_port": job.port,
        "http_port": http,
        "metrics_port": metrics,
        "parallel_workers": 0,
        "debug": False,
    }
    model_settings = {
        "name": job.model,
        "implementation": "mlserver_model.BenchModel",
        "max_batch_size": job.max_batch,
        "max_batch_time": _BATCH_WAIT_S,
    }
    _write(folder / "settings.json", settings)
    _write(folder / "model-settings.json", model_settings)
    return Launch([str(environment / "bin" / "mlserver"), "start", str(folder)])


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")


RIVAL = Rival("mlserver", "MLServer 1.7.1", "mlserver==1.7.1", ModelInferApi(), launch)
