"""The service of BentoML, which joins requests before it calls it."""

import bentoml
from job import this_job
from rows import RowModel

JOB = this_job()


@bentoml.service(workers=1, threads=1, traffic={"timeout": 60, "max_concurrency": 1000})
class BenchService:
    """Rows in JSON."""

    def __init__(self) -> None:
        self._model = RowModel(JOB)

    @bentoml.api(route="/predict", batchable=True, max_batch_size=JOB.max_batch)
    def predict(self, rows: list[str]) -> list[str]:
        """Runs a batch."""
        return self._model(rows)
