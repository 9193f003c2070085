"""The shipped SavedModels, loaded and warmed up as TensorFlow Serving does it."""

from pathlib import Path

import numpy as np
import pytest

from export.__main__ import main
from export.served_models import SERVED
from models.common.backends import SavedModelBackend
from protocol.contracts import SERVING_DEFAULT
from protocol.tensors import to_ndarray
from protocol.version_folder import WARMUP_FILE
from protocol.warmup import read_warmup
from tests.deploy.cpp_session import CppSession

TOLERANCE = 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("model", SERVED)
def test_the_warm_up_requests_are_answered_as_in_python(model: str, tmp_path: Path) -> None:
    folder = tmp_path / "version"
    assert main([model, "--to", "saved_model", "--out", str(folder)]) == 0
    session, python = CppSession(folder), SavedModelBackend(folder)
    replayed = 0
    for log in read_warmup(folder / WARMUP_FILE):
        request = log.predict_log.request
        signature = request.model_spec.signature_name or SERVING_DEFAULT
        inputs = {name: to_ndarray(value) for name, value in request.inputs.items()}
        outputs = session.run(signature, inputs)
        if signature == SERVING_DEFAULT:
            expected = python.run_signature(inputs)
            assert outputs.keys() == expected.keys()
            for name, value in outputs.items():
                assert _alike(value, expected[name]), name
        replayed += 1
    session.close()
    assert replayed > 0


def test_what_can_not_be_loaded_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Could not find SavedModel"):
        CppSession(tmp_path)


def _alike(value: np.ndarray, expected: np.ndarray) -> bool:
    if value.dtype.kind != "f":
        return bool(np.array_equal(value, expected))
    return bool(np.allclose(value, expected, rtol=TOLERANCE, atol=TOLERANCE))
