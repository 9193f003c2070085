"""Clients that share no code with grpcio: grpc-js on Node.js, and nghttp2's load generator."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from serving.faces.http2.messages import framed

SCRIPT = Path(__file__).with_name("grpc_js_client.js")
PACKAGE = "@grpc/grpc-js@1.14.7"


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory) -> Path:
    """A folder with grpc-js, installed from the package registry."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs Node.js and npm")
    folder = tmp_path_factory.mktemp("node")
    once = ["--fetch-retries=0", "--fetch-timeout=60000"]
    command = ["npm", "install", *once, "--no-audit", "--no-fund", "--prefix", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip(f"npm can not install {PACKAGE}: {done.stderr[-300:]}")
    return folder / "node_modules"


@pytest.mark.e2e
@pytest.mark.parametrize("compression", ["0", "2"])  # identity, gzip
async def test_grpc_js(start, run_apart, node_modules, compression) -> None:
    port = await start()
    output = await run_apart(
        ["node", str(SCRIPT), f"localhost:{port}", compression],
        env={**os.environ, "NODE_PATH": str(node_modules)},
    )
    seen = json.loads(output)
    error = seen.pop("error")
    assert (error["code"], error["details"]) == (3, "no \u2014 100 %\n")
    assert seen == {
        "hello": "hello",
        "trailer": "hi",
        "empty": 0,
        "large": True,
        "unknown": 12,
        "deadline": 4,
        "cancelled": 1,
        "stream": {"code": 0, "answers": ["0", "1", "2"]},
        "chat": ["ONE", "TWO"],
        "many": True,
        "after_pings": "still",
    }


@pytest.mark.e2e
async def test_h2load(start, run_apart, tmp_path) -> None:
    if not shutil.which("h2load"):
        pytest.skip("needs h2load (Debian: nghttp2-client)")
    port = await start()
    body = tmp_path / "body"
    body.write_bytes(framed(b"hello"))
    output = await run_apart(
        [
            "h2load", "-n5000", "-c8", "-m16", "-d", str(body),
            "-H", "content-type: application/grpc", "-H", "te: trailers",
            f"http://127.0.0.1:{port}/test.Test/Echo",
        ]
    )  # fmt: skip
    assert "5000 succeeded, 0 failed, 0 errored" in output
    assert "5000 2xx" in output
    sent = re.search(r"([\d.]+[KMG]?B) \((\d+)\) data", output)
    assert sent is not None
    assert int(sent[2]) == 5000 * len(framed(b"hello"))
