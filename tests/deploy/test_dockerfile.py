"""The server's image: what it is built from and what it contains."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def dockerfile(repository: Path) -> str:
    return (repository / "serving" / "docker" / "Dockerfile").read_text()


def test_the_base_is_pinned_and_can_be_replaced(dockerfile: str) -> None:
    assert re.search(r"^ARG BASE_IMAGE=\S+:\d+\.\d+\.\d+", dockerfile, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {"${BASE_IMAGE}"}


def test_the_base_is_the_one_of_the_settings(repository: Path, dockerfile: str) -> None:
    [base] = re.findall(r"^ARG BASE_IMAGE=(\S+)", dockerfile, re.MULTILINE)
    assert f"BASE_IMAGE={base}" in (repository / ".env").read_text().splitlines()


def test_it_does_not_run_as_root(dockerfile: str) -> None:
    [user] = re.findall(r"^USER (\S+)", dockerfile, re.MULTILINE)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_it_installs_the_server_with_exact_versions(dockerfile: str) -> None:
    assert "--constraint constraints.txt" in dockerfile
    assert re.findall(r"'\.\[(.+?)\]'", dockerfile) == ["serve"]


def test_it_has_a_health_check(dockerfile: str) -> None:
    assert re.search(
        r'^HEALTHCHECK .*\\\n +CMD \["python", "-m", "clients", "health"', dockerfile, re.M
    )


def test_what_it_copies_is_in_the_build_context(repository: Path, dockerfile: str) -> None:
    ignored = (repository / ".dockerignore").read_text().splitlines()
    kept = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    for source in " ".join(copied).split():
        assert (repository / source).exists()
        assert any(fnmatch(source, name) or source.startswith(f"{name}/") for name in kept), source
