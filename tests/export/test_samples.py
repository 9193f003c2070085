"""Every version carries images that the demo and the load tests can send."""

import pytest

from export.samples import write_samples
from export.served_models import SERVED
from export.version import exporter_of
from protocol.images import decode_image, image_size
from protocol.version_folder import SAMPLES_FOLDER
from tests.bench import workloads


def test_samples_are_where_their_readers_look(tmp_path):
    write_samples({"a.png": b"first", "b.png": b"second"}, tmp_path / "assets")
    assert f"assets/{SAMPLES_FOLDER}" == workloads.SAMPLES_FOLDER
    assert {path.name for path in (tmp_path / workloads.SAMPLES_FOLDER).iterdir()} == {
        "a.png",
        "b.png",
    }


@pytest.mark.parametrize("task", ["face", "detection", "segmentation"])
def test_shipped_models_come_with_small_images(task, tmp_path):
    exporter = exporter_of(task)
    model = exporter.model_to_export(SERVED[task].shipped_run(), tmp_path / "scratch")
    exporter.write_assets(model, tmp_path / "assets")
    files = sorted((tmp_path / "assets" / SAMPLES_FOLDER).iterdir())
    assert len(files) >= 4
    assert sum(file.stat().st_size for file in files) < 1_000_000
    for file in files:
        assert decode_image(file.read_bytes()).shape[:2] == image_size(file.read_bytes())
    if task == "face":
        assert {file.stem.rpartition("_")[0] for file in files} >= {"anna", "boris"}
