"""What compose gives TensorFlow Serving: files in its messages, and flags that it has."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from export.served_models import SERVED
from protocol import messages
from serving import config_files
from serving.flags import ServerFlags

CONFIG = Path("serving/docker/config")
OURS_ONLY = "(not in TensorFlow Serving)"
# Fields of a version's own file that count for it alone; threads are the server's.
GLOBAL_FIELDS = ("num_batch_threads", "thread_pool_name")


@pytest.fixture(scope="module")
def compose(repository: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((repository / "docker-compose.yml").read_text())
    return document


@pytest.fixture(scope="module")
def model_configs(repository: Path) -> list[Any]:
    """The served models, parsed with the official message."""
    text = (repository / CONFIG / "models.config").read_text()
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    return list(parsed.model_config_list.config)


def flags_of(service: dict[str, Any]) -> dict[str, str]:
    pairs = (flag.removeprefix("--").partition("=") for flag in service["command"])
    return {name: value for name, _, value in pairs}


def test_every_model_has_both_labels_and_serves_what_they_name(model_configs: list[Any]) -> None:
    assert [config.name for config in model_configs] == list(SERVED)
    for config in model_configs:
        assert config.base_path == f"/models/{config.name}"
        assert config.model_platform == "tensorflow"
        assert set(config.version_labels) == {"stable", "canary"}
        served = set(config.model_version_policy.specific.versions)
        assert set(config.version_labels.values()) == served


def test_labels_of_versions_that_are_not_loaded_yet_are_allowed(compose: dict[str, Any]) -> None:
    assert (
        "--allow_version_labels_for_unavailable_models"
        in compose["services"]["tfserving"]["command"]
    )


def test_its_flags_are_those_of_tensorflow_serving(compose: dict[str, Any]) -> None:
    known = {field.name for field in fields(ServerFlags) if OURS_ONLY not in field.metadata["text"]}
    flags = flags_of(compose["services"]["tfserving"])
    assert set(flags) <= known
    switches = {name for name, value in flags.items() if not value}
    assert switches == {name for name in flags if isinstance(getattr(ServerFlags(), name), bool)}


# The package with the official messages leaves these out; ours have their names and numbers.
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("batching.config", messages.BatchingParameters),
        ("monitoring.config", messages.MonitoringConfig),
        *((f"batching/{model}.pbtxt", messages.BatchingParameters) for model in SERVED),
    ],
)
def test_the_files_hold_the_messages_that_are_expected(
    repository: Path, name: str, message: Any
) -> None:
    parsed = config_files.read_text_proto(repository / CONFIG / name, message)
    assert parsed.ByteSize() > 0


def test_every_model_has_batching_parameters(repository: Path, compose: dict[str, Any]) -> None:
    folder = repository / CONFIG / "batching"
    assert {file.stem for file in folder.iterdir()} == set(SERVED)
    for file in folder.iterdir():
        parsed = config_files.read_text_proto(file, messages.BatchingParameters)
        assert not any(parsed.HasField(field) for field in GLOBAL_FIELDS)
        options = config_files.read_batching_options(file)
        assert options.batch_timeout_micros == 0
    assert "enable_per_model_batching_parameters" in flags_of(compose["services"]["tfserving"])
