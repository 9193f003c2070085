"""Both files of a small model answer alike."""

from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("tensorflow")

from models.common.backends import SavedModelBackend
from tests.bench import small_models
from tests.bench.apis import difference
from tests.bench.rivals.servers.steps import load_steps

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", small_models.WRITERS)
def test_onnx_and_tensorflow_answer_alike(name: str, tmp_path: Path) -> None:
    small_models.WRITERS[name](tmp_path)
    inputs = small_models.request(name)
    expected = load_steps(tmp_path, threads=1)(inputs)
    assert difference(expected, SavedModelBackend(tmp_path).run_signature(inputs)) == ""
