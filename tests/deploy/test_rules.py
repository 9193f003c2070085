"""Prometheus' rules, checked by promtool."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

RULES = Path("serving/docker/config/rules")


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return found


def run(*arguments: str) -> str:
    found = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_rules_are_valid(promtool: str, repository: Path) -> None:
    files = sorted((repository / RULES).glob("*.yml"))
    assert len(files) == 2
    run(promtool, "check", "rules", *map(str, files))


def test_every_alert_fires_and_resolves(promtool: str, repository: Path, tmp_path: Path) -> None:
    cases = (repository / "tests/deploy/rules_test.yml").read_text()
    file = tmp_path / "rules_test.yml"
    file.write_text(cases.replace("RULES", str(repository / RULES)))
    assert "SUCCESS" in run(promtool, "test", "rules", str(file))


def test_every_alert_has_a_case_and_a_line_in_the_docs(repository: Path) -> None:
    alerts = yaml.safe_load((repository / RULES / "alerts.yml").read_text())
    cases = (repository / "tests/deploy/rules_test.yml").read_text()
    docs = (repository / "docs/deploy.md").read_text()
    names = {rule["alert"] for group in alerts["groups"] for rule in group["rules"]}
    assert len(names) == 7
    for name in names:
        assert f"alertname: {name}" in cases
        assert f"| `{name}` |" in docs


def test_prometheus_reads_the_rules_where_compose_mounts_them(repository: Path) -> None:
    config = yaml.safe_load((repository / "serving/docker/config/prometheus.yml").read_text())
    compose = yaml.safe_load((repository / "docker-compose.yml").read_text())
    volumes = compose["services"]["prometheus"]["volumes"]
    assert config["rule_files"] == ["rules/*.yml"]
    assert f"./{RULES}:/etc/prometheus/rules:ro" in volumes
