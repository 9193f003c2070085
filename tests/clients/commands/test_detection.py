"""`detect`: its output, its pictures, its options."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image

from clients.command_line import main
from protocol import services
from protocol.tensors import to_ndarray

Run = Callable[..., tuple[int, str, str]]


def test_tables(run: Run, photos: Path) -> None:
    status, output, _ = run("detect", photos)
    assert status == 0
    assert output.splitlines() == [
        f"{photos / 'a.png'}: 1 red",
        "  red  0.900  5.0  4.0  15.0  10.0",
        f"{photos / 'b.png'}: nothing found",
    ]


def test_json(run: Run, photos: Path) -> None:
    _, output, _ = run("detect", "--json", photos / "b.png", photos / "a.png")
    nothing, found = map(json.loads, output.splitlines())
    assert nothing["detections"] == []
    assert found == {
        "source": str(photos / "a.png"),
        "detections": [
            {
                "label": "red",
                "class_id": 1,
                "score": pytest.approx(0.9),
                "box_xyxy": [5.0, 4.0, 15.0, 10.0],
            }
        ],
        "model": "detection",
        "version": 3,
        "saved": [],
    }


def test_pictures(run: Run, photos: Path, tmp_path: Path) -> None:
    _, output, _ = run("detect", photos / "a.png", "--save", tmp_path / "out")
    saved = tmp_path / "out" / "a.boxes.png"
    assert output.splitlines()[-1] == f"  saved {saved}"
    assert Image.open(saved).size == (30 * 22, 20 * 22)


def test_options_arrive(run: Run, server: Any, photos: Path) -> None:
    run(
        *("detect", photos, "--model", "detection", "--version", "7", "--batch-size", "1"),
        *("--score-threshold", "0.95", "--iou-threshold", "0.4"),
    )
    first, second = (call.request for call in server.calls)
    assert first.model_spec.version.value == 7
    assert to_ndarray(second.inputs["score_threshold"]) == pytest.approx(0.95)
    assert to_ndarray(second.inputs["iou_threshold"]) == pytest.approx(0.4)


def test_a_bad_image_is_named(run: Run, photos: Path) -> None:
    (photos / "b.png").write_bytes((photos / "b.png").read_bytes()[:40])
    status, output, errors = run("detect", photos)
    assert (status, output) == (1, "")
    assert errors.startswith(f"error: {photos / 'b.png'}: ")
    assert errors.endswith("(INVALID_ARGUMENT)\n")


def test_service_errors(run: Run, server: Any, photos: Path) -> None:
    server.fail(services.PREDICT, grpc.StatusCode.NOT_FOUND, "no such model")
    assert run("detect", photos)[0] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["detect"], "IMAGE"),
        (["detect", "nothing.png"], "there is no file or folder nothing.png"),
        (["detect", "x", "--batch-size", "0"], "1 or more"),
        (["detect", "x", "--score-threshold", "high"], "invalid float"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
