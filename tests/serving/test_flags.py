import pytest

from protocol.errors import InvalidRequestError
from serving.flags import IGNORED_FLAGS, ServerFlags, UsageError, parse, usage


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
    given = ["--use_alts_credentials", "--mixed_precision=x"]
    assert parse(given).ignored == ("use_alts_credentials", "mixed_precision")
    with pytest.raises(UsageError, match="--use_alts_credentials must be true, false, 1 or 0"):
        parse(["--use_alts_credentials=half"])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--port=abc", "--port must be a whole number; was 'abc'"),
        ("--port=", "--port must be a whole number; was ''"),
        ("--rest_api_num_threads=0", "--rest_api_num_threads must be 1 or more; was 0"),
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


@pytest.mark.parametrize("text", ["1_0", " 1", "1 ", "", "0x1", "1e3", "1.5"])
def test_whole_numbers_are_written_plainly(text: str) -> None:
    with pytest.raises(UsageError, match="--port must be a whole number"):
        parse([f"--port={text}"])


def test_a_value_after_a_space_is_no_value() -> None:
    line = parse(["--model_name", "m", "--enable_batching", "false"])
    assert line.unknown == ("--model_name", "m", "false")
    assert line.flags == ServerFlags(enable_batching=True)


def test_every_flag_of_tensorflow_serving_is_known() -> None:
    """The flags of tensorflow_model_server 2.20 and the types of their values."""
    switches = """
        rest_api_enable_cors_support enable_batching enable_per_model_batching_parameters
        allow_version_labels_for_unavailable_models flush_filesystem_caches enable_model_warmup
        enable_grpc_healthcheck_service enable_serialization_as_tensor_content
        enable_signature_method_name_check prefer_tflite_model enable_profiler
        use_alts_credentials remove_unused_fields_from_bundle_metagraph
        xla_cpu_compilation_enabled xla_gpu_compilation_enabled skip_initialize_tpu
    """
    numbers = """
        port rest_api_port rest_api_num_threads rest_api_timeout_in_ms
        model_config_file_poll_wait_seconds file_system_poll_wait_seconds num_load_threads
        num_unload_threads max_num_load_retries load_retry_interval_micros
        num_request_iterations_for_warmup grpc_max_threads tensorflow_session_parallelism
        tensorflow_intra_op_parallelism tensorflow_inter_op_parallelism
        per_process_gpu_memory_fraction num_tflite_pools num_tflite_interpreters_per_pool
    """
    texts = """
        grpc_socket_path model_name model_base_path model_config_file batching_parameters_file
        monitoring_config_file ssl_config_file saved_model_tags grpc_channel_arguments
        tensorflow_session_config_file platform_config_file thread_pool_factory_config_file
        mixed_precision
    """
    arguments = [
        *(f"--{name}" for name in switches.split()),
        *(f"--{name}=1" for name in numbers.split() if "tensorflow" not in name),
        *(f"--{name}=text" for name in texts.split()),
    ]
    assert parse(arguments).unknown == ()
    for name in switches.split():
        with pytest.raises(UsageError, match=f"--{name} must be true, false, 1 or 0"):
            parse([f"--{name}=maybe"])
    for name in numbers.split():
        with pytest.raises(UsageError, match=f"--{name} must be a"):
            parse([f"--{name}=many"])


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
