"""The parts of the benchmark of servers that need no server."""

from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("matplotlib")

import onnx

from tests.bench import small_models
from tests.bench.contenders import StartError, make_job, rival_server
from tests.bench.faces import Plan, _cases, _measure_one, build_parser
from tests.bench.figures import Figures, Findings
from tests.bench.load import LoadError
from tests.bench.raw_process import time_batches
from tests.bench.rivals.known import RIVALS, chosen
from tests.bench.rivals.rival import Launch, Rival
from tests.bench.rivals.servers.job import Job, Tensor
from tests.bench.rivals.triton import config
from tests.bench.subjects import Subject, published_subjects
from tests.bench.tiny_model import publish_tiny_model


@pytest.fixture
def light(tmp_path: Path) -> Subject:
    folder = tmp_path / "light" / "1"
    folder.mkdir(parents=True)
    onnx.save(small_models.light_onnx(small_models.light_weights()), folder / "model.onnx")
    inputs = small_models.request("light")
    return Subject("light", "`light`", folder, inputs, (1, 8), (1, 8))


def test_a_subject_knows_what_goes_in_and_out(light: Subject) -> None:
    assert light.input == Tensor("token_ids", "int32", (64,))
    assert light.outputs == (Tensor("probability", "float32", (2,)),)
    assert light.answer["probability"].sum() == pytest.approx(1)


def test_a_published_model_is_sent_its_first_text(tmp_path: Path) -> None:
    publish_tiny_model(tmp_path)
    (subject,) = published_subjects(["sentiment"], tmp_path)
    assert subject.input == Tensor("text", "object", (1,))
    assert [output.name for output in subject.outputs] == [
        "label",
        "probability",
        "tokens",
        "truncated",
    ]
    assert subject.repository == tmp_path


def test_a_model_that_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no model 'face'"):
        list(published_subjects(["face"], tmp_path))


def test_a_job_is_read_as_it_was_written(light: Subject, tmp_path: Path) -> None:
    job = make_job(light, 1, 2, 3)
    job.write(tmp_path / "job.json")
    assert Job.read(tmp_path / "job.json") == job


def test_tritons_config(light: Subject) -> None:
    lines = config(make_job(light, 1)).splitlines()
    assert 'input { name: "token_ids" data_type: TYPE_INT32 dims: [ 64 ] }' in lines
    assert 'output { name: "probability" data_type: TYPE_FP32 dims: [ -1 ] }' in lines


def test_texts_are_strings_to_triton() -> None:
    texts = Tensor("text", "object", (1,))
    lines = config(Job("m", "", 1, (), 1, 64, texts, (texts,))).splitlines()
    assert 'input { name: "text" data_type: TYPE_STRING dims: [ 1 ] }' in lines


def test_every_rival_has_an_exact_version() -> None:
    assert all("==" in rival.requirement for rival in RIVALS.values())


def test_rivals_are_chosen_by_name() -> None:
    assert [rival.name for rival in chosen(["kserve", "triton"])] == ["kserve", "triton"]
    with pytest.raises(SystemExit, match="no rival nobody"):
        chosen(["nobody"])


def test_a_rival_that_is_not_installed(light: Subject) -> None:
    rival = Rival("nobody", "Nobody", "nobody==1", RIVALS["ray"].api, lambda *_: Launch([]))
    with pytest.raises(StartError, match="not installed"), rival_server(rival, light):
        pass


def test_a_slow_engine_runs_at_least_once() -> None:
    runs = []
    found = time_batches(lambda inputs: runs.append(1) or {}, {}, batch=8, seconds=0)
    assert len(runs) == 3  # two of them to warm up
    assert found["per_second"] > 0


def test_no_rivals_may_be_asked_for() -> None:
    assert build_parser().parse_args(["--rivals"]).rivals == []
    assert build_parser().parse_args([]).rivals == list(RIVALS)


class Silent:
    """A contender that never answers."""

    def sizes(self, subject: Subject) -> tuple[int, ...]:
        return subject.concurrencies

    def measure(self, size: int, seconds: float) -> Figures:
        raise LoadError("no answer")


def test_who_does_not_answer_is_named_and_has_no_figures() -> None:
    findings = Findings("a model")
    _measure_one(findings, "silent", Silent(), size=8, seconds=1)
    assert findings.failures == {"silent": "at 8 at once: no answer"}
    assert findings.medians() == {}


def test_cases_come_size_by_size(light: Subject) -> None:
    plan = Plan(rounds=1, seconds=1, at_once=(8, 1))
    found = list(_cases(light, {"one": Silent(), "other": Silent()}, plan))
    assert found == [(1, "one"), (1, "other"), (8, "one"), (8, "other")]
