"""Serves the job with LitServe."""

from typing import Any

import litserve
from job import Job, this_job
from rows import RowModel


class BenchApi(litserve.LitAPI):
    """Rows in JSON; LitServe joins the requests that wait."""

    def __init__(self, job: Job) -> None:
        super().__init__(max_batch_size=job.max_batch, batch_timeout=0.0)
        self._job = job

    def setup(self, device: str) -> None:
        """Loads the model in the process that runs it."""
        self._model = RowModel(self._job)

    def decode_request(self, request: dict[str, Any]) -> str:
        """Takes the one row of a request."""
        return request["rows"][0]

    def batch(self, inputs: list[str]) -> list[str]:
        """Keeps the rows as they are."""
        return inputs

    def predict(self, x: list[str]) -> list[str]:
        """Runs a batch."""
        return self._model(x)

    def unbatch(self, output: list[str]) -> list[str]:
        """Keeps the rows as they are."""
        return output

    def encode_response(self, output: str) -> dict[str, Any]:
        """Puts the row into the answer."""
        return {"rows": [output]}


if __name__ == "__main__":
    job = this_job()
    server = litserve.LitServer(BenchApi(job), accelerator="cpu", timeout=False)
    server.run(
        host="127.0.0.1",
        port=job.port,
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
