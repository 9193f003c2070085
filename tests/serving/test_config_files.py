from pathlib import Path

import pytest

from protocol import messages
from protocol.errors import InvalidRequestError
from serving import config_files
from serving.core.batching import BatchingOptions
from serving.core.model_config import (
    AllVersions,
    LatestVersions,
    ModelConfig,
    SpecificVersions,
)


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "file.config"
        path.write_text(text)
        return path

    return write


def test_model_configs(write) -> None:
    path = write(
        """
        # A comment.
        model_config_list {
          config { name: "a" base_path: "/models/a" model_platform: "tensorflow" }
          config: {
            name: 'b', base_path: '/models/b', model_platform: 'onnxruntime',
            model_version_policy: { specific { versions: 0 versions: 7 } }
            version_labels { key: "stable" value: 7 }
          }
          config { name: "c" base_path: "/c" model_type: TENSORFLOW
                   model_version_policy { latest { num_versions: 2 } } }
          config { name: "d" base_path: "/d" model_version_policy { all {} } }
        }
        """
    )
    assert config_files.read_model_configs(path) == [
        ModelConfig("a", "/models/a", policy=LatestVersions(1)),
        ModelConfig(
            "b",
            "/models/b",
            platform="onnxruntime",
            policy=SpecificVersions(frozenset({0, 7})),
            labels={"stable": 7},
        ),
        ModelConfig("c", "/c", policy=LatestVersions(2)),
        ModelConfig("d", "/d", platform="", policy=AllVersions()),
    ]


def test_an_empty_file_lists_no_models(write) -> None:
    assert config_files.read_model_configs(write("")) == []


@pytest.mark.parametrize(
    "text", ["model_config_list {", "model_config_list { config { nam: 'a' } }", "nonsense", "\0"]
)
def test_files_that_are_no_config_are_refused(write, text: str) -> None:
    path = write(text)
    with pytest.raises(InvalidRequestError, match=rf"Invalid protobuf file: '{path}'"):
        config_files.read_model_configs(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"Can not read file .*none\.config"):
        config_files.read_model_configs(tmp_path / "none.config")


def test_a_custom_config_is_refused() -> None:
    config = messages.ModelServerConfig()
    config.custom_model_config.SetInParent()
    with pytest.raises(InvalidRequestError, match="Only model_config_list is supported"):
        config_files.model_configs(config)


def test_batching_options(write) -> None:
    path = write(
        """
        max_batch_size { value: 64 }
        batch_timeout_micros { value: 500 }
        max_enqueued_batches { value: 7 }
        num_batch_threads { value: 3 }
        thread_pool_name { value: "threads" }
        allowed_batch_sizes: 8
        allowed_batch_sizes: 64
        pad_variable_length_inputs: true
        enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 32 }
        """
    )
    assert config_files.read_batching_options(path) == BatchingOptions(
        64,
        500,
        7,
        3,
        "threads",
        allowed_batch_sizes=(8, 64),
        pad_variable_length_inputs=True,
        enable_large_batch_splitting=True,
        max_execution_batch_size=32,
    )
    assert config_files.read_batching_options(path, threads=5).num_batch_threads == 5


def test_batching_defaults(write) -> None:
    assert config_files.read_batching_options(write("")) == BatchingOptions()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size { value: 0 }", "max_batch_size must be at least 1; was 0"),
        ("allowed_batch_sizes: 8 allowed_batch_sizes: 4", "must be increasing"),
        (
            "max_batch_size { value: 16 } allowed_batch_sizes: 8",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 8",
        ),
    ],
)
def test_impossible_batching_is_refused(write, text: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        config_files.read_batching_options(write(text))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { enable: true path: "/m" }', "/m"),
        ("prometheus_config { enable: false }", ""),
        ("", ""),
    ],
)
def test_metrics_path(write, text: str, path: str) -> None:
    assert config_files.read_metrics_path(write(text)) == path


def test_a_metrics_path_starts_with_a_slash(write) -> None:
    with pytest.raises(InvalidRequestError, match="must start with /"):
        config_files.read_metrics_path(write('prometheus_config { enable: true path: "m" }'))


def test_ssl_options(write) -> None:
    path = write('server_key: "K\\nk" server_cert: "C" custom_ca: "A" client_verify: true')
    assert config_files.read_ssl_options(path) == config_files.SslOptions(
        key=b"K\nk", certificate=b"C", ca=b"A", client_verify=True
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('server_key: "k"', "must give both server_key and server_cert"),
        ('server_key: "k" server_cert: "c" client_verify: true', "needs custom_ca"),
    ],
)
def test_incomplete_ssl_is_refused(write, text: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        config_files.read_ssl_options(write(text))


def test_the_command_lines_base_path_may_be_relative() -> None:
    model = config_files.command_line_model("m", "models/m")
    assert model.folder == Path.cwd() / "models" / "m"
    assert config_files.command_line_model("m", "file:///m").base_path == "file:///m"


def test_session_threads(write) -> None:
    path = write("intra_op_parallelism_threads: 3 inter_op_parallelism_threads: 2")
    assert config_files.read_session_threads(path) == config_files.SessionThreads(3, 2)
    assert config_files.read_session_threads(write("")) == config_files.SessionThreads()


def test_fields_of_a_session_that_change_nothing_are_told(write, caplog) -> None:
    path = write("inter_op_parallelism_threads: 2 gpu_options { allow_growth: true }")
    assert config_files.read_session_threads(path).inter_op == 2
    assert "gpu_options" in caplog.text
    with pytest.raises(InvalidRequestError, match="Invalid protobuf file"):
        config_files.read_session_threads(write("inter_op_parallelism_threads: many"))


ADAPTER = "[type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig]"


def platform(adapter: str, key: str = "tensorflow") -> str:
    return f"""platform_configs {{
        key: "{key}" value {{ source_adapter_config {{ {adapter} }} }}
    }}"""


def test_platform_options(write) -> None:
    path = write(
        platform(
            f"""{ADAPTER} {{ legacy_config {{
                session_config {{ intra_op_parallelism_threads: 3 }}
                batching_parameters {{ max_batch_size {{ value: 7 }} }}
                saved_model_tags: "serve" saved_model_tags: "gpu"
                enable_model_warmup: true
            }} }}"""
        )
    )
    assert config_files.read_platform_options(path) == config_files.PlatformOptions(
        session=config_files.SessionThreads(intra_op=3),
        batching=BatchingOptions(max_batch_size=7),
        saved_model_tags=("serve", "gpu"),
    )
    path = write(platform(f"{ADAPTER} {{ }}"))
    assert config_files.read_platform_options(path) == config_files.PlatformOptions()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r'must have the key "tensorflow"; found: none'),
        (
            platform(f"{ADAPTER} {{ }}", key="torch"),
            r'must have the key "tensorflow"; found: torch',
        ),
        (platform(""), "must be a tensorflow.serving.SavedModelBundle.*; was not set"),
        (
            platform("[type.googleapis.com/tensorflow.serving.SSLConfig] { }"),
            "must be a .*; was tensorflow.serving.SSLConfig",
        ),
        (platform("[type.googleapis.com/a.b.C] { }"), "Invalid protobuf file"),
        (
            platform(
                f"{ADAPTER} {{ legacy_config {{ batching_parameters {{ "
                "max_batch_size { value: 0 } } } }"
            ),
            "max_batch_size must be at least 1",
        ),
    ],
)
def test_other_platforms_are_refused(write, text: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        config_files.read_platform_options(write(text))
