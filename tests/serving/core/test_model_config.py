from pathlib import Path

import pytest

from protocol.errors import InvalidRequestError
from serving.core.model_config import (
    AllVersions,
    LatestVersions,
    ModelConfig,
    SpecificVersions,
    check_model_configs,
)


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        (LatestVersions(), [9]),
        (LatestVersions(2), [9, 5]),
        (LatestVersions(0), [9]),
        (AllVersions(), [9, 5, 0]),
        (SpecificVersions(frozenset({0, 5, 7})), [5, 0]),
    ],
)
def test_policies_choose_highest_first(policy, chosen) -> None:
    assert policy.choose({5, 0, 9}) == chosen


def test_base_path_may_be_a_file_address() -> None:
    assert ModelConfig("m", "file:///models/m").folder == Path("/models/m")


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ([ModelConfig("", "/m")], "has no name"),
        (
            [ModelConfig("m", "/a"), ModelConfig("m", "/b")],
            "Illegal to list model m multiple times in config list",
        ),
        ([ModelConfig("m", "models/m")], "Expected model m to have an absolute path or URI"),
        ([ModelConfig("m", "gs://bucket/m")], "only local folders"),
        ([ModelConfig("m", "/m", platform="torch")], "Model m requests unsupported platform torch"),
        ([ModelConfig("m", "/m", platform="")], "Illegal setting neither"),
    ],
)
def test_wrong_lists_are_refused(configs, message) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        check_model_configs(configs)


def test_platform_of_a_served_model_may_not_change() -> None:
    served = {"m": ModelConfig("m", "/m")}
    with pytest.raises(InvalidRequestError, match="Illegal to change a model's platform"):
        check_model_configs([ModelConfig("m", "/m", platform="onnxruntime")], served)
