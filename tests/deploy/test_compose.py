"""The stack: what starts after what, what each part may do, and, with Docker, that it works."""

import json
import os
import re
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from export.served_models import SERVED

ENGINES = {"embedded", "tfserving"}
ONCE = {"publisher", "smoke"}
BUILD_S, START_S = 1800, 900


@pytest.fixture(scope="module")
def services(repository: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((repository / "docker-compose.yml").read_text())
    return found["services"]  # type: ignore[no-any-return]


def test_the_order_of_start(services: dict[str, Any]) -> None:
    waits = {
        name: {other: rule["condition"] for other, rule in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    healthy = dict.fromkeys(ENGINES, "service_healthy")
    for engine in ENGINES:
        assert waits[engine] == {"publisher": "service_completed_successfully"}
    assert waits["web"] == healthy
    assert waits["grafana"] == {"prometheus": "service_healthy"}
    assert waits["smoke"] == healthy | dict.fromkeys(("prometheus", "grafana"), "service_healthy")


def test_only_one_engine_is_waited_for(services: dict[str, Any]) -> None:
    for name in ("web", "smoke"):
        for engine in ENGINES:
            assert services[name]["depends_on"][engine]["required"] is False
    for engine in ENGINES:
        assert services[engine]["profiles"] == [engine]


def test_what_goes_on_running_has_a_health_check(services: dict[str, Any]) -> None:
    for name in set(services) - ONCE:
        service = services[name]
        assert "healthcheck" in service or "build" in service, name
        assert service["restart"] == "unless-stopped"


def test_nobody_is_root_and_everybody_has_limits(services: dict[str, Any]) -> None:
    for name, service in services.items():
        user = re.sub(r"\$\{\w+:-(.+)\}", r"\1", service["user"])
        assert re.fullmatch(r"[1-9]\d*:\d+", user), name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert service["tmpfs"] == ["/tmp"], name


def test_only_the_publisher_may_write_models(services: dict[str, Any]) -> None:
    writable = {
        name: [volume for volume in service.get("volumes", []) if not volume.endswith(":ro")]
        for name, service in services.items()
    }
    assert {name: volumes for name, volumes in writable.items() if volumes} == {
        "publisher": ["${MODEL_VOLUME:-models}:/models"],
        "prometheus": ["prometheus:/prometheus"],
        "grafana": ["grafana:/var/lib/grafana"],
    }


def test_every_model_is_published(services: dict[str, Any]) -> None:
    assert services["publisher"]["command"] == list(SERVED)


def test_no_file_holds_a_secret(repository: Path) -> None:
    for name in ("docker-compose.yml", ".env"):
        text = (repository / name).read_text()
        assert not re.search(r"(?i)(password|secret|token)\w*\s*[:=]\s*\S", text), name


# With Docker. BASE_IMAGE, PROMETHEUS_IMAGE and GRAFANA_IMAGE may name stand-ins.


class Stack:
    """Containers, networks and volumes of one test."""

    def __init__(self, repository: Path, environment: Mapping[str, str]) -> None:
        self._repository = repository
        self._environment = {**os.environ, **environment}
        self._project = f"test-{uuid.uuid4().hex[:8]}"

    def compose(self, *arguments: str, timeout_s: int = START_S) -> str:
        found = subprocess.run(
            ["docker", "compose", "--project-name", self._project, *arguments],
            cwd=self._repository,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-5000:]
        return found.stdout

    def states(self) -> dict[str, tuple[str, str]]:
        """State and health of each service."""
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        found = [json.loads(line) for line in lines if line]
        return {each["Service"]: (each["State"], each["Health"]) for each in found}


def has_image(name: str) -> bool:
    command = ["docker", "image", "inspect", name]
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


def pull(name: str) -> None:
    """Fetches an image, or skips the test."""
    command = ["docker", "pull", "--quiet", name]
    if not has_image(name) and subprocess.run(command, capture_output=True, timeout=600).returncode:
        pytest.skip(f"no image {name}")


@pytest.fixture
def stack(docker: str, repository: Path, free_ports) -> Iterator[Stack]:
    names = ("GRPC_PORT", "REST_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT", "WEB_PORT")
    ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))
    stack = Stack(repository, {"COMPOSE_PROFILES": "embedded", **ports})
    config = json.loads(stack.compose("config", "--format", "json"))["services"]
    # Images that are there already, perhaps built with settings of pip's, are used as they are.
    for name, service in config.items():
        if has_image(service["image"]):
            continue
        if "build" not in service:
            pull(service["image"])
            continue
        pull(service["build"]["args"]["BASE_IMAGE"])
        stack.compose("build", name, timeout_s=BUILD_S)
    yield stack
    stack.compose("--profile", "smoke", "down", "--volumes", "--remove-orphans")


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.docker
def test_the_stack_with_the_embedded_engine(stack: Stack) -> None:
    stack.compose("up", "--detach")
    states = stack.states()
    assert states.pop("publisher")[0] == "exited"
    assert {state for state, _ in states.values()} == {"running"}
    assert states["embedded"] == ("running", "healthy")
    assert "queries have data" in stack.compose("run", "--rm", "smoke")
    assert stack.states()["web"] == ("running", "healthy")
