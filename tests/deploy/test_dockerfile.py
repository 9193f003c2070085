"""The images: what they are built from and what they contain."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

# Each image, and the extra of pyproject.toml that is installed in it.
EXTRAS = {"publisher": "tensorflow", "web": "web", "": "serve"}


@pytest.fixture(scope="module")
def dockerfile(repository: Path) -> str:
    return (repository / "serving" / "docker" / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def stages(dockerfile: str) -> dict[str, str]:
    """The text of each stage by its name; that of the last, which has none, is empty."""
    parts = re.split(r"^FROM (\S+)(?: AS (\S+))?$", dockerfile, flags=re.MULTILINE)
    return {name or "": text for name, text in zip(parts[2::3], parts[3::3], strict=True)}


def test_the_base_is_pinned_and_can_be_replaced(dockerfile: str, stages: dict[str, str]) -> None:
    assert re.search(r"^ARG BASE_IMAGE=\S+:\d+\.\d+\.\d+", dockerfile, re.MULTILINE)
    bases = set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE))
    assert bases - set(stages) == {"${BASE_IMAGE}"}


def test_the_base_is_the_one_of_the_settings(repository: Path, dockerfile: str) -> None:
    [base] = re.findall(r"^ARG BASE_IMAGE=(\S+)", dockerfile, re.MULTILINE)
    assert f"BASE_IMAGE={base}" in (repository / ".env").read_text().splitlines()


@pytest.mark.parametrize("image", EXTRAS)
def test_it_does_not_run_as_root(stages: dict[str, str], image: str) -> None:
    [user] = re.findall(r"^USER (\S+)", stages[image], re.MULTILINE)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


@pytest.mark.parametrize("image", EXTRAS)
def test_it_installs_exact_versions(stages: dict[str, str], image: str) -> None:
    build = stages[f"build-{image or 'server'}"]
    assert re.findall(r"'\.\[(.+?)\]'", build) == [EXTRAS[image]]
    assert "--constraint constraints.txt" in build
    assert f"COPY --from=build-{image or 'server'} /opt/venv" in stages[image]


def test_only_the_publisher_has_tensorflow(stages: dict[str, str]) -> None:
    assert [name for name, text in stages.items() if ".[tensorflow]" in text] == ["build-publisher"]


@pytest.mark.parametrize("image", ["", "web"])
def test_what_goes_on_running_has_a_health_check(stages: dict[str, str], image: str) -> None:
    assert re.search(r'^HEALTHCHECK .*\\\n +CMD \["python", ', stages[image], re.MULTILINE)


def test_what_it_copies_is_in_the_build_context(repository: Path, dockerfile: str) -> None:
    lines = (repository / ".dockerignore").read_text().splitlines()
    rules = [(line[:1] != "!", line.removeprefix("!")) for line in lines if line[:1] != "#"]

    def is_ignored(source: str) -> bool:
        found = [
            ignored
            for ignored, name in rules
            if fnmatch(source, name) or source.startswith(f"{name}/")
        ]
        return found[-1]

    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    for source in " ".join(copied).split():
        assert (repository / source).exists()
        assert not is_ignored(source), source
    assert is_ignored("serving/docker/config/models.config")
    assert is_ignored("model_repository")
