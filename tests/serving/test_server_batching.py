"""Batching parameters, seen by a client."""

import asyncio
from pathlib import Path

import grpc
import numpy as np
import pytest

from protocol.errors import InvalidRequestError


@pytest.fixture
async def start(model_folders, start_server, tmp_path: Path):
    """Starts a server for the model `half` with these batching parameters."""

    async def start(parameters: str):
        path = tmp_path / "batching.config"
        path.write_text(parameters)
        model_folders.half_plus_two(1)
        return await start_server(
            model_name="half",
            model_base_path=str(model_folders.model("half")),
            enable_batching=True,
            batching_parameters_file=str(path),
        )

    return start


def rows(count: int, first: int = 0) -> np.ndarray:
    return np.arange(first, first + 3 * count, dtype=np.float32).reshape(count, 3)


async def test_large_requests_are_split_and_joined(start) -> None:
    running = await start(
        """max_batch_size { value: 64 } max_execution_batch_size { value: 8 }
        enable_large_batch_splitting { value: true } num_batch_threads { value: 2 }
        max_enqueued_batches { value: 100 }
        allowed_batch_sizes: 4 allowed_batch_sizes: 8"""
    )
    sizes = [1, 64, 7, 8, 9, 33]
    answers = await asyncio.gather(
        *(running.outputs("half", {"x": rows(size, first=size)}) for size in sizes)
    )
    for size, outputs in zip(sizes, answers, strict=True):
        assert outputs["z"].tolist() == (-rows(size, first=size)).tolist()
    with pytest.raises(grpc.aio.AioRpcError, match="Task size 65 is larger than maximum input"):
        await running.predict("half", {"x": rows(65)})
    page = running.server.metrics.render().decode()
    batching = ":tensorflow:serving:batching_session"
    assert f"{batching}:input_batch_size_sum {sum(sizes)}" in page
    assert f'{batching}:padding_size_count{{execution_batch_size="4"}}' in page
    assert f'{batching}:processed_batch_size_bucket{{le="8"}}' in page


async def test_a_wrong_file_is_told_at_the_start(start) -> None:
    message = "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 8"
    with pytest.raises(InvalidRequestError, match=message):
        await start("max_batch_size { value: 16 } allowed_batch_sizes: 8")


async def test_one_version_may_be_batched_and_another_not(model_folders, start_server) -> None:
    plain = model_folders.half_plus_two(1)
    batched = model_folders.half_plus_two(1, name="batched")
    (batched / "batching_params.pbtxt").write_text(
        """max_batch_size { value: 2 } num_batch_threads { value: 77 }
        thread_pool_name { value: "mine" }"""
    )
    running = await start_server(
        model_config_file=str(model_folders.config_file("half", "batched")),
        enable_batching=True,
        enable_per_model_batching_parameters=True,
    )
    with pytest.raises(grpc.aio.AioRpcError, match="Task size 3 is larger than maximum input"):
        await running.predict("batched", {"x": rows(3)})
    await running.predict("batched", {"x": rows(2)})
    await running.predict("half", {"x": rows(3)})
    page = running.server.metrics.render().decode()
    assert 'thread_pool_name="model_server_batch_threads"' in page
    assert "mine" not in page
    # The run of the version without parameters is no batching session's.
    assert ":tensorflow:serving:batching_session:wrapped_run_count 1\n" in page
    assert running.server._batching_of(batched).num_batch_threads < 77
    assert running.server._batching_of(plain).max_batch_requests == 1


async def test_a_platform_config_file_takes_the_place_of_the_flags(
    model_folders, start_server, tmp_path: Path
) -> None:
    model_folders.half_plus_two(1)
    platform = tmp_path / "platform.config"
    platform.write_text(
        """platform_configs { key: "tensorflow" value { source_adapter_config {
            [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] {
                legacy_config {
                    session_config { intra_op_parallelism_threads: 1 }
                    batching_parameters { max_batch_size { value: 2 } }
                }
            }
        } } }"""
    )
    running = await start_server(
        model_name="half",
        model_base_path=str(model_folders.model("half")),
        platform_config_file=str(platform),
        tensorflow_intra_op_parallelism=2,
    )
    with pytest.raises(grpc.aio.AioRpcError, match="Task size 3 is larger than maximum input"):
        await running.predict("half", {"x": rows(3)})
    assert running.server._read_session_threads().intra_op == 1


async def test_flags_go_before_the_sessions_file(
    model_folders, start_server, tmp_path: Path
) -> None:
    model_folders.half_plus_two(1)
    session = tmp_path / "session.config"
    session.write_text("intra_op_parallelism_threads: 3 inter_op_parallelism_threads: 1")
    running = await start_server(
        model_name="half",
        model_base_path=str(model_folders.model("half")),
        tensorflow_session_config_file=str(session),
        tensorflow_intra_op_parallelism=2,
    )
    threads = running.server._read_session_threads()
    assert (threads.intra_op, threads.inter_op) == (2, 1)
    await running.predict("half", {"x": rows(3)})


async def test_five_times_what_fits(model_folders, start_server, tmp_path: Path) -> None:
    """Who is admitted is answered; the others are refused at once, not when their turn comes."""
    model_folders.slow()
    parameters = tmp_path / "batching.config"
    parameters.write_text(
        """max_batch_size { value: 1 } max_enqueued_batches { value: 4 }
        num_batch_threads { value: 1 }"""
    )
    running = await start_server(
        model_name="slow",
        model_base_path=str(model_folders.model("slow")),
        enable_batching=True,
        batching_parameters_file=str(parameters),
    )
    ends: list[str] = []

    async def ask() -> None:
        call = running.predict("slow", {"x": np.array([500], np.float32)})
        [answer] = await asyncio.gather(call, return_exceptions=True)
        refused = isinstance(answer, grpc.aio.AioRpcError)
        ends.append(f"{answer.code().name}: {answer.details()}" if refused else "answered")

    async with asyncio.timeout(60):
        await asyncio.gather(*(ask() for _ in range(25)))
    full = "currently 4 batches enqueued and max_enqueued_batches is 4"
    answered = [end for end in ends if end == "answered"]
    refused = [end for end in ends if end.startswith("UNAVAILABLE") and full in end]
    assert len(answered) + len(refused) == 25
    assert 4 <= len(answered) <= 10
    # All refusals came before the queue had been worked off.
    assert ends[-3:] == ["answered"] * 3
