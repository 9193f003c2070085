"""What befalls the folders and the config file of a running server."""

import shutil
import signal
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from protocol import services

X = np.ones((1, 3), np.float32)


async def test_a_half_copied_version_is_loaded_when_it_is_whole(
    model_folders, start_server, tmp_path: Path
) -> None:
    model_folders.sentiment(1)
    running = await start_server(
        model_name="sentiment",
        model_base_path=str(model_folders.model("sentiment")),
        max_num_load_retries=1,
        load_retry_interval_micros=3600 * 10**6,
    )
    whole = model_folders.sentiment(2, name="elsewhere")
    copy = model_folders.model("sentiment") / "2"
    copy.mkdir()
    shutil.copy(whole / "manifest.json", copy)
    await running.until(lambda: running.state("sentiment", 2) == 20)
    assert (await running.states("sentiment"))[1] == 30
    (copy / "model.onnx").write_bytes((whole / "model.onnx").read_bytes()[:100])
    shutil.copytree(whole / "assets", copy / "assets")
    shutil.copy(whole / "model.onnx", copy)
    await running.until(lambda: running.state("sentiment", 2) == 30)


async def test_a_base_path_that_vanishes_keeps_serving_and_disturbs_nobody(
    model_folders, start_server
) -> None:
    model_folders.half_plus_two(1)
    model_folders.lookup()
    running = await start_server(model_config_file=str(model_folders.config_file("half", "lookup")))
    shutil.rmtree(model_folders.model("half"))
    model_folders.lookup(2)
    await running.until(lambda: running.state("lookup", 2) == 30)
    assert (await running.predict("half", {"x": X})).model_spec.version.value == 1


async def test_an_emptied_base_path_unloads(model_folders, start_server) -> None:
    model_folders.half_plus_two(1)
    running = await start_server(
        model_name="half", model_base_path=str(model_folders.model("half"))
    )
    shutil.rmtree(model_folders.model("half") / "1")
    await running.until(lambda: running.state("half", 1) == 50)
    with pytest.raises(grpc.aio.AioRpcError, match=r"Servable not found for request: Latest"):
        await running.predict("half", {"x": X})


async def test_a_model_that_may_not_be_read_harms_no_other(
    model_folders, start_server, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_folders.half_plus_two(1)
    forbidden = model_folders.half_plus_two(1, name="forbidden")
    is_file = Path.is_file

    def refuse(path: Path) -> bool:
        if path.parent == forbidden:
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    running = await start_server(
        model_config_file=str(model_folders.config_file("half", "forbidden"))
    )
    assert (await running.outputs("half", {"x": X}))["y"].tolist() == [[2.5] * 3]
    [status] = running.server.data_plane.status("forbidden")
    assert "Permission denied" in str(status.error)


async def test_labels_that_could_not_be_set_are_set_later(model_folders, start_server) -> None:
    model_folders.half_plus_two(1)
    running = await start_server(
        model_config_file=str(model_folders.config_file("half")),
        model_config_file_poll_wait_seconds=1,
    )
    labelled = labelled_config(model_folders, "half", version=2)
    model_folders.config_file(text=labelled)
    running.server.reload_soon()
    with pytest.raises(grpc.aio.AioRpcError, match="Unrecognized servable version label"):
        await running.predict("half", {"x": X}, label="new")
    # The file is applied by itself once the version is there.
    model_folders.half_plus_two(2)
    await running.until(lambda: running.state("half", 2) == 30)
    await running.until(lambda: "new" in running.server.manager._models["half"].labels)
    response = await running.predict("half", {"x": X}, label="new")
    assert response.model_spec.version.value == 2


def labelled_config(model_folders: Any, name: str, version: int) -> str:
    return f"""model_config_list {{ config {{
        name: "{name}" base_path: "{model_folders.model(name)}" model_platform: "tensorflow"
        version_labels {{ key: "new" value: {version} }}
    }} }}"""


def test_sighup_reloads_the_config_file_now(model_folders, server_process, make_request) -> None:
    model_folders.half_plus_two(1)
    model_folders.lookup()
    config = model_folders.config_file("half")
    started = server_process(f"--model_config_file={config}")
    model_folders.config_file(text="this is no config")
    started.process.send_signal(signal.SIGHUP)
    assert started.wait_for_log("The model config file is not applied: Invalid protobuf file")
    model_folders.config_file("half", "lookup")
    started.process.send_signal(signal.SIGHUP)
    assert started.wait_for_log("Successfully loaded servable version {name: lookup version: 1}")
    with grpc.insecure_channel(f"localhost:{started.port}") as channel:
        predict = services.stub(channel, services.PREDICT)
        predict(make_request("half", {"x": X}), timeout=30)
    started.terminate()
    assert started.wait() == 0
