"""Triton's server, in the wheel of PyTriton, which has its Python backend only."""

import shutil
import sys
from pathlib import Path

from tests.bench.apis import ModelInferApi
from tests.bench.rivals.rival import SERVERS, Launch, Rival
from tests.bench.rivals.servers.job import Job, Tensor
from tests.bench.rivals.servers.raw_tensors import DATATYPES

_TRITON_TYPES = {"BYTES": "STRING"}
_STUB = "triton_python_backend_stub"


def launch(environment: Path, job: Job, folder: Path) -> Launch:
    """Writes a model repository; waiting requests are joined at once."""
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    triton = environment / "lib" / python / "site-packages" / "pytriton" / "tritonserver"
    model = folder / "repository" / job.model
    (model / "1").mkdir(parents=True)
    shutil.copy(SERVERS / "triton_model.py", model / "1" / "model.py")
    (model / "config.pbtxt").write_text(config(job), encoding="utf-8")
    backends = triton / "backends"
    stub = triton / "python_backend_stubs" / python.removeprefix("python") / _STUB
    if not (backends / "python" / _STUB).exists():  # nobody has chosen a Python yet
        (backends / "python" / _STUB).symlink_to(stub)
    command = [
        str(triton / "bin" / "tritonserver"),
        f"--model-repository={model.parent}",
        f"--backend-directory={backends}",
        f"--grpc-port={job.port}",
        "--allow-http=false",
        "--allow-metrics=false",
    ]
    return Launch(command)


def config(job: Job) -> str:
    """Returns the text of config.pbtxt."""
    return "\n".join(
        [
            f'name: "{job.model}"',
            'backend: "python"',
            f"max_batch_size: {job.max_batch}",
            _tensor("input", job.input),
            *(_tensor("output", output) for output in job.outputs),
            "instance_group { count: 1 kind: KIND_CPU }",
            "dynamic_batching { }",
            "",
        ]
    )


def _tensor(role: str, tensor: Tensor) -> str:
    datatype = DATATYPES[tensor.dtype]
    kind = f"TYPE_{_TRITON_TYPES.get(datatype, datatype)}"
    sizes = tensor.shape if role == "input" else (-1,) * len(tensor.shape)
    dims = ", ".join(map(str, sizes))
    return f'{role} {{ name: "{tensor.name}" data_type: {kind} dims: [ {dims} ] }}'


RIVAL = Rival(
    "triton", "Triton (PyTriton 0.7.0)", "nvidia-pytriton==0.7.0", ModelInferApi(), launch
)
