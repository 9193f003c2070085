"""The dashboards of Grafana: what the generator writes, and what compose mounts."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

GRAFANA = Path("serving/docker/grafana")


@pytest.fixture(scope="module")
def generator(repository: Path) -> dict[str, Any]:
    return runpy.run_path(str(repository / GRAFANA / "make_dashboards.py"))


def test_the_files_are_what_the_generator_writes(repository: Path, generator: Any) -> None:
    written = {
        f"{dashboard.uid}.json": generator["text"](dashboard)
        for dashboard in generator["DASHBOARDS"]
    }
    folder = repository / GRAFANA / "dashboards"
    assert {file.name: file.read_text() for file in folder.iterdir()} == written


def test_panels_do_not_overlap_and_name_their_source(generator: Any) -> None:
    for dashboard in generator["DASHBOARDS"]:
        document = generator["document"](dashboard)
        places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in document["panels"]}
        assert len(places) == len(document["panels"]) == len(dashboard.panels)
        assert all(panel["datasource"]["uid"] == "prometheus" for panel in document["panels"])
        uses_model = "$model" in json.dumps(document["panels"])
        assert uses_model == bool(document["templating"]["list"])


def test_compose_mounts_what_grafana_is_told_to_read(repository: Path) -> None:
    service = yaml.safe_load((repository / "docker-compose.yml").read_text())["services"]["grafana"]
    mounted = dict(volume.split(":")[:2] for volume in service["volumes"])
    assert mounted[f"./{GRAFANA}/provisioning"] == "/etc/grafana/provisioning"
    folder = mounted[f"./{GRAFANA}/dashboards"]
    files = yaml.safe_load((repository / GRAFANA / "provisioning/dashboards/files.yml").read_text())
    assert files["providers"][0]["options"]["path"] == folder
    home = service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (repository / GRAFANA / "dashboards" / Path(home).name).is_file()
    sources = repository / GRAFANA / "provisioning/datasources/prometheus.yml"
    [source] = yaml.safe_load(sources.read_text())["datasources"]
    assert source["uid"] == "prometheus"
    assert "password" not in json.dumps(service).lower()
