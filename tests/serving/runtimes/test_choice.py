import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import FailedPreconditionError, NotFoundError
from serving.core.servable import AspiredVersion
from serving.runtimes import RuntimeChooser, RuntimeOptions
from serving.runtimes.onnx import OnnxRuntime


def choose(
    folder: Path, runtime: str = "auto", platform: str = "tensorflow", **options: Any
) -> object:
    return RuntimeChooser(RuntimeOptions(runtime, **options))(AspiredVersion(1, folder, platform))


def with_files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_onnx_wins_where_both_are_there(tmp_path: Path) -> None:
    with_files(tmp_path, "model.onnx", "saved_model.pb")
    assert isinstance(choose(tmp_path), OnnxRuntime)


def test_runtimes_are_made_once(tmp_path: Path) -> None:
    chooser = RuntimeChooser(RuntimeOptions())
    aspired = AspiredVersion(1, with_files(tmp_path, "model.onnx"))
    assert chooser(aspired) is chooser(aspired)


@pytest.mark.parametrize(
    ("files", "runtime", "platform", "message"),
    [
        ((), "auto", "tensorflow", r"No model\.onnx in"),
        (("saved_model.pb",), "onnx", "tensorflow", "--runtime=saved_model runs"),
        (("saved_model.pb",), "auto", "onnxruntime", r"No model\.onnx in"),
        (("model.onnx",), "saved_model", "tensorflow", "--runtime=onnx runs"),
        (("model.tflite",), "auto", "tensorflow", "--prefer_tflite_model runs"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, files, runtime, platform, message) -> None:
    with_files(tmp_path, *files)
    with pytest.raises(NotFoundError, match=message):
        choose(tmp_path, runtime, platform)


def test_a_lite_model_is_run_on_request_only(tmp_path: Path) -> None:
    with_files(tmp_path, "model.onnx", "model.tflite")
    assert isinstance(choose(tmp_path), OnnxRuntime)
    litert = pytest.importorskip("serving.runtimes.litert")
    assert isinstance(choose(tmp_path, prefer_tflite=True), litert.LiteRtRuntime)
    assert isinstance(choose(tmp_path, "auto", "onnxruntime", prefer_tflite=True), OnnxRuntime)
    (tmp_path / "model.tflite").unlink()
    assert isinstance(choose(tmp_path, prefer_tflite=True), OnnxRuntime)


def test_an_engine_that_is_not_installed_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "serving.runtimes.litert", None)
    with_files(tmp_path, "model.tflite")
    message = r"ai-edge-litert can not be imported .*; install the extra \[litert\]"
    with pytest.raises(FailedPreconditionError, match=message):
        choose(tmp_path, prefer_tflite=True)


SERVE_ONNX = """
import asyncio, sys
from serving.flags import ServerFlags
from serving.server import ModelServer

async def main():
    flags = ServerFlags(port=0, model_name="sentiment", model_base_path=sys.argv[1])
    server = ModelServer(flags)
    await server.start()
    assert server.data_plane.is_available("sentiment")
    await server.stop()

asyncio.run(main())
found = [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "keras")]
assert not found, found
"""


def test_serving_onnx_never_imports_tensorflow(repository: Path, model_folders) -> None:
    model_folders.sentiment()
    base_path = str(model_folders.model("sentiment"))
    subprocess.run(
        [sys.executable, "-c", SERVE_ONNX, base_path], cwd=repository, check=True, timeout=60
    )
