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

_WARM_UP_S = 1
_CONNECTIONS = 8


@dataclass(frozen=True)
class Load:
    """What one run of h2load saw.

    Attributes:
        per_second: answers per second.
        p50_ms: median latency.
        p99_ms: its 99th percentile.
        client_cpu_us: processor time of the client per request.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    client_cpu_us: float


def send(
    port: int, path: str, body: bytes, answer_bytes: int, concurrency: int, seconds: float
) -> Load:
    """Sends one request again and again.

    Args:
        port: of the server.
        path: of the method.
        body: the request with gRPC's prefix.
        answer_bytes: of the body of a good answer.
        concurrency: requests at once; up to 8 connections share them.
        seconds: for how long, after a second of warming up.

    Raises:
        SystemExit: if an answer is missing or has another size.
    """
    connections = min(concurrency, _CONNECTIONS)
    with tempfile.TemporaryDirectory() as folder:
        data, log = Path(folder) / "body", Path(folder) / "log"
        data.write_bytes(body)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        output = subprocess.run(
            [
                "h2load", "-t1", f"-c{connections}", f"-m{concurrency // connections}",
                f"-D{seconds:g}", f"--warm-up-time={_WARM_UP_S}", "-d", str(data),
                "-H", "content-type: application/grpc", "-H", "te: trailers",
                f"--log-file={log}", f"http://127.0.0.1:{port}{path}",
            ],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times_ms = np.loadtxt(log, usecols=2, dtype=np.int64) / 1e3
    done = _number(r"requests: (\d+) total", output)
    received = _number(r"traffic: .* \((\d+)\) data", output)  # with those of the warm-up
    if received % answer_bytes or received < done * answer_bytes:
        raise SystemExit(
            f"error: {done} answers have {received} bytes, expected {answer_bytes} each:\n{output}"
        )
    cpu_s = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return Load(
        per_second=done / seconds,
        p50_ms=float(np.percentile(times_ms, 50)),
        p99_ms=float(np.percentile(times_ms, 99)),
        client_cpu_us=cpu_s / (done * (seconds + _WARM_UP_S) / seconds) * 1e6,
    )


def _number(pattern: str, output: str) -> int:
    found = re.search(pattern, output)
    if found is None:
        raise SystemExit(f"error: h2load printed something else than expected:\n{output}")
    return int(found[1])
