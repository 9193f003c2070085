from serving.core.metrics import QueueMetrics, ServerMetrics
from serving.core.servable import ServableId, ServableState

ID = ServableId("m", 3)


def page(metrics: ServerMetrics) -> list[str]:
    return metrics.render().decode().splitlines()


def test_latency_buckets_are_tensorflow_servings() -> None:
    metrics = ServerMetrics()
    metrics.tf.request_latency.observe(5, "m", "Predict", "GRPC")
    bounds = [
        line.split('le="')[1].split('"')[0]
        for line in page(metrics)
        if line.startswith(":tensorflow:serving:request_latency_bucket")
    ]
    assert len(bounds) == 34
    assert bounds[:4] == ["10", "18", "32.4", "58.32"]
    assert bounds[-1] == "+Inf"


def test_tensorflow_series_have_no_help_and_no_suffix() -> None:
    metrics = ServerMetrics("threads")
    metrics.tf.request_count.add("m", "OK")
    QueueMetrics(metrics, ID, "s", "ONNX").started(5, 8, [2, 3], [0.001, 0.002])
    lines = [line for line in page(metrics) if ":tensorflow:" in line]
    assert not any(line.startswith("# HELP") or "request_count_total" in line for line in lines)
    assert ":tensorflow:serving:batching_session:wrapped_run_count 1" in lines
    assert ":tensorflow:serving:batching_session:input_batch_size_count 2" in lines
    assert ":tensorflow:serving:batching_session:processed_batch_size_sum 8" in lines
    padding = ":tensorflow:serving:batching_session:padding_size_sum"
    assert f'{padding}{{execution_batch_size="8"}} 3' in lines


def test_own_series_carry_model_version_signature_and_code() -> None:
    metrics = ServerMetrics()
    metrics.answers(ID, "serving_default", "OK").observe(0.003)
    metrics.answers(None, "", "NOT_FOUND").observe(0.001)
    lines = page(metrics)
    labels = 'code="OK",model="m",signature="serving_default",version="3"'
    assert f"serving_requests_total{{{labels}}} 1.0" in lines
    assert f"serving_request_seconds_count{{{labels}}} 1.0" in lines
    unknown = 'code="NOT_FOUND",model="unknown",signature="",version=""'
    assert f"serving_requests_total{{{unknown}}} 1.0" in lines


def test_series_of_an_ended_version_are_removed() -> None:
    metrics = ServerMetrics()
    metrics.state_changed(ID, ServableState.AVAILABLE)
    metrics.memory_grew(ID, 1 << 20)
    metrics.answers(ID, "s", "OK").observe(0.003)
    observer = QueueMetrics(metrics, ID, "s", "ONNX")
    metrics.watch(ID, "s", lambda: 1)
    observer.started(1, 1, [1], [0.1])
    assert 'serving_model_state{model="m",version="3"} 30.0' in page(metrics)
    assert 'serving_model_memory_bytes{model="m",version="3"} 1.048576e+06' in page(metrics)
    metrics.state_changed(ID, ServableState.END)
    assert not [line for line in page(metrics) if 'version="3"' in line]


def test_series_of_a_removed_model_and_folder_are_removed() -> None:
    metrics = ServerMetrics()
    metrics.tf.request_count.add("m", "OK")
    metrics.tf.request_latency.observe(1, "m", "Predict", "GRPC")
    metrics.tf.load_attempt_count.add("/models/m/3", "success")
    metrics.forget_model("m")
    metrics.forget_path("/models/m/3")
    assert not [line for line in page(metrics) if '"m"' in line or "/models/m/3" in line]


def test_counter_total_by_path() -> None:
    metrics = ServerMetrics()
    metrics.tf.request_count.add("a", "OK")
    metrics.tf.request_count.add("b", "OK")
    assert metrics.tf.counter_total("/tensorflow/serving/request_count") == 2
    assert metrics.tf.counter_total("/tensorflow/serving/no_such") is None
    assert metrics.tf.counter_total("/tensorflow/serving/request_latency") is None
