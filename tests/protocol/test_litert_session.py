"""An interpreter in the place of a session; the interpreter is a fake."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from protocol.errors import FailedPreconditionError
from protocol.graphs import SessionGraph
from protocol.litert_session import LiteRtSession, default_inputs
from protocol.version_folder import Manifest


@dataclass
class Runner:
    """Doubles one row, adds a parameter, and remembers what came."""

    calls: list[Any] = field(default_factory=list)

    def __call__(self, **inputs):
        self.calls.append(inputs)
        return {
            "doubled": 2 * inputs["x"] + inputs["extra"],
            "class_ids": np.array([[1, 0, -1]], np.int32),
        }

    def get_input_details(self):
        return {
            "x": {"shape_signature": np.array([1, -1])},
            "extra": {"shape_signature": np.array([])},
        }

    def get_output_details(self):
        return {"doubled": {}, "class_ids": {}}


@dataclass
class Interpreter:
    runner: Runner = field(default_factory=Runner)
    names: tuple[str, ...] = ("tensors",)

    def get_signature_list(self):
        return {name: {} for name in self.names}

    def get_signature_runner(self, signature_key):
        return self.runner


@pytest.fixture
def session():
    return LiteRtSession(Interpreter(), {"extra": np.array(1, np.float32)}, ["cat", "dog"])


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_rows_are_run_one_by_one(rows):
    interpreter = Interpreter()
    session = LiteRtSession(interpreter, {"extra": np.array(1, np.float32)})
    x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    (found,) = session.run(["doubled"], {"x": x})
    np.testing.assert_array_equal(found, 2 * x + 1)
    assert len(interpreter.runner.calls) == max(rows, 1)
    assert all(call["x"].shape == (1, 2) for call in interpreter.runner.calls)


def test_what_a_run_names_goes_before_the_defaults(session):
    found = session.run(["doubled"], {"x": np.zeros((1, 2)), "extra": np.array(5, np.float32)})
    np.testing.assert_array_equal(found[0], [[5, 5]])


def test_classes_get_their_names(session):
    graph = SessionGraph(session)
    found = graph({"x": np.zeros((2, 2), np.float32)}, ["labels", "class_ids"])
    assert found["labels"].tolist() == [[b"dog", b"cat", b""]] * 2


def test_inputs_and_outputs_are_described(session):
    assert [node.name for node in session.get_inputs()] == ["x", "extra"]
    assert [node.name for node in session.get_outputs()] == ["doubled", "class_ids", "labels"]


def test_one_signature_is_expected():
    with pytest.raises(FailedPreconditionError, match="one signature"):
        LiteRtSession(Interpreter(names=("a", "b")))


def test_defaults_are_those_of_optional_inputs():
    from protocol.contracts import DETECTION

    manifest = Manifest(
        task="detection",
        model_name="detection",
        created="",
        signatures=DETECTION.signatures,
        pipeline={"score_threshold": 0.25, "tile": 64.0},
    )
    assert default_inputs(manifest) == {"score_threshold": np.float32(0.25)}
