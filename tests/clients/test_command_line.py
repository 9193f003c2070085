"""The command line: its output, its exit statuses and its streams."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from clients.command_line import main
from protocol import services

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(server: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs main() against the fake server: exit status, standard output, standard error."""
    monkeypatch.setenv("SERVING_TARGET", server.target)
    monkeypatch.delenv("SERVING_TOKEN", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        return status, *capsys.readouterr()

    return call


def stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_sentiment(run: Run) -> None:
    status, output, _ = run("sentiment", "a good film", "bad")
    assert status == 0
    assert output.splitlines() == ["positive   90.0%  a good film", "negative   75.0%  bad"]


def test_sentiment_json(run: Run) -> None:
    _, output, _ = run("sentiment", "--json", "good \N{SNOWMAN}", "bad")
    first, second = map(json.loads, output.splitlines())
    assert first["text"] == "good \N{SNOWMAN}"
    assert first["probabilities"] == pytest.approx([0.1, 0.9])
    assert (second["label"], second["tokens"], second["truncated"]) == ("negative", 1, False)


def test_lines_on_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"good one\r\n\nbad \xff\nlast without newline, good")
    _, output, _ = run("sentiment", "--json", "-")
    rows = [json.loads(line) for line in output.splitlines()]
    assert [row["text"] for row in rows] == [
        "good one",
        "",
        "bad \N{REPLACEMENT CHARACTER}",
        "last without newline, good",
    ]
    assert [row["label"] for row in rows] == ["positive", "negative", "negative", "positive"]


def test_no_lines_at_all(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"")
    assert run("sentiment", "-") == (0, "", "")


def test_file_is_sent_in_batches(run: Run, server: Any, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"text {index}\n" for index in range(5)))
    status, output, _ = run("sentiment", "--batch-size", "2", "--file", str(texts))
    assert status == 0
    assert len(output.splitlines()) == 5
    assert len(server.calls) == 3


def test_status(run: Run) -> None:
    _, output, _ = run("status", "sentiment")
    assert output.splitlines()[1:] == ["3        AVAILABLE", "2        END        out of memory"]


def test_status_json(run: Run) -> None:
    _, output, _ = run("status", "sentiment", "--json")
    assert json.loads(output.splitlines()[0]) == {
        "model": "sentiment",
        "version": 3,
        "state": "AVAILABLE",
        "error": "",
    }


def test_metadata(run: Run) -> None:
    _, output, _ = run("metadata", "sentiment", "--label", "stable")
    assert "model sentiment, version 3" in output
    assert "probability  float32[?,?]" in output


def test_metadata_json(run: Run) -> None:
    _, output, _ = run("metadata", "sentiment", "--json")
    signatures = json.loads(output)["signatures"]
    assert signatures["tensors"]["inputs"][0]["name"] == "token_ids"


def test_health(run: Run, server: Any) -> None:
    assert run("health")[:2] == (0, "SERVING\n")
    server.behaviours[services.HEALTH_CHECK] = lambda request, context: (
        services.HEALTH_CHECK.response(status=2)
    )
    assert run("health", "sentiment", "--json")[:2] == (
        1,
        '{"service": "sentiment", "health": "NOT_SERVING"}\n',
    )


def test_options_arrive(run: Run, server: Any) -> None:
    run("sentiment", "--model", "m", "--version", "0", "--token", "abc", "--timeout", "3", "x")
    call = server.calls[0]
    assert call.request.model_spec.name == "m"
    assert call.request.model_spec.HasField("version")
    assert call.metadata["authorization"] == "Bearer abc"
    assert 2 < call.remaining_s < 3.1


def test_token_from_the_environment(run: Run, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_TOKEN", "from-env")
    run("health")
    assert server.calls[0].metadata["authorization"] == "Bearer from-env"


def test_service_errors_end_with_1_and_one_line(run: Run, server: Any) -> None:
    server.fail(services.PREDICT, grpc.StatusCode.NOT_FOUND, "Servable not found")
    status, output, errors = run("sentiment", "x")
    assert (status, output) == (1, "")
    assert errors == "error: Servable not found (NOT_FOUND)\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["sentiment"], "expected either texts"),
        (["sentiment", "x", "--file", "y"], "expected either texts"),
        (["sentiment", "--file", "/nothing/here"], "cannot read /nothing/here"),
        (["sentiment", "x", "--version", "1", "--label", "a"], "not allowed with"),
        (["sentiment", "x", "--version", "-1"], "0 or more"),
        (["sentiment", "x", "--batch-size", "0"], "1 or more"),
        (["sentiment", "x", "--timeout", "0"], "timeout_s"),
        (["health", "--target", "nowhere"], "host:port"),
        (["health", "--tls-cert", "a.pem"], "both or neither"),
        (["health", "--tls-ca", "nothing.pem"], "nothing.pem"),
    ],
)
def test_wrong_usage_ends_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "clients", *arguments]


def test_process_without_a_server(repository: Path) -> None:
    process = subprocess.run(
        command("health", "--target", "127.0.0.1:1", "--timeout", "2"),
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 1
    assert process.stderr.startswith("error: model server 127.0.0.1:1 is unavailable")
    assert "Traceback" not in process.stderr


def test_process_on_a_terminal_without_unicode(repository: Path, server: Any) -> None:
    process = subprocess.run(
        command("sentiment", "--target", server.target, "good \N{SNOWMAN}"),
        cwd=repository,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=120,
    )
    assert process.returncode == 0
    assert rb"good \u2603" in process.stdout


def test_process_answers_line_by_line(repository: Path, server: Any) -> None:
    with subprocess.Popen(
        command("sentiment", "--json", "--target", server.target, "-"),
        cwd=repository,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for text in (b"good", b"bad"):
            process.stdin.write(text + b"\n")
            process.stdin.flush()
            # The answer comes although standard input is still open.
            assert json.loads(process.stdout.readline())["text"] == text.decode()
        process.stdin.close()
        assert process.wait(120) == 0


def test_process_whose_reader_has_gone(repository: Path, server: Any) -> None:
    with subprocess.Popen(
        command("sentiment", "--target", server.target, "-"),
        cwd=repository,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, errors = process.communicate(b"good\n" * 2000, timeout=120)
    assert process.returncode == 0
    assert errors == b""
