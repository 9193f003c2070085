"""The clients of the vision models against the embedded server in a process of its own."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from clients import DetectionClient, FaceClient, Gallery, PredictClient, SegmentationClient
from clients.demo import vision
from clients.demo.__main__ import main
from clients.demo.server_process import ServerProcess
from protocol.contracts import CONTRACTS, check_signature
from protocol.errors import InvalidRequestError
from tests.clients.fake_models import plain, png, red_box

pytestmark = [pytest.mark.e2e]
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

TASKS = ("detection", "segmentation", "face")


@pytest.fixture(scope="module")
def vision_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with version 1 of each tiny vision model."""
    from tests.clients.tiny_vision import publish_tiny_vision

    repository = tmp_path_factory.mktemp("vision_repository")
    publish_tiny_vision(repository)
    return repository


@pytest.fixture(scope="module")
def embedded(vision_repository: Path) -> Iterator[ServerProcess]:
    """The embedded server with the tiny vision models."""
    with ServerProcess(vision_repository, TASKS) as server:
        server.wait_until_serving(120)
        yield server


@pytest.mark.parametrize("task", TASKS)
def test_the_served_signatures_keep_the_contract(embedded: ServerProcess, task: str) -> None:
    with PredictClient(embedded.target) as client:
        served = client.metadata(task).signatures
    for spec in CONTRACTS[task].signatures:
        check_signature(spec, served[spec.name])


def test_detection(embedded: ServerProcess) -> None:
    with DetectionClient(embedded.target) as client:
        small, large = client.detect([png(red_box(20, 30)), red_box(50, 40)])
        none = client.detect_one(red_box(), score_threshold=0.95, iou_threshold=0.5)
    assert small.detections[0].box_xyxy == (0, 0, 30, 20)
    assert large.detections[0].box_xyxy == (0, 0, 40, 50)
    assert (small.detections[0].label, small.version) == ("image", 1)
    assert none.detections == ()


def test_segmentation(embedded: ServerProcess) -> None:
    images = [png(red_box(20, 30)), red_box(15, 40), png(red_box(11, 17))]
    with SegmentationClient(embedded.target) as client:
        results = client.segment(images)
        [sure] = client.probabilities([red_box(20, 30)])
    assert [result.mask.shape for result in results] == [(20, 30), (15, 40), (11, 17)]
    assert np.array_equal(results[0].mask, red_box(20, 30)[..., 0] > 128)
    assert results[0].instances("nucleus").count == 1
    assert sure.probability is not None
    assert np.array_equal(sure.probability.argmax(axis=-1), results[0].mask)


def test_face(embedded: ServerProcess, tmp_path: Path) -> None:
    ruby, olive = plain(200, 20, 20), plain(20, 200, 20)
    with (
        FaceClient(embedded.target) as client,
        Gallery(tmp_path / "people.gallery") as gallery,
    ):
        assert client.verify(png(ruby), png(plain(190, 30, 20))).same
        assert not client.verify(ruby, olive).same
        client.enrol(gallery, "Ruby", [ruby])
        assert client.identify(plain(201, 20, 20), gallery).name == "Ruby"
        assert client.identify(olive, gallery).name is None


def test_a_bad_image_is_named(embedded: ServerProcess, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(png(red_box()))
    bad.write_bytes(png(red_box())[:60])
    with (
        SegmentationClient(embedded.target) as client,
        pytest.raises(InvalidRequestError, match=r"bad\.png: "),
    ):
        client.segment([good, bad])


RunDemo = Callable[[Path], tuple[int, str, str]]


@pytest.fixture
def run_demo(
    vision_repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[RunDemo]:
    """Runs the demo, which takes latencies for a moment only; gives its status and output."""
    monkeypatch.setattr(vision, "_TIMED_S", 0.1)
    on_terminate = signal.getsignal(signal.SIGTERM)

    def run(pictures: Path) -> tuple[int, str, str]:
        folders = ["--repository", str(vision_repository), "--pictures", str(pictures)]
        status = main(["--start-timeout", "120", *folders])
        return status, *capsys.readouterr()

    yield run
    signal.signal(signal.SIGTERM, on_terminate)


def test_demo(run_demo: RunDemo, tmp_path: Path) -> None:
    status, output, errors = run_demo(tmp_path / "pictures")
    assert status == 0, output + errors
    for line in ("detection, version 1", "gallery of 2 people: 2 of 2 named, 0 unknown"):
        assert line in output
    assert output.count("one at a time: p50") == 3
    saved = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.png")}
    assert {
        "pictures/detection/box.boxes.png",
        "pictures/segmentation/box.overlay.png",
        "pictures/segmentation/box.nucleus-instances.png",
        "pictures/face/ruby_0.verify.png",
        "pictures/face/ruby_2.identify.png",
    } <= saved


def test_demo_tells_which_model_failed(
    run_demo: RunDemo, vision_repository: Path, tmp_path: Path
) -> None:
    sample = vision_repository / "detection" / "1" / "assets" / "samples" / "aaa.png"
    sample.write_bytes(png(red_box())[:60])
    try:
        status, output, errors = run_demo(tmp_path)
    finally:
        sample.unlink()
    assert status == 1
    assert "failed: " in output
    assert "aaa.png" in output
    assert "gallery of 2 people: 2 of 2 named" in output  # the others are still shown
    assert "these models failed: detection" in errors
