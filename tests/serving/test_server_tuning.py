"""The tuning in a version's manifest, where nobody has chosen batching parameters."""

import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.version_folder import ServingTuning

ROWS = 4


@pytest.fixture
async def start(model_folders, make_manifest, start_server):
    """Starts a server for a model that is tuned to batches of `ROWS` rows."""

    async def start(**flags: Any):
        tuning = ServingTuning(intra_op_threads=1, max_batch_size=ROWS, runs_inline=None)
        model_folders.sentiment(manifest=make_manifest(tuning=tuning))
        return await start_server(
            model_name="sentiment", model_base_path=str(model_folders.model("sentiment")), **flags
        )

    return start


def texts(count: int) -> np.ndarray:
    return np.array([b"good"] * count, dtype=object)


async def most_rows_joined(running) -> int:
    """Sends 64 requests at once; gives the bound of the largest run in the metrics."""
    inputs = {"text": texts(1)}
    await asyncio.gather(*(running.predict("sentiment", inputs) for _ in range(64)))
    page = running.server.metrics.render().decode()
    buckets = re.findall(r'processed_batch_size_bucket\{le="([0-9]+)"\} ([0-9]+)', page)
    total = max(int(runs) for _, runs in buckets)
    return min(int(bound) for bound, runs in buckets if int(runs) == total)


async def test_batches_grow_no_larger_than_is_worth_it(start) -> None:
    running = await start(enable_batching=True)
    assert await most_rows_joined(running) <= ROWS


async def test_a_large_request_is_answered_all_the_same(start) -> None:
    running = await start(enable_batching=True)
    outputs = await running.outputs("sentiment", {"text": texts(500)})
    assert outputs["label"].tolist() == [b"positive"] * 500


@pytest.mark.parametrize("runtime", ["auto", "onnx"])
async def test_options_of_the_version(start, model_folders, runtime: str) -> None:
    running = await start(enable_batching=True, runtime=runtime)
    options = running.server._batching_of(model_folders.model("sentiment") / "1")
    assert options.max_joined_rows == ROWS
    assert options.max_batch_size == 1000


async def test_explicit_parameters_win(start, model_folders, tmp_path: Path) -> None:
    path = tmp_path / "batching.config"
    path.write_text("max_batch_size { value: 32 }")
    running = await start(enable_batching=True, batching_parameters_file=str(path))
    options = running.server._batching_of(model_folders.model("sentiment") / "1")
    assert (options.max_joined_rows, options.max_batch_size) == (None, 32)


async def test_without_batching_every_request_runs_alone(start, model_folders) -> None:
    running = await start()
    options = running.server._batching_of(model_folders.model("sentiment") / "1")
    assert options.max_batch_requests == 1
