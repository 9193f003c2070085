from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocol import messages
from protocol.contracts import SENTIMENT, SignatureSpec, TensorSpec
from protocol.errors import (
    ContractError,
    DataLossError,
    FailedPreconditionError,
    InvalidRequestError,
    ServiceError,
    UnavailableError,
    UnimplementedError,
)
from protocol.warmup import frame_record
from serving.core.loading import VersionLoader, check_contract, replay, resident_bytes
from serving.core.metrics import TfMetrics
from serving.core.servable import AspiredVersion, Servable, ServableId
from serving.runtimes import RuntimeChooser, RuntimeOptions


@pytest.fixture
def metrics() -> TfMetrics:
    return TfMetrics()


@pytest.fixture
def load(metrics: TfMetrics) -> Callable[..., Servable]:
    def load(folder: Path, **options: Any) -> Servable:
        loader = VersionLoader(RuntimeChooser(RuntimeOptions()), metrics, **options)
        return loader.load(ServableId("m", 1), AspiredVersion(1, folder))

    return load


def test_loads_and_counts(model_folders, load, metrics) -> None:
    folder = model_folders.half_plus_two(1)
    assert set(load(folder).signatures) == {"serving_default", "tensors"}
    assert metrics.load_attempt_count.total() == 1
    assert f'{{model_path="{folder}",status="success"}} 1' in "\n".join(metrics.lines())


def test_tells_by_how_much_the_process_grew(model_folders, load) -> None:
    told: list[tuple[ServableId, int]] = []
    load(model_folders.half_plus_two(1), tell_memory=lambda *told_of: told.append(told_of))
    [(servable_id, size)] = told
    assert servable_id == ("m", 1)
    assert 0 <= size < resident_bytes()


def test_a_damaged_file_is_named(model_folders, load, metrics) -> None:
    folder = model_folders.sentiment()
    (folder / "model.onnx").write_bytes(b"something else")
    with pytest.raises(DataLossError, match=r"model\.onnx is damaged"):
        load(folder)
    assert 'status="fail"} 1' in "\n".join(metrics.lines())


def test_a_model_without_its_tasks_signature_is_refused(model_folders, load, make_manifest) -> None:
    manifest = make_manifest(signatures=(SENTIMENT.signature("serving_default"),))
    folder = model_folders.sentiment(manifest=manifest)
    message = "A sentiment model must have the signature 'tensors'; found: serving_default"
    with pytest.raises(ContractError, match=message):
        load(folder)


def test_a_signature_that_differs_is_refused(model_folders, load, make_manifest) -> None:
    tensors = SignatureSpec(
        "tensors",
        inputs=(TensorSpec("token_ids", "int64", (None, None)),),
        outputs=(TensorSpec("probability", "float32", (None, None)),),
    )
    manifest = make_manifest(signatures=(SENTIMENT.signature("serving_default"), tensors))
    folder = model_folders.sentiment(manifest=manifest)
    with pytest.raises(ServiceError, match=r"(?s)token_ids.*int(32|64)"):
        load(folder)


def test_unknown_tasks_have_no_contract() -> None:
    servable: Any = None
    check_contract(servable, "weather")


def test_warm_up_runs_before_the_version_is_ready(
    model_folders, load, metrics, make_request
) -> None:
    records = [make_request("any", {"text": ["good film"]})] * 3
    load(model_folders.sentiment(warmup=records))
    assert metrics.warmup_records.total() == 3


def test_a_failing_record_fails_the_load(model_folders, load, metrics, make_request) -> None:
    records = [
        make_request("any", {"text": ["good film"]}),
        make_request("any", {"text": [1.5]}),
    ]
    folder = model_folders.sentiment(warmup=records)
    with pytest.raises(ContractError, match=r"Warm-up record 2 of .*expected string"):
        load(folder)
    load(folder, warm_up=False)


def test_a_warm_up_file_that_is_none_is_reported(model_folders, load, make_manifest) -> None:
    folder = model_folders.half_plus_two(1)
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"these are no records")
    with pytest.raises(DataLossError, match="Please verify your warmup data is in TFRecord"):
        load(folder)


def test_records_of_other_kinds(model_folders, load) -> None:
    folder = model_folders.half_plus_two(1)
    servable = load(folder)
    replay(servable, messages.PredictionLog())
    classify = messages.PredictionLog()
    classify.classify_log.request.model_spec.name = "m"
    with pytest.raises(InvalidRequestError, match="No classification inputs found"):
        replay(servable, classify)
    for kind in ("session_run_log", "predict_streamed_log"):
        record = messages.PredictionLog()
        getattr(record, kind).SetInParent()
        with pytest.raises(UnimplementedError, match=f"Unsupported log_type for warmup: {kind}"):
            replay(servable, record)


def example_records() -> list[Any]:
    """One record of each kind that holds examples."""
    classify, regress, multi = (messages.PredictionLog() for _ in range(3))
    requests = (
        classify.classify_log.request,
        regress.regress_log.request,
        multi.multi_inference_log.request,
    )
    for request in requests:
        made = request.input.example_list.examples.add()
        made.features.feature["x"].float_list.value.append(2)
    requests[0].model_spec.signature_name = "classify"
    requests[1].model_spec.signature_name = "regress"
    for method in ("classify", "regress"):
        task = requests[2].tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.signature_name = method
    return [classify, regress, multi]


def write_records(folder: Path, records: list[Any]) -> None:
    (folder / "assets.extra").mkdir(exist_ok=True)
    data = b"".join(frame_record(record.SerializeToString()) for record in records)
    (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(data)


def test_records_of_examples_are_replayed(tmp_path: Path, load, metrics) -> None:
    pytest.importorskip("tensorflow")
    from tests.serving.saved_models import write_half_plus_two

    folder = write_half_plus_two(tmp_path / "1")
    write_records(folder, example_records())
    load(folder)
    assert metrics.warmup_records.total() == 3
    unfit = example_records()[1]
    unfit.regress_log.request.model_spec.signature_name = "wide"
    write_records(folder, [unfit])
    with pytest.raises(InvalidRequestError, match=r"Warm-up record 1 of .*Expected output Tensor"):
        load(folder)


def test_a_folder_can_be_refused_beforehand(model_folders, load) -> None:
    def refuse(folder: Path) -> None:
        raise FailedPreconditionError(f"not {folder.name}")

    with pytest.raises(FailedPreconditionError, match="not 1"):
        load(model_folders.half_plus_two(1), check_folder=refuse)


def test_a_version_that_is_still_being_copied_is_refused(model_folders, load, metrics) -> None:
    folder = model_folders.half_plus_two(1)
    variables = folder / "variables"
    variables.mkdir()
    load(folder)
    (variables / "variables.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(UnavailableError, match=r"not complete: variables/variables\.index is"):
        load(folder)
    (variables / "variables.index").write_bytes(b"")
    load(folder)


def test_a_version_that_changes_meanwhile_is_loaded_again(
    model_folders, metrics, monkeypatch
) -> None:
    folder = model_folders.half_plus_two(1)
    loads: list[Any] = []

    class Runtime:
        def load(self, folder: Path, manifest: Any) -> Any:
            loads.append(RuntimeChooser(RuntimeOptions())(aspired).load(folder, manifest))
            if len(loads) < 3:
                (folder / "model.onnx").touch()
            return loads[-1]

    aspired = AspiredVersion(1, folder)
    loader = VersionLoader(lambda aspired: Runtime(), metrics)
    assert loader.load(ServableId("m", 1), aspired) is loads[2]
    assert len(loads) == 3
