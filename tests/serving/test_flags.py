import pytest

from protocol.errors import InvalidRequestError
from serving.flags import IGNORED_FLAGS, ServerFlags, parse, usage


def test_defaults_are_tensorflow_servings() -> None:
    flags = parse([]).flags
    assert (flags.port, flags.rest_api_port, flags.model_name) == (8500, 0, "default")
    assert flags.file_system_poll_wait_seconds == 1
    assert flags.max_num_load_retries == 5
    assert flags.load_retry_interval_micros == 60_000_000
    assert flags.enable_batching is False
    assert flags.enable_model_warmup is True


def test_values_are_read() -> None:
    line = parse(
        ["--port=9000", "--model_name=m", "--drain_timeout_seconds=1.5", "--model_base_path=a=b"]
    )
    assert line.flags == ServerFlags(
        port=9000, model_name="m", drain_timeout_seconds=1.5, model_base_path="a=b"
    )


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--enable_batching", True),
        ("--enable_batching=true", True),
        ("--enable_batching=1", True),
        ("--enable_batching=false", False),
        ("--enable_batching=0", False),
    ],
)
def test_switches(argument: str, value: bool) -> None:
    assert parse([argument]).flags.enable_batching is value


def test_unknown_arguments_do_not_stop_the_server() -> None:
    arguments = ["--unheard=1", "stray", "--port", "9000", "-port=1", "--model_name=m"]
    line = parse(arguments)
    assert line.unknown == ("--unheard=1", "stray", "--port", "9000", "-port=1")
    assert line.flags == ServerFlags(model_name="m")


def test_flags_without_effect_are_named_but_checked() -> None:
    assert parse(["--enable_profiler=false", "--num_tflite_pools=2"]).ignored == (
        "enable_profiler",
        "num_tflite_pools",
    )
    with pytest.raises(InvalidRequestError, match="--num_tflite_pools must be a whole number"):
        parse(["--num_tflite_pools=two"])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--port=abc", "--port must be a whole number; was 'abc'"),
        ("--port=", "--port must be a whole number; was ''"),
        ("--port=70000", r"--port must be 0\.\.65535; was 70000"),
        ("--enable_batching=maybe", "--enable_batching must be true, false, 1 or 0"),
        ("--drain_timeout_seconds=soon", "--drain_timeout_seconds must be a number"),
        ("--runtime=torch", "--runtime must be auto, onnx or saved_model; was torch"),
        ("--batching_parameters_file=f", "needs --enable_batching"),
    ],
)
def test_bad_values_are_refused(argument: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        parse([argument])


def test_session_parallelism_excludes_the_other_two() -> None:
    names = ("session", "intra_op", "inter_op")
    flags = parse(["--tensorflow_session_parallelism=3", "--tensorflow_inter_op_parallelism=2"])
    assert (flags.flags.intra_op_threads, flags.flags.inter_op_threads) == (3, 2)
    with pytest.raises(InvalidRequestError, match="can not be given together"):
        parse([f"--tensorflow_{name}_parallelism=1" for name in names])


def test_help_and_version_are_recognised() -> None:
    assert parse(["--help"]).wants_help
    assert parse(["--version"]).wants_version


def test_the_help_page_names_every_flag() -> None:
    page = usage()
    for name in (*ServerFlags.__dataclass_fields__, *IGNORED_FLAGS):
        assert f"--{name}" in page
    assert max(map(len, page.splitlines())) <= 100
