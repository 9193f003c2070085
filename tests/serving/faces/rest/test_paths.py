import pytest

from protocol.errors import InvalidRequestError
from serving.core.manager import ModelChoice
from serving.faces.rest.paths import Target, is_rest, read_target


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("POST", "/v1/models/m:predict", Target(ModelChoice("m"), "predict")),
        ("POST", "/V1/MODELS/M:classify", Target(ModelChoice("M"), "classify")),
        ("POST", "/v1/models/m/versions/007:regress", Target(ModelChoice("m", 7), "regress")),
        ("POST", "/v1/models/m/VERSIONS/0:predict", Target(ModelChoice("m", 0), "predict")),
        (
            "POST",
            "/v1/models/a%2Fb/labels/%C3%BC%20+:predict",
            Target(ModelChoice("a/b", label="ü +"), "predict"),
        ),
        ("GET", "/v1/models/m", Target(ModelChoice("m"), "")),
        ("GET", "/v1/models/m/versions/2", Target(ModelChoice("m", 2), "")),
        ("GET", "/v1/models/m/labels/x", Target(ModelChoice("m", label="x"), "")),
        ("GET", "/v1/models/m/metadata", Target(ModelChoice("m"), "metadata")),
        ("GET", "/v1/models/m/METADATA", Target(ModelChoice("m"), "")),
        (
            "GET",
            "/v1/models/m/labels/x/metadata",
            Target(ModelChoice("m", label="x"), "metadata"),
        ),
        ("GET", "/v1/models/metadata", Target(ModelChoice("metadata"), "")),
        ("GET", "/v1/models", Target(ModelChoice(""), "models")),
        ("GET", f"/v1/models/m/versions/{2**63 - 1}", Target(ModelChoice("m", 2**63 - 1), "")),
    ],
)
def test_paths(method, path, target) -> None:
    assert read_target(method, path) == target


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/foo"),
        ("POST", "/v1/foo"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/debug/model_name"),
        ("POST", "/v1/models"),
        ("POST", "/v1/models/foo"),
        ("GET", "/v1/models/foo:predict"),
        ("PUT", "/v1/models/foo:predict"),
        ("HEAD", "/v1/models/foo"),
        ("POST", "/v1/models/foo:PREDICT"),
        ("POST", "/v1/models/foo:explain"),
        ("POST", "/v1/models/foo/version/50:predict"),
        ("POST", "/v1/models/foo/versions/HELLO:regress"),
        ("POST", "/v1/models/foo/versions/-1:regress"),
        ("POST", "/v1/models/foo/versions/٣:regress"),
        ("POST", "/v1/models/foo/metadata"),
        ("POST", "/v1/models/foo/label/some_label:regress"),
        ("POST", "/v1/models/foo/versions/50/labels/some_label:regress"),
        ("POST", "/v1/models/foo:predict?x=1"),
        ("GET", "/v1/models?x=1"),
        ("GET", "/v1/models/foo/metadata?x=1"),
    ],
)
def test_malformed_paths(method, path) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read_target(method, path)
    assert caught.value.message == f"Malformed request: {method} {path}"


@pytest.mark.parametrize("version", [2**63, 2**64 - 1, "9" * 5000])
def test_versions_that_are_no_number(version) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read_target("POST", f"/v1/models/foo/versions/{version}:regress")
    assert caught.value.message == f"Failed to convert version: {version} to numeric."


def test_a_version_needs_a_model() -> None:
    with pytest.raises(InvalidRequestError, match=r"^Missing model name in request\.$"):
        read_target("GET", "/v1/models/versions/1")


def test_what_belongs_to_the_api() -> None:
    assert is_rest("/v1/models")
    assert is_rest("/V1/")
    assert not is_rest("/v1")
    assert not is_rest("/statuspage")
