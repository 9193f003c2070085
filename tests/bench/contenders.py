"""What is measured side by side: raw engines, our server by both faces, and rivals."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import grpc

from clients.demo.server_process import ServerProcess
from tests.bench import process_tree
from tests.bench.apis import Api, Call, PredictApi, answer_size, ask, difference
from tests.bench.figures import Figures
from tests.bench.load import LoadError, send
from tests.bench.rivals.rival import SERVERS, Rival
from tests.bench.rivals.servers.job import ENVIRONMENT_VARIABLE, Job
from tests.bench.subjects import THREADS, Subject

RAW_ENGINES = {"raw ONNX Runtime": "onnx", "raw TensorFlow": "saved_model"}
FACES = {"this server": "nghttp2", "this server, grpcio": "grpcio"}
MAX_BATCH = 64

_ROOT = Path(__file__).resolve().parents[2]
_START_TIMEOUT_S = 120.0
_FIRST_ANSWER_TIMEOUT_S = 30.0
_POLL_S = 0.2


class StartError(RuntimeError):
    """A server did not start, or does not answer as the raw model does."""


class Contender(Protocol):
    """Something that runs and can be measured."""

    def sizes(self, subject: Subject) -> tuple[int, ...]:
        """How many requests at once, or rows in a batch, it is measured with."""

    def measure(self, size: int, seconds: float) -> Figures:
        """Measures it.

        Raises:
            LoadError: it did not answer as it should.
        """


class RawProcess:
    """A raw engine; see `raw_process`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def sizes(self, subject: Subject) -> tuple[int, ...]:
        """See `Contender`."""
        return subject.raw_batches

    def measure(self, size: int, seconds: float) -> Figures:
        """See `Contender`; runs batches of equal rows."""
        command = json.dumps({"batch": size, "seconds": seconds})
        _pipe(self._process.stdin).write(command + "\n")
        _pipe(self._process.stdin).flush()
        answer = _pipe(self._process.stdout).readline()
        if not answer:
            raise SystemExit("error: a raw engine has ended; its message is above")
        peak_mb = process_tree.peak_mb(self._process.pid)
        return Figures(**json.loads(answer), client_cpu_us=0.0, memory_mb=peak_mb)


@dataclass(frozen=True)
class Server:
    """A server, paused except while it is measured.

    Attributes:
        pid: of its first process.
        port: on which it takes requests.
        call: the request.
        answer_bytes: of the data of a good answer.
    """

    pid: int
    port: int
    call: Call
    answer_bytes: int

    def sizes(self, subject: Subject) -> tuple[int, ...]:
        """See `Contender`."""
        return subject.concurrencies

    def measure(self, size: int, seconds: float) -> Figures:
        """See `Contender`; the warm-up counts for the processor time too."""
        with process_tree.awake(self.pid):
            before = process_tree.cpu_s(self.pid)
            load = send(self.port, self.call, self.answer_bytes, size, seconds)
            cpu_s = process_tree.cpu_s(self.pid) - before
            self._finish()
        return Figures(
            per_second=load.per_second,
            p50_ms=load.p50_ms,
            p99_ms=load.p99_ms,
            cpu_us=cpu_s / load.answers * 1e6,
            client_cpu_us=load.client_cpu_us,
            memory_mb=process_tree.peak_mb(self.pid),
        )

    def _finish(self) -> None:
        """Waits for what was still under way.

        A server that adapts its batches to the time they take must not be paused amid one.
        """
        try:
            ask(self.port, self.call, _FIRST_ANSWER_TIMEOUT_S)
        except (OSError, grpc.RpcError) as error:
            raise LoadError(f"no answer after the load: {error}") from error


@contextmanager
def raw_engine(engine: str, subject: Subject) -> Iterator[RawProcess]:
    """Starts a raw engine."""
    with tempfile.NamedTemporaryFile() as request:
        call = PredictApi().call(subject.name, subject.inputs)
        request.write(call.message)
        request.flush()
        command = [
            *(sys.executable, "-m", "tests.bench.raw_process", engine),
            *(str(subject.folder), request.name, str(THREADS)),
        ]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield RawProcess(process)
            finally:
                process.kill()


@contextmanager
def our_server(face: str, subject: Subject) -> Iterator[Server]:
    """Starts our server.

    Raises:
        ServerStartError: it does not start.
        StartError: it answers something else than the raw model.
    """
    flags = (f"--tensorflow_intra_op_parallelism={THREADS}", f"--grpc_face={face}")
    with ServerProcess(subject.repository, [subject.name], flags) as server:
        server.wait_until_serving(_START_TIMEOUT_S)
        port = int(server.target.partition(":")[2])
        try:
            yield _checked_server(server.pid, port, PredictApi(), subject)
        finally:
            process_tree.resume(server.pid)


@contextmanager
def rival_server(rival: Rival, subject: Subject) -> Iterator[Server]:
    """Starts a rival.

    Raises:
        StartError: it does not start, or answers something else than the raw model.
    """
    if not rival.is_installed:
        raise StartError("not installed")
    with tempfile.TemporaryDirectory(prefix=f"{rival.name}-") as folder:
        job = make_job(subject, *_free_ports(4))
        log = Path(folder) / "log"
        process = _start(rival, job, Path(folder), log)
        try:
            _wait(process, job.port, rival.api.call(subject.name, subject.inputs), log)
            yield _checked_server(process.pid, job.port, rival.api, subject)
        finally:
            process_tree.stop(process)


def make_job(subject: Subject, port: int, *spare_ports: int) -> Job:
    """Describes a subject to a rival."""
    return Job(
        model=subject.name,
        folder=str(subject.folder),
        port=port,
        spare_ports=spare_ports,
        threads=THREADS,
        max_batch=MAX_BATCH,
        input=subject.input,
        outputs=subject.outputs,
    )


def _start(rival: Rival, job: Job, folder: Path, log: Path) -> "subprocess.Popen[bytes]":
    """Starts a rival's process, the first of a session of its own."""
    (folder / "work").mkdir()
    job.write(folder / "job.json")
    launch = rival.launch(rival.environment, job, folder / "work")
    variables = {
        **os.environ,
        ENVIRONMENT_VARIABLE: str(folder / "job.json"),
        "ORT_DISABLE_TELEMETRY": "1",
        "PATH": f"{rival.environment / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": f"{SERVERS}:{_ROOT}",  # the neighbours of its script, and `protocol`
        **launch.variables,
    }
    with log.open("wb") as output:
        return subprocess.Popen(
            launch.command, env=variables, cwd=folder, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip


def _wait(process: "subprocess.Popen[bytes]", port: int, call: Call, log: Path) -> None:
    """Asks again and again until there is an answer."""
    started = time.monotonic()
    while time.monotonic() - started < _START_TIMEOUT_S:
        if process.poll() is not None:
            raise StartError(f"did not start: ended with {process.returncode}: {_last_line(log)}")
        try:
            ask(port, call, _FIRST_ANSWER_TIMEOUT_S)
        except (OSError, grpc.RpcError):
            time.sleep(_POLL_S)
        else:
            return
    raise StartError(f"did not start: no answer in {_START_TIMEOUT_S:g} s: {_last_line(log)}")


def _checked_server(pid: int, port: int, api: Api, subject: Subject) -> Server:
    """Asks once and compares the answer with the raw model's."""
    call = api.call(subject.name, subject.inputs)
    answer = ask(port, call, _FIRST_ANSWER_TIMEOUT_S)
    wrong = difference(subject.answer, api.read(answer, subject.outputs))
    if wrong:
        raise StartError(f"answers wrongly: {wrong}")
    process_tree.pause(pid)
    return Server(pid, port, call, answer_size(call, answer))


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "(its log is empty)"


def _free_ports(count: int) -> tuple[int, ...]:
    """Returns ports nobody listens on now; they are held together so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return tuple(held.getsockname()[1] for held in sockets)
    finally:
        for held in sockets:
            held.close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise RuntimeError("the raw engine has no such pipe")
    return pipe
