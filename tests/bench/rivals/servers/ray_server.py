"""Serves the job with Ray Serve."""

import threading
from typing import Any

import ray
from job import Job, this_job
from ray import serve
from rows import RowModel
from starlette.requests import Request

JOB = this_job()


@serve.deployment(max_ongoing_requests=1000, ray_actor_options={"num_cpus": 1})
class BenchDeployment:
    """Rows in JSON; Ray Serve joins the requests that wait."""

    def __init__(self, job: Job) -> None:
        self._model = RowModel(job)

    @serve.batch(max_batch_size=JOB.max_batch, batch_wait_timeout_s=0.0)
    async def run(self, rows: list[str]) -> list[str]:
        """Runs a batch."""
        return self._model(rows)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answers one request."""
        document = await request.json()
        return {"rows": [await self.run(document["rows"][0])]}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": JOB.port},
        logging_config={"enable_access_log": False},
    )
    serve.run(BenchDeployment.bind(JOB), route_prefix="/predict")
    threading.Event().wait()
