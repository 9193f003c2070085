"""Disks and folders that fail under a server: what was loaded goes on serving."""

import asyncio
import os
import signal
from pathlib import Path

import grpc

from tests.soak.report import Finding
from tests.soak.server import (
    MODEL,
    Server,
    predict_request,
    predict_stub,
    publish,
    running_server,
    write_config,
)
from tests.soak.swaps import predict_once

POLLS_S = 1.0


async def faults(base: Path, face: str) -> list[Finding]:
    """Takes a folder away, makes one unreadable, fills the disk of the access log."""
    publish(base, 1)
    publish(base, 1, "other")
    write_config(base, MODEL, "other")
    findings = []
    async with running_server(base, face, "--access_log=/dev/full") as server:
        await predict_once(server)
        findings.append(await _finding(server, "a full disk under the access log"))
        (base / MODEL).rename(base / "away")
        publish(base, 2, "other")
        await asyncio.sleep(POLLS_S)
        findings.append(await _finding(server, "a base path that vanished"))
        newer = await _answer(server, "other")
        findings.append(
            Finding(
                "faults", "new version of another model", newer, "version 2", newer == "version 2"
            )
        )
        (base / "away").rename(base / MODEL)
        publish(base, 2)
        (base / MODEL / "2" / "model.onnx").chmod(0)
        await asyncio.sleep(POLLS_S)
        findings.append(
            await _finding(server, "a version that can not be read", root=os.getuid() == 0)
        )
        server.process.send_signal(signal.SIGTERM)
        status = await asyncio.wait_for(server.process.wait(), 30)
        findings.append(
            Finding("faults", "exit status after SIGTERM", str(status), "0", status == 0)
        )
    return findings


async def _finding(server: Server, what: str, *, root: bool = False) -> Finding:
    """Whether the model answers with the version that it had; root can read what nobody may."""
    seen = await _answer(server, MODEL)
    return Finding("faults", what, seen, "version 1", seen == "version 1" or root)


async def _answer(server: Server, name: str) -> str:
    async with server.channel() as channel:
        try:
            answer = await predict_stub(channel)(predict_request(4.0, name), timeout=20)
        except grpc.aio.AioRpcError as error:
            return error.code().name
    return f"version {answer.model_spec.version.value}"
