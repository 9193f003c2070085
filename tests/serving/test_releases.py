"""Canary, promotion and rollback by `export.release`, on a live server under load."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from export.__main__ import main
from export.release import Engine, Releases
from export.repository import ModelRepository, RepositoryError
from protocol.errors import UnavailableError

X = np.ones((1, 3), np.float32)
CALLERS = 4


@pytest.fixture
def config(model_folders) -> Path:
    """Versions 1 and 2 of `half` are published, 1 is served; so is `lookup`."""
    model_folders.half_plus_two(1, offset=1)
    model_folders.lookup()
    entries = "".join(
        f"""
        config {{
          name: "{name}" base_path: "{model_folders.model(name)}" model_platform: "tensorflow"
          model_version_policy {{ specific {{ versions: 1 }} }}
        }}
        """
        for name in ("half", "lookup")
    )
    text = f"# served here\nmodel_config_list {{ {entries} }}\n"
    return model_folders.config_file(text=text)


@pytest.fixture
async def server(config: Path, model_folders, start_server) -> Any:
    server = await start_server(model_config_file=str(config))
    model_folders.half_plus_two(2, offset=2)
    return server


@pytest.fixture
def releases(server: Any, config: Path, model_folders) -> Releases:
    engines = [Engine(f"localhost:{server.port}")]
    return Releases(config, engines, ModelRepository(model_folders.base), timeout_s=10)


@asynccontextmanager
async def load(server: Any, answers: list[float], **choice: Any) -> AsyncIterator[None]:
    """Asks all the time; whatever fails, fails the test."""
    stop = asyncio.Event()

    async def ask() -> None:
        while not stop.is_set():
            outputs = await server.outputs("half", {"x": X}, **choice)
            answers.append(float(outputs["y"][0, 0]))

    tasks = [asyncio.create_task(ask()) for _ in range(CALLERS)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def answer(server: Any, label: str) -> float:
    outputs = await server.outputs("half", {"x": X}, label=label)
    return float(outputs["y"][0, 0])


async def test_no_request_fails_during_any_release(server, releases, model_folders) -> None:
    await asyncio.to_thread(releases.canary, "half", 2)
    await asyncio.to_thread(releases.rollback, "half")
    answers: list[float] = []
    async with load(server, answers, label="stable"):
        assert await asyncio.to_thread(releases.canary, "half") == (1, 2)
        assert await answer(server, "canary") == 2.5
        assert await answer(server, "stable") == 1.5
        assert await asyncio.to_thread(releases.promote, "half") == (1, 2)
        assert await answer(server, "stable") == 2.5
        assert await asyncio.to_thread(releases.rollback, "half") == (2, 1)
        assert await answer(server, "stable") == 1.5
    assert [value for value, _ in itertools.groupby(answers)] == [1.5, 2.5, 1.5]
    assert len(answers) > 3 * CALLERS
    states = await server.states("half")
    assert {version: state for version, state in states.items() if state == 30} == {1: 30}
    assert (await server.states("lookup")) == {1: 30}


async def test_the_canary_can_be_taken_back(server, releases, config) -> None:
    await asyncio.to_thread(releases.canary, "half")
    assert 'key: "canary"' in config.read_text()
    assert await asyncio.to_thread(releases.rollback, "half") == (2, 1)
    assert 'key: "canary"' not in config.read_text()
    assert config.read_text().startswith("# served here\n")
    with pytest.raises(grpc.aio.AioRpcError, match="Unrecognized servable version label: canary"):
        await answer(server, "canary")


async def test_a_canary_that_does_not_load_changes_nothing(
    server, releases, config, model_folders
) -> None:
    before = config.read_text()
    model_folders.broken(3)
    with pytest.raises(UnavailableError, match="version 3 of half is not available"):
        await asyncio.to_thread(releases.canary, "half")
    assert config.read_text() == before
    assert (await server.outputs("half", {"x": X}))["y"][0, 0] == 1.5


async def test_releases_that_make_no_sense_are_refused(releases) -> None:
    for act, text in (
        (lambda: releases.promote("half"), "half has no canary"),
        (lambda: releases.rollback("half"), "no version below 1 to return to"),
        (lambda: releases.canary("half", 1), "version 1 of half is stable already"),
        (lambda: releases.canary("halb"), "no model 'halb'; it has: half, lookup"),
    ):
        with pytest.raises(RepositoryError, match=text):
            await asyncio.to_thread(act)


async def test_commands_leave_lines_in_the_audit_log(server, config, model_folders, capsys) -> None:
    common = ["--repository", str(model_folders.base), "--config", str(config)]
    common += ["--targets", f"localhost:{server.port}"]
    for action in ("canary", "promote", "rollback"):
        assert await asyncio.to_thread(main, [action, "half", *common]) == 0
    assert await asyncio.to_thread(main, ["promote", "half", *common]) == 1
    captured = capsys.readouterr()
    assert "version 2 is the canary, 1 stays stable" in captured.out
    assert "error: half has no canary" in captured.err
    log = (model_folders.base / "audit.log").read_text().splitlines()
    assert [json.loads(line)["action"] for line in log] == ["canary", "promote", "rollback"]
