"""Load from h2load: prebuilt requests, and a client that costs next to nothing itself.

h2load ignores gRPC's status, so the bytes of the answers are counted instead.
"""

import re
import resource
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.bench.apis import Call

_WARM_UP_S = 1
_CONNECTIONS = 8
_PATIENCE_S = 60.0


class LoadError(RuntimeError):
    """The server did not answer as it should."""


@dataclass(frozen=True)
class Load:
    """What one run of h2load saw.

    Attributes:
        per_second: answers per second.
        p50_ms: median latency.
        p99_ms: its 99th percentile.
        client_cpu_us: processor time of the client per request.
        answers: how many there were, with those of the warm-up.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    client_cpu_us: float
    answers: int


def send(port: int, call: Call, answer_bytes: int, concurrency: int, seconds: float) -> Load:
    """Sends one request again and again.

    Args:
        port: of the server.
        call: the request.
        answer_bytes: of the body of a good answer.
        concurrency: requests at once; up to 8 connections share them, or as many as there are
            requests where one carries a request at a time (HTTP/1.1).
        seconds: for how long, after a second of warming up.

    Raises:
        LoadError: no answer came in time, or one is missing or has another size.
    """
    with tempfile.TemporaryDirectory() as folder:
        data, log = Path(folder) / "body", Path(folder) / "log"
        data.write_bytes(call.body)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        output = _run(_command(port, call, concurrency, seconds, data, log), seconds)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        done, answers = counted(output, answer_bytes)
        times_ms = np.loadtxt(log, usecols=2, dtype=np.int64, ndmin=1) / 1e3
    cpu_s = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return Load(
        per_second=done / seconds,
        p50_ms=float(np.percentile(times_ms, 50)),
        p99_ms=float(np.percentile(times_ms, 99)),
        client_cpu_us=cpu_s / answers * 1e6,
        answers=answers,
    )


def counted(output: str, answer_bytes: int) -> tuple[int, int]:
    """Reads what h2load printed.

    Args:
        output: its standard output.
        answer_bytes: of the body of a good answer.

    Returns:
        The answers of the measured time, and those with the warm-up.

    Raises:
        LoadError: there is none, one is missing or has another size.
    """
    done = _number(r"requests: (\d+) total", output)
    received = _number(r"traffic: .* \((\d+)\) data", output)
    if not done:
        raise LoadError("no answer in the measured time")
    if received % answer_bytes or received < done * answer_bytes:
        raise LoadError(f"{done} answers have {received} bytes, expected {answer_bytes} each")
    return done, received // answer_bytes


def _command(
    port: int, call: Call, concurrency: int, seconds: float, data: Path, log: Path
) -> list[str]:
    connections = min(concurrency, _CONNECTIONS) if call.is_grpc else concurrency
    return [
        *("h2load", "-t1", f"-c{connections}", f"-m{concurrency // connections}"),
        *(f"-D{seconds:g}", f"--warm-up-time={_WARM_UP_S}"),
        *([] if call.is_grpc else ["--h1"]),
        *(part for header in call.headers for part in ("-H", header)),
        *("-d", str(data), f"--log-file={log}", f"http://127.0.0.1:{port}{call.path}"),
    ]


def _run(command: list[str], seconds: float) -> str:
    timeout_s = seconds + _WARM_UP_S + _PATIENCE_S
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=timeout_s
        ).stdout
    except subprocess.TimeoutExpired:
        raise LoadError(f"h2load did not end in {timeout_s:g} s") from None
    except subprocess.CalledProcessError as error:
        raise LoadError(f"h2load failed: {error.stderr.strip()}") from error


def _number(pattern: str, output: str) -> int:
    found = re.search(pattern, output)
    if found is None:
        raise LoadError(f"h2load printed something else than expected:\n{output}")
    return int(found[1])
