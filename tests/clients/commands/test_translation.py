"""`translation`: its output, its pictures, its options, its progress."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image

from clients import drawing
from clients.command_line import main
from protocol import services
from protocol.tensors import to_ndarray

Run = Callable[..., tuple[int, str, str]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A file of five lines, one of them blank."""
    file = tmp_path / "english.txt"
    file.write_text("one two\n\nthree\nfour five six\nseven")
    return file


def test_one_line_a_text(run: Run) -> None:
    status, output, errors = run("translation", "the cat", "", "word " * 41)
    assert (status, errors) == (0, "")
    first, blank, cut = output.splitlines()
    assert (first, blank) == ("CAT THE", "")
    assert cut.endswith("WORD WORD [truncated]")


def test_json(run: Run) -> None:
    _, output, _ = run("translation", "--json", "--alternatives", "2", "le café")
    assert json.loads(output) == {
        "text": "le café",
        "translation": "CAFÉ LE",
        "score": 0,
        "alternatives": [
            {"translation": "CAFÉ LE", "score": 0},
            {"translation": "CAFÉ LE!", "score": -1},
        ],
        "truncated": False,
    }


def test_alternatives(run: Run) -> None:
    _, output, _ = run("translation", "--alternatives", "2", "a b")
    assert output.splitlines() == ["B A", "   0.000  B A", "  -1.000  B A!"]


def test_attention(run: Run) -> None:
    _, output, _ = run("translation", "--attention", "go on")
    assert output.splitlines() == [
        "ON GO",
        "  ␣ON   ␣on 1.00",
        "  ␣GO   ␣go 1.00",
        "  </s>  </s> 1.00",
    ]


def test_attention_json(run: Run) -> None:
    _, output, _ = run("translation", "--attention", "--json", "go", "go on")
    first, _ = map(json.loads, output.splitlines())
    assert first == {
        "text": "go",
        "translation": "GO",
        "score": 0,
        "source_tokens": ["▁go", "</s>"],
        "target_tokens": ["▁GO", "</s>"],
        "attention": [[1, 0], [0, 1]],
        "truncated": False,
        "saved": [],
    }


def test_plot(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "new" / "map.png"
    _, output, _ = run("translation", "go on", "--plot", file)
    assert output.splitlines()[0] == "ON GO"
    assert output.splitlines()[-1] == f"  saved {file}"
    assert Image.open(file).format == "PNG"
    _, output, _ = run("translation", "go on", "--attention", "--plot", file, "--json")
    assert json.loads(output)["saved"] == [str(file)]


def test_a_plot_that_cannot_be_saved(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        run("translation", "go on", "--plot", tmp_path / "file" / "map.png")


def test_a_plot_without_pillow(
    run: Run, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise ImportError("pictures need Pillow")

    monkeypatch.setattr(drawing, "require_pillow", missing)
    with pytest.raises(SystemExit):
        run("translation", "go on", "--plot", tmp_path / "map.png")
    assert server.calls == []


@pytest.mark.parametrize(
    ("arguments", "model"),
    [
        ([], "translation"),
        (["--task", "fr"], "translation"),
        (["--task", "dates"], "translation_dates"),
        (["--model", "translation_dates"], "translation_dates"),
    ],
)
def test_task(run: Run, server: Any, arguments: list[str], model: str) -> None:
    status, output, _ = run("translation", *arguments, "3 mai 1979")
    assert (status, output) == (0, "1979 MAI 3\n")
    assert server.calls[0].request.model_spec.name == model


def test_options_arrive(run: Run, server: Any) -> None:
    run("translation", "--beam", "6", "--max-length", "9", "--alternatives", "5", "x")
    run("translation", "--beam", "1", "--attention", "--version", "7", "x")
    first, second = (call.request for call in server.calls)
    sent = {name: int(to_ndarray(first.inputs[name])) for name in first.inputs if name != "text"}
    assert sent == {"beam_width": 6, "max_length": 9, "alternatives": 5}
    assert set(second.inputs) == {"text", "beam_width"}
    assert second.model_spec.version.value == 7


def test_lines_of_a_file(run: Run, server: Any, lines: Path) -> None:
    status, output, errors = run("translation", "--batch-size", "2", "--file", lines)
    assert (status, errors) == (0, "")
    assert output.splitlines() == ["TWO ONE", "", "THREE", "SIX FIVE FOUR", "SEVEN"]
    assert len(server.calls) == 3


def test_lines_on_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one two\r\n\nthree \xff")))
    assert run("translation", "-")[1].splitlines() == ["TWO ONE", "", "\ufffd THREE"]


def test_progress_on_a_terminal(run: Run, lines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    _, output, _ = run("translation", "--batch-size", "2", "--file", lines)
    assert len(output.splitlines()) == 5
    shown = terminal.getvalue()
    assert [f"{count} of 5 lines, " in shown for count in (2, 4, 5)] == [True] * 3
    assert shown.endswith(" per second\n")


def test_texts_show_no_progress(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    run("translation", "one two")
    assert terminal.getvalue() == ""


def test_service_errors(run: Run, server: Any) -> None:
    status, output, errors = run("translation", "--alternatives", "9", "x")
    assert (status, output) == (1, "")
    assert errors == "error: alternatives: expected 0..4, got 9 (INVALID_ARGUMENT)\n"
    server.fail(services.PREDICT, grpc.StatusCode.NOT_FOUND, "no such model")
    assert run("translation", "x")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected either texts"),
        (["x", "--file", "y"], "expected either texts"),
        (["--file", "nothing.txt"], "cannot read nothing.txt"),
        (["x", "--task", "de"], "invalid choice: 'de'"),
        (["x", "--beam", "0"], "1 or more"),
        (["x", "--alternatives", "0"], "1 or more"),
        (["x", "--alternatives", "2", "--attention"], "--alternatives: not allowed with"),
        (["x", "--alternatives", "2", "--plot", "a.png"], "--alternatives: not allowed with"),
        (["x", "--plot", "a.svg"], "expected a name that ends with .png, got a.svg"),
        (["x", "y", "--plot", "a.png"], "--plot draws one text"),
        (["-", "--plot", "a.png"], "--plot draws one text"),
        (["--file", "x", "--plot", "a.png"], "--plot draws one text"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["translation", *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
