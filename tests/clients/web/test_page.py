"""The page in a headless Chromium; the screenshots are left in pytest's temporary folder."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from clients.demo.server_process import ServerProcess
from clients.web.model_list import task_of
from clients.web.views import VIEWS
from protocol import messages, services
from tests.clients.conftest import FakeServer
from tests.clients.fake_models import plain, png, red_box
from tests.clients.web.conftest import WAIT_MS, web_page

pytestmark = [pytest.mark.e2e]
pytest.importorskip("nicegui")
pytest.importorskip("playwright")


@dataclass
class Visit:
    """The page as its visitor uses it.

    Args:
        page: Playwright's page.
        folder: Where screenshots go.
        outside: Addresses outside the page's own that the browser was told to load.
        complaints: What the browser's console said.
    """

    page: Any
    folder: Path
    outside: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def choose(self, label: str, option: str) -> None:
        self.page.get_by_label(label, exact=True).click()
        self.page.get_by_role("option", name=option, exact=True).click()

    def choose_model(self, name: str, listed_as: str | None = None) -> None:
        """Chooses a model and waits until its form has replaced that of the one before."""
        self.choose("Model", listed_as or name)
        self.page.get_by_text(VIEWS[task_of(name)].purpose).wait_for()

    def upload(self, name: str, *images: bytes, kind: str = "png") -> None:
        files = [
            {"name": f"{place}.{kind}", "mimeType": f"image/{kind}", "buffer": image}
            for place, image in enumerate(images)
        ]
        box = self.page.locator(f"[data-part=upload-{name}] input[type=file]")
        box.set_input_files(files)

    def wait_for_previews(self, count: int) -> None:
        self.page.locator(".web-thumbnails img").nth(count - 1).wait_for()

    def write(self, label: str, text: str) -> None:
        self.page.get_by_label(label).fill(text)

    def ask(self) -> None:
        self.page.get_by_role("button", name="Ask").click()

    def headline(self, expected: str) -> None:
        """Waits until the answer is this one."""
        self.page.locator("[data-part=headline]").get_by_text(expected, exact=True).wait_for()

    def problem(self) -> str:
        """Waits for a problem and returns its text."""
        box = self.page.get_by_role("alert")
        box.wait_for()
        return str(box.inner_text())

    def times(self) -> list[str]:
        """Returns the rows of the table of times, its heading first."""
        rows = self.page.locator("[data-part=times] tr").all_inner_texts()
        return [" ".join(row.split()) for row in rows]

    def pictures(self) -> list[str]:
        """Waits for the pictures of the answer and returns their captions."""
        shown = self.page.locator(".web-pictures img")
        shown.first.wait_for()
        widths = shown.evaluate_all("images => images.map(image => image.naturalWidth)")
        assert min(widths) > 100
        return [image.get_attribute("alt") for image in shown.all()]

    def screenshot(self, name: str) -> None:
        self.page.screenshot(path=self.folder / f"{name}.png", full_page=True)
        assert (self.folder / f"{name}.png").stat().st_size > 5000


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Callable[[str], Visit]]:
    """Opens the page at an address."""
    visits: list[Visit] = []

    def to(address: str) -> Visit:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(WAIT_MS)
        opened = Visit(page, tmp_path)
        visits.append(opened)

        def note(request: Any) -> None:
            if not request.url.startswith((address, "data:", "blob:")):
                opened.outside.append(request.url)

        page.on("request", note)
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.goto(address)
        page.locator("[data-part=state]:not(:empty), [role=alert]").first.wait_for()
        return opened

    yield to
    for opened in visits:
        opened.page.close()
    assert [(opened.outside, opened.complaints) for opened in visits] == [([], [])] * len(visits)


def three_versions(request: Any, context: grpc.ServicerContext) -> Any:
    if request.model_spec.name == "translation_dates":
        context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
    response = messages.GetModelStatusResponse()
    for version, state in ((1, 50), (2, 30), (3, 30)):
        response.model_version_status.add(version=version, state=state)
    return response


def test_a_visit(
    server: FakeServer, browser: Any, visit: Callable[[str], Visit], tmp_path: Path
) -> None:
    """A walk through all tasks at a server that tells no times, as TensorFlow Serving."""
    server.behaviours[services.GET_MODEL_STATUS] = three_versions
    with web_page(server.target, tmp_path / "web.log") as address:
        seen = visit(address)
        _detect(seen, server)
        _segment(seen)
        _compare_faces(seen)
        _translate(seen)
        _judge(seen)
        _make_mistakes(seen, server)
    assert "Traceback" not in (tmp_path / "web.log").read_text()


def _detect(seen: Visit, server: FakeServer) -> None:
    seen.choose_model("detection")
    state = seen.page.locator("[data-part=state]")
    state.get_by_text("version 3 available, version 2 available, version 1 end").wait_for()
    seen.upload("image", png(red_box(120, 160, (40, 30, 90, 80))))
    seen.wait_for_previews(1)
    seen.choose("Version", "2")
    seen.ask()
    seen.headline("1 red")
    assert server.calls[-1].request.model_spec.version.value == 2
    assert seen.pictures() == ["boxes"]
    assert "red 0.900 40.0 30.0 90.0 80.0" in " ".join(
        seen.page.locator("[data-part=details]").inner_text().split()
    )
    heading, row = seen.times()
    assert heading == "call version round trip"
    assert row.startswith("Predict 3 ")
    assert seen.page.get_by_text("This server tells no times of its own.").is_visible()
    seen.screenshot("detection")


def _segment(seen: Visit) -> None:
    seen.choose_model("segmentation")
    seen.upload("image", png(red_box(120, 160, (40, 30, 90, 80))))
    seen.wait_for_previews(1)
    seen.ask()
    seen.headline("160 × 120 pixels")
    assert seen.pictures() == ["mask", "nucleus: 1"]
    shares = seen.page.locator("[data-part=share]").all_inner_texts()
    assert [share.split() for share in shares] == [["background", "87.0%"], ["nucleus", "13.0%"]]
    seen.screenshot("segmentation")


def _compare_faces(seen: Visit) -> None:
    seen.choose_model("face")
    seen.upload("face", png(plain(200, 20, 20, 64)))
    seen.wait_for_previews(1)
    seen.upload("others", png(plain(20, 200, 20, 64)), png(plain(190, 20, 20, 64)))
    seen.wait_for_previews(3)
    seen.ask()
    seen.headline("1 of 2 match")
    assert seen.pictures() == ["face 2", "face 1"]
    seen.screenshot("face")


def _translate(seen: Visit) -> None:
    seen.choose_model("translation")
    seen.write("Text to translate", "one two three")
    seen.write("Beam width", "2")
    seen.ask()
    seen.headline("THREE TWO ONE")
    assert seen.pictures() == ["attention"]
    assert seen.page.get_by_text("THREE TWO ONE!", exact=True).is_visible()
    assert len(seen.times()) == 3
    seen.screenshot("translation")


def _judge(seen: Visit) -> None:
    seen.choose_model("sentiment")
    seen.write("Text to judge", "a good film")
    seen.ask()
    seen.headline("positive 90.0%")
    shares = seen.page.locator("[data-part=share]").all_inner_texts()
    assert [" ".join(share.split()) for share in shares] == ["not positive 10.0%", "positive 90.0%"]
    seen.screenshot("sentiment")


def _make_mistakes(seen: Visit, server: FakeServer) -> None:
    seen.write("Text to judge", "  ")
    seen.ask()
    assert "Text to judge: expected some words, got an empty text" in seen.problem()
    seen.screenshot("empty_text")
    seen.choose_model("detection")
    seen.upload("image", png(red_box(120, 160))[:60])
    assert "0.png: " in seen.problem()
    seen.screenshot("unreadable_image")
    seen.choose_model("translation_dates", "translation_dates (not served)")
    server.fail(services.PREDICT, grpc.StatusCode.NOT_FOUND, "no model translation_dates")
    seen.write("Text to translate", "3 mai 1979")
    seen.ask()
    assert "This model or version is not served." in seen.problem()
    seen.screenshot("not_served")
    server.fail(services.PREDICT, grpc.StatusCode.UNAVAILABLE, "gone")
    seen.ask()
    seen.page.get_by_text(f"model server {server.target} is unavailable").wait_for()
    seen.screenshot("server_busy")


def test_a_server_that_is_away(browser: Any, visit: Callable[[str], Visit], tmp_path: Path) -> None:
    with web_page("localhost:1", tmp_path / "web.log") as address:
        seen = visit(address)
        assert "model server localhost:1 is unavailable" in seen.problem()
        seen.screenshot("away")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The embedded server with tiny models."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from tests.bench.tiny_model import publish_tiny_model
    from tests.clients.tiny_vision import publish_tiny_vision

    repository = tmp_path_factory.mktemp("repository")
    publish_tiny_model(repository)
    publish_tiny_vision(repository)
    with ServerProcess(repository, ["sentiment", "detection"]) as server:
        server.wait_until_serving(120)
        yield server


def test_the_embedded_server(
    embedded: ServerProcess, browser: Any, visit: Callable[[str], Visit], tmp_path: Path
) -> None:
    with web_page(embedded.target, tmp_path / "web.log") as address:
        seen = visit(address)
        seen.choose_model("sentiment")
        seen.choose("Version", "1")
        seen.write("Text to judge", "a good film")
        seen.ask()
        seen.headline("positive 90.0%")
        heading, row = seen.times()
        assert heading == "call version round trip server: wait server: run"
        assert row.startswith("Predict 1 ")
        assert row.count(" ms") == 3
        seen.screenshot("embedded_sentiment")
        seen.choose_model("detection")
        pixels = np.pad(red_box(120, 160), ((0, 0), (0, 40), (0, 0)))
        seen.upload("image", png(pixels))
        seen.wait_for_previews(1)
        seen.ask()
        seen.headline("1 image")
        assert seen.pictures() == ["boxes"]
        seen.screenshot("embedded_detection")
