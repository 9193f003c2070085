"""Serves the job with KServe's Python server."""

from pathlib import Path

from job import Job, this_job
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from raw_tensors import DATATYPES
from steps import as_column, as_input, load_steps


class BenchModel(Model):
    """Answers one request at a time: batching is another program in KServe."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.model)
        self._job = job
        self._run = load_steps(Path(job.folder), job.threads)
        self.ready = True

    def predict(
        self,
        payload: InferRequest,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> InferResponse:
        """Runs one request."""
        array = payload.inputs[0].as_numpy()
        found = self._run({self._job.input.name: as_input(array)})
        outputs = []
        for name in (output.name for output in self._job.outputs):
            array = as_column(found[name])
            output = InferOutput(name, list(array.shape), DATATYPES[str(array.dtype)])
            output.set_data_from_numpy(array, binary_data=True)
            outputs.append(output)
        return InferResponse(payload.id or "", self.name, outputs, use_binary_outputs=True)


if __name__ == "__main__":
    job = this_job()
    ModelServer(
        http_port=job.spare_ports[0], grpc_port=job.port, enable_latency_logging=False
    ).start([BenchModel(job)])
