"""How a server best runs a version: the rules on made-up figures, then tiny models measured."""

import os

import numpy as np
import onnxruntime
import pytest

from export import tuning
from export.tuning import (
    Timing,
    choose_batch_size,
    choose_place,
    choose_threads,
    open_session,
    processor_name,
    read_requests,
    thread_counts,
    time_in_turn,
    tune_version,
)
from protocol.contracts import TENSORS
from protocol.errors import ContractError, DataLossError
from protocol.graphs import load_pipelines
from protocol.messages import ModelSpec, PredictRequest
from protocol.tensors import to_tensor_proto
from protocol.version_folder import ONNX_FILE, WARMUP_FILE, Manifest, verify_files
from protocol.warmup import write_warmup
from serving.runtimes.onnx import OnnxRuntime
from tests.bench.tiny_model import publish_tiny_model
from tests.protocol.tiny_translator import publish_tiny_translator


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(tuning, "_ROUNDS_S", 0.0)
    monkeypatch.setattr(tuning, "_MOST_ROWS", 8)


def request(signature="", **inputs):
    made = PredictRequest(model_spec=ModelSpec(name="any", signature_name=signature))
    for name, value in inputs.items():
        made.inputs[name].CopyFrom(to_tensor_proto(np.asarray(value)))
    return made


def texts(*values):
    return np.array([value.encode() for value in values], dtype=object)


def seal_with(folder, *requests):
    """Adds warm-up requests to a version folder."""
    write_warmup(folder / WARMUP_FILE, requests)
    Manifest.read(folder).write(folder)
    return folder


@pytest.fixture
def sentiment(tmp_path):
    publish_tiny_model(tmp_path)
    return seal_with(
        tmp_path / "sentiment" / "1", request(text=texts("good film", "bad film", "good film"))
    )


@pytest.fixture
def translator(tmp_path):
    publish_tiny_translator(tmp_path)
    return seal_with(
        tmp_path,
        request("serving_default", text=texts("abc d", "hh")),
        request("serving_default", text=texts("abc d"), beam_width=np.int32(1)),
        request("tensors", token_ids=np.array([[4, 3]], np.int32)),
    )


# The rules.


@pytest.mark.parametrize(
    ("request_ms", "threads"),
    [
        ({1: 10.0}, 1),
        ({1: 10.0, 2: 8.6}, 1),
        ({1: 10.0, 2: 8.4}, 2),
        ({1: 10.0, 2: 5.5, 4: 5.0}, 4),  # 1 - 0.85 ** 3 = 39 % is asked of four
        ({1: 10.0, 2: 5.5, 4: 6.5}, 2),
        ({1: 10.0, 2: 9.9, 4: 6.0}, 4),
        ({1: 10.0, 2: 5.5, 4: 3.0, 8: 2.9}, 8),
        ({1: 10.0, 2: 5.5, 4: 3.5, 8: 3.3}, 4),
        ({1: 0.05, 2: 0.07}, 1),
    ],
)
def test_a_thread_has_to_pay(request_ms, threads):
    assert choose_threads(request_ms) == threads


@pytest.mark.parametrize(
    ("work_ms", "rows"),
    [
        ({1: 10.0, 2: 20.0}, 1),
        ({1: 10.0, 2: 19.0, 4: 38.0}, 1),  # exactly 95 %
        ({1: 10.0, 2: 18.0, 4: 36.0}, 2),
        ({1: 1.0, 2: 1.1, 4: 1.2, 8: 1.4}, 8),
        ({1: 1.0, 2: 1.2, 4: 1.6, 8: 3.2, 16: 9.0}, 4),
    ],
)
def test_a_batch_is_as_small_as_can_be(work_ms, rows):
    assert choose_batch_size(work_ms) == rows


@pytest.mark.parametrize(
    ("work_ms", "place"),
    [([0.1], True), ([0.1, 0.5], True), ([0.1, 0.6], None), ([0.6, 0.1], False), ([9.0], False)],
)
def test_only_short_runs_are_for_the_event_loop(work_ms, place):
    assert choose_place(work_ms) is place


@pytest.mark.parametrize(
    ("cpus", "counts"),
    [(1, [1]), (2, [1, 2]), (4, [1, 2, 4]), (6, [1, 2, 4, 6]), (96, [1, 2, 4, 8, 16])],
)
def test_thread_counts_are_doubled(cpus, counts):
    assert thread_counts(cpus) == counts


# The measurement.


class Clock:
    """Stands in for the module `time`; runs move it on."""

    def __init__(self):
        self.now_ms = 0.0

    def perf_counter(self):
        return self.now_ms / 1e3

    def process_time(self):
        return self.now_ms / 2e3

    def runs(self, name, *took_ms, log):
        remaining = iter(took_ms)

        def run():
            log.append(name)
            self.now_ms += next(remaining)

        return run


def test_runs_take_turns_and_the_best_of_each_counts(monkeypatch):
    clock, log = Clock(), []
    monkeypatch.setattr(tuning, "time", clock)
    trials = {
        "long": clock.runs("long", 30.0, 20.0, 40.0, log=log),
        "short": clock.runs("short", 6.0, 9.0, 12.0, 11.0, log=log),
    }
    found = time_in_turn(trials)
    assert found["long"] == pytest.approx(Timing(wall_ms=20.0, work_ms=10.0))
    assert found["short"] == pytest.approx(Timing(wall_ms=6.0, work_ms=3.0))
    assert log == ["long", "short", "short", "long", "short", "long", "short"]


def test_every_row_is_a_request_once(translator):
    pipelines = load_pipelines(translator, Manifest.read(translator))
    found = read_requests(translator, pipelines["serving_default"])
    assert [sorted(inputs) for inputs in found] == [["text"], ["text"], ["beam_width", "text"]]
    assert [inputs["text"].tolist() for inputs in found] == [[b"abc d"], [b"hh"], [b"abc d"]]
    assert found[2]["beam_width"].shape == ()
    assert len(read_requests(translator, pipelines[TENSORS])) == 1
    with pytest.raises(ValueError, match="no Predict request of signature attention"):
        read_requests(translator, pipelines["attention"])


def test_a_version_is_tuned_in_place(sentiment):
    before = verify_files(sentiment)
    found = tune_version(sentiment)
    after = verify_files(sentiment)
    assert after.tuning == found
    assert (after.files, after.signatures) == (before.files, before.signatures)
    assert found.runs_inline is True
    assert 1 <= found.intra_op_threads <= (os.cpu_count() or 1)
    assert found.max_batch_size in (1, 2, 4, 8)
    assert found.measured["cpus"] == os.cpu_count()
    assert found.measured["processor"] == processor_name()
    assert list(found.measured["row_work_ms_by_batch"]) == ["1", "2", "4", "8"]
    assert "1" in found.measured["request_ms_by_threads"]


def test_a_search_on_the_host_is_measured_with_it(translator):
    assert tune_version(translator).measured["heaviest_request_work_ms"] > 0
    OnnxRuntime().load(translator, verify_files(translator)).close()


def test_the_event_loop_gets_no_heavy_request(sentiment, monkeypatch):
    monkeypatch.setattr(tuning, "INLINE_MS", 0.0)
    assert tune_version(sentiment).runs_inline is False


def test_refusals(sentiment):
    seal_with(sentiment)
    with pytest.raises(ValueError, match="holds no Predict request of signature serving_default"):
        tune_version(sentiment)
    (sentiment / WARMUP_FILE).unlink()
    Manifest.read(sentiment).write(sentiment)
    with pytest.raises(ValueError, match="holds no Predict request of signature serving_default"):
        tune_version(sentiment)
    seal_with(sentiment, request(text=np.ones(1, np.float32)))
    with pytest.raises(ContractError, match="expected string"):
        tune_version(sentiment)
    seal_with(sentiment, request(text=texts("good")))
    (sentiment / ONNX_FILE).write_bytes(b"no graph")
    with pytest.raises(DataLossError, match="is damaged"):
        tune_version(sentiment)
    Manifest.read(sentiment).write(sentiment)
    with pytest.raises(ValueError, match=r"ONNX Runtime can not load .*model\.onnx"):
        tune_version(sentiment)
    (sentiment / ONNX_FILE).unlink()
    Manifest.read(sentiment).write(sentiment)
    with pytest.raises(ValueError, match=r"holds no model\.onnx"):
        tune_version(sentiment)
    assert Manifest.read(sentiment).tuning is None


def test_what_is_measured_is_what_is_served(sentiment, monkeypatch):
    opened = []

    def record(path, options, providers):
        keys = ("session.intra_op.allow_spinning", "session.inter_op.allow_spinning")
        entries = [options.get_session_config_entry(key) for key in keys]
        opened.append((path, options.execution_mode, entries, providers))
        return real(path, options, providers=providers)

    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", record)
    open_session(sentiment / ONNX_FILE, 1)
    OnnxRuntime(1).load(sentiment, Manifest.read(sentiment))
    assert opened[0] == opened[1]
