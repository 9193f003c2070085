"""The clients against the embedded server in a process of its own."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clients import AsyncSentimentClient, PredictClient, SentimentClient
from clients.command_line import main
from clients.demo.server_process import ServerProcess, ServerStartError
from protocol.contracts import SENTIMENT, check_signature
from protocol.errors import NotFoundError

pytestmark = [pytest.mark.e2e]
pytest.importorskip("onnxruntime")
pytest.importorskip("serving.server")

START_TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def embedded(model_repository: Path) -> Iterator[ServerProcess]:
    """The embedded server with the tiny sentiment model."""
    with ServerProcess(model_repository, ["sentiment"]) as server:
        server.wait_until_serving(START_TIMEOUT_S)
        yield server


def test_classify(embedded: ServerProcess) -> None:
    texts = ["a GOOD film", "bad", "", "word " * 500, "good\n" * 50] * 20
    with SentimentClient(embedded.target) as client:
        results = client.classify(texts)
    assert [result.text for result in results] == texts
    labels = [result.label for result in results[:5]]
    assert labels == ["positive", "negative", "negative", "negative", "positive"]
    assert [result.tokens for result in results[:5]] == [3, 1, 0, 500, 50]
    assert [result.truncated for result in results[:5]] == [False, False, False, True, False]
    assert results[0].probabilities == pytest.approx((0.1, 0.9))


async def test_classify_async(embedded: ServerProcess) -> None:
    async with AsyncSentimentClient(embedded.target) as client:
        assert (await client.classify_one("good")).label == "positive"


def test_metadata_status_and_health(embedded: ServerProcess) -> None:
    with PredictClient(embedded.target) as client:
        metadata = client.metadata("sentiment")
        assert metadata.version == 1
        for spec in SENTIMENT.signatures:
            check_signature(spec, metadata.signatures[spec.name])
        assert [status.state for status in client.status("sentiment")] == ["AVAILABLE"]
        assert client.health("sentiment") == "SERVING"


def test_tensors_signature(embedded: ServerProcess) -> None:
    with PredictClient(embedded.target) as client:
        prediction = client.predict(
            "sentiment",
            {"token_ids": np.array([[2, 0], [3, 1]], np.int32)},
            signature="tensors",
            version=1,
        )
    assert prediction["probability"][:, 1].tolist() == pytest.approx([0.9, 0.25])


def test_unknown_model(embedded: ServerProcess) -> None:
    with PredictClient(embedded.target) as client, pytest.raises(NotFoundError, match="nothing"):
        client.predict("nothing", {"text": ["x"]})


def test_command_line(embedded: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sentiment", "--json", "--target", embedded.target, "good"]) == 0
    assert json.loads(capsys.readouterr().out)["label"] == "positive"


def test_a_server_that_ends_shows_its_log(model_repository: Path) -> None:
    flags = ["--batching_parameters_file=/no/such/file"]
    with (
        ServerProcess(model_repository, ["sentiment"], flags) as server,
        pytest.raises(ServerStartError, match="/no/such/file"),
    ):
        server.wait_until_serving(START_TIMEOUT_S)


def demo(repository: Path, model_repository: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "clients.demo", "--repository", model_repository, *options],
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_demo(repository: Path, model_repository: Path) -> None:
    with demo(repository, model_repository) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "sentiment, version 1" in output
    assert "positive" in output
    assert re.search(r"200 calls, one at a time: p50 \d+\.\d ms", output)
    assert 'serving_requests_total{code="OK",model="sentiment"' in output
    assert "The server has stopped with exit code 0." in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_leaves_nothing_running(
    repository: Path, model_repository: Path, number: signal.Signals
) -> None:
    with demo(repository, model_repository, "--keep") as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "The server stays until Ctrl-C" in line:
                break
        process.send_signal(number)
        lines += process.communicate(timeout=60)[0].splitlines(keepends=True)
    output = "".join(lines)
    target = re.search(r"gRPC (\S+),", output)
    assert target is not None, output
    assert process.returncode == {signal.SIGINT: 0, signal.SIGTERM: 143}[number], output
    assert main(["health", "--target", target.group(1), "--timeout", "1"]) == 1


def test_demo_without_models(repository: Path, tmp_path: Path) -> None:
    with demo(repository, tmp_path) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no models in" in output
