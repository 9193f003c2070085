"""The manifests of serving/kubernetes: valid, locked up, and about the server as it is."""

import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import text_format

from protocol.messages import ModelServerConfig
from serving import config_files, flags
from serving.core.metrics import ServerMetrics

ENGINES = ("embedded", "tfserving")
OVERLAYS = tuple(f"overlays/{engine}" for engine in ENGINES)
KSERVE = tuple(f"kserve/{engine}" for engine in ENGINES)
OLDEST, NEWEST = "1.30", "1.37"  # of Kubernetes
NAME = {"app.kubernetes.io/name": "keras-model-service"}

Resource = dict[str, Any]
Built = dict[str, Resource]


@pytest.fixture(scope="module")
def build(repository: Path) -> Callable[[str], Built]:
    """Returns the resources of a kustomization by kind."""
    if shutil.which("kubectl"):
        command = ["kubectl", "kustomize"]
    elif shutil.which("kustomize"):
        command = ["kustomize", "build"]
    else:
        pytest.skip("neither kubectl nor kustomize is installed")

    @cache
    def built(folder: str) -> Built:
        path = repository / "serving" / "kubernetes" / folder
        printed = subprocess.run(
            [*command, str(path)], capture_output=True, text=True, check=True
        ).stdout
        return {resource["kind"]: resource for resource in yaml.safe_load_all(printed)}

    return built


def read(repository: Path, name: str) -> Any:
    return yaml.safe_load((repository / "serving" / "kubernetes" / name).read_text())


def settings(repository: Path) -> dict[str, str]:
    lines = (repository / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and line[0] != "#")


def pod(built: Built) -> Any:
    return built["Deployment"]["spec"]["template"]["spec"]


def container(built: Built) -> Any:
    [only] = pod(built)["containers"]
    return only


def metrics_path(repository: Path) -> str:
    path = repository / "serving" / "docker" / "config" / "monitoring.config"
    return str(config_files.read_metrics_path(path))


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_knows_every_field(
    build: Callable[[str], Built], overlay: str, version: str
) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    built = build(overlay)
    assert set(built) == {
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    }
    for resource in built.values():
        kubernetes_validate.validate(resource, version, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
class TestOverlay:
    def test_everything_selects_the_engine_and_nothing_else(
        self, build: Callable[[str], Built], overlay: str
    ) -> None:
        built = build(overlay)
        selected = {
            kind: built[kind]["spec"]["selector"]["matchLabels"]
            for kind in ("Deployment", "PodDisruptionBudget")
        }
        selected["Service"] = built["Service"]["spec"]["selector"]
        selected["NetworkPolicy"] = built["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
        for place, spread in enumerate(pod(built)["topologySpreadConstraints"]):
            selected[f"spread {place}"] = spread["labelSelector"]["matchLabels"]
        assert selected == dict.fromkeys(selected, NAME)
        assert built["Deployment"]["spec"]["template"]["metadata"]["labels"] == NAME
        assert built["Service"]["metadata"]["labels"] == NAME
        target = built["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) == ("Deployment", "engine")

    def test_the_container_is_locked_up(self, build: Callable[[str], Built], overlay: str) -> None:
        built = build(overlay)
        assert container(built)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert pod(built)["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert pod(built)["automountServiceAccountToken"] is False

    def test_models_and_settings_are_read_only(
        self, build: Callable[[str], Built], overlay: str
    ) -> None:
        mounts = {mount["mountPath"]: mount for mount in container(build(overlay))["volumeMounts"]}
        assert mounts["/models"]["readOnly"] is True
        assert mounts["/config"]["readOnly"] is True
        assert set(mounts) == {"/models", "/config", "/tmp"}

    def test_the_flags_are_those_of_the_stack(
        self, build: Callable[[str], Built], overlay: str, repository: Path
    ) -> None:
        arguments = container(build(overlay))["args"]
        parsed = flags.parse(arguments)
        assert (parsed.unknown, parsed.ignored) == ((), ())
        assert (parsed.flags.port, parsed.flags.rest_api_port) == (8500, 8501)
        compose = yaml.safe_load((repository / "docker-compose.yml").read_text())
        command = compose["services"]["embedded"]["command"]
        # Here a change of the settings starts new pods, and pods serve the newest versions, as
        # whoever fills the volume left them.
        of_the_stack = ("poll_wait", "version_labels", "per_model")
        shared = {flag for flag in command if not any(name in flag for name in of_the_stack)}
        assert len(shared) == len(command) - len(of_the_stack)
        assert shared <= set(arguments)

    def test_it_uses_no_more_threads_than_it_asks_processors_for(
        self, build: Callable[[str], Built], overlay: str
    ) -> None:
        engine = container(build(overlay))
        requests = engine["resources"]["requests"]
        parsed = flags.parse(engine["args"]).flags
        assert parsed.tensorflow_intra_op_parallelism == int(requests["cpu"])
        assert set(engine["resources"]["limits"]) == {"memory"}

    def test_the_settings_are_those_of_the_stack(
        self, build: Callable[[str], Built], overlay: str, repository: Path
    ) -> None:
        data = build(overlay)["ConfigMap"]["data"]
        assert set(data) == {"batching.config", "models.config", "monitoring.config"}
        folder = repository / "serving" / "docker" / "config"
        for name in ("batching.config", "monitoring.config"):
            assert data[name] == (folder / name).read_text()
        models = config_files.read_text_proto(folder / "models.config", ModelServerConfig)
        for model in models.model_config_list.config:  # the newest versions, see the flags
            model.ClearField("model_version_policy")
            model.ClearField("version_labels")
        assert text_format.Parse(data["models.config"], ModelServerConfig()) == models

    def test_callers_find_every_pod(self, build: Callable[[str], Built], overlay: str) -> None:
        service = build(overlay)["Service"]["spec"]
        assert service["clusterIP"] == "None"
        assert {port["name"]: port["port"] for port in service["ports"]} == {
            "grpc": 8500,
            "http": 8501,
        }

    def test_only_callers_and_monitoring_reach_it_and_it_reaches_nobody(
        self, build: Callable[[str], Built], overlay: str
    ) -> None:
        policy = build(overlay)["NetworkPolicy"]["spec"]
        callers, monitoring = policy["ingress"]
        assert callers["from"] == [
            {"podSelector": {"matchLabels": {"keras-model-service/client": "true"}}}
        ]
        assert monitoring["ports"] == [{"port": "http"}]
        assert policy["egress"] == []
        assert policy["policyTypes"] == ["Ingress", "Egress"]

    def test_every_metric_of_the_autoscaler_has_a_source(
        self, build: Callable[[str], Built], overlay: str, repository: Path
    ) -> None:
        spec = build(overlay)["HorizontalPodAutoscaler"]["spec"]
        wanted = [
            metric["pods"]["metric"]["name"]
            for metric in spec["metrics"]
            if metric["type"] == "Pods"
        ]
        rules = read(repository, "monitoring/adapter.yaml")
        offered = [
            rule.get("name", {}).get("as") or rule["seriesQuery"].partition("{")[0]
            for rule in rules
        ]
        assert len(wanted) == 1
        assert set(wanted) <= set(offered)


class TestEmbedded:
    def test_the_image_is_that_of_the_stack(
        self, build: Callable[[str], Built], repository: Path
    ) -> None:
        image = container(build("overlays/embedded"))["image"]
        assert image == settings(repository)["EMBEDDED_IMAGE"]

    def test_probes(self, build: Callable[[str], Built]) -> None:
        engine = container(build("overlays/embedded"))
        assert engine["startupProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
        assert engine["readinessProbe"]["grpc"] == {"port": 8500}
        assert engine["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}

    def test_it_may_finish_its_calls(self, build: Callable[[str], Built]) -> None:
        built = build("overlays/embedded")
        _, pause_s = container(built)["lifecycle"]["preStop"]["exec"]["command"]
        drain_s = flags.parse(container(built)["args"]).flags.drain_timeout_seconds
        assert pod(built)["terminationGracePeriodSeconds"] > int(pause_s) + drain_s


class TestTensorFlowServing:
    def test_the_image_is_that_of_the_stack(
        self, build: Callable[[str], Built], repository: Path
    ) -> None:
        image = container(build("overlays/tfserving"))["image"]
        assert image == settings(repository)["TFSERVING_IMAGE"]

    def test_it_is_asked_for_open_ports_only(self, build: Callable[[str], Built]) -> None:
        engine = container(build("overlays/tfserving"))
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert engine[probe]["tcpSocket"]["port"] in ("grpc", "http")

    def test_calls_end_before_it_is_killed(self, build: Callable[[str], Built]) -> None:
        built = build("overlays/tfserving")
        _, pause_s = container(built)["lifecycle"]["preStop"]["exec"]["command"]
        assert pod(built)["terminationGracePeriodSeconds"] > int(pause_s)
        assert pod(built)["nodeSelector"] == {"kubernetes.io/arch": "amd64"}


class TestMonitoring:
    def test_the_monitor_reads_where_the_engines_write(
        self, build: Callable[[str], Built], repository: Path
    ) -> None:
        monitor = build("monitoring")["ServiceMonitor"]
        assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
        assert monitor["spec"]["selector"]["matchLabels"] == NAME
        [endpoint] = monitor["spec"]["endpoints"]
        assert (endpoint["port"], endpoint["path"]) == ("http", metrics_path(repository))

    def test_the_adapter_reads_series_that_the_server_has(self, repository: Path) -> None:
        metrics = ServerMetrics()
        metrics.tf.request_count.add("sentiment", "OK")
        page = metrics.render().decode()
        for rule in read(repository, "monitoring/adapter.yaml"):
            series = rule["seriesQuery"].removeprefix('{__name__="')
            name = re.split('[{"]', series)[0]
            assert f"\n{name}" in page


class TestKServe:
    def test_the_runtime_runs_the_server(
        self, build: Callable[[str], Built], repository: Path
    ) -> None:
        runtime = build("kserve/embedded")["ServingRuntime"]["spec"]
        [engine] = runtime["containers"]
        assert engine["image"] == settings(repository)["EMBEDDED_IMAGE"]
        parsed = flags.parse(engine["args"])
        assert (parsed.unknown, parsed.ignored) == ((), ())
        assert engine["ports"] == [
            {"name": "h2c", "containerPort": parsed.flags.port, "protocol": "TCP"}
        ]
        assert runtime["annotations"] == {
            "prometheus.kserve.io/port": str(parsed.flags.rest_api_port),
            "prometheus.kserve.io/path": metrics_path(repository),
        }

    def test_the_service_fits_the_runtime(self, build: Callable[[str], Built]) -> None:
        built = build("kserve/embedded")
        runtime = built["ServingRuntime"]
        model = built["InferenceService"]["spec"]["predictor"]["model"]
        assert model["runtime"] == runtime["metadata"]["name"]
        assert model["modelFormat"]["name"] == runtime["spec"]["supportedModelFormats"][0]["name"]
        assert [model["protocolVersion"]] == runtime["spec"]["protocolVersions"]

    @pytest.mark.parametrize("folder", KSERVE)
    def test_one_model_from_the_same_volume(
        self, build: Callable[[str], Built], folder: str
    ) -> None:
        service = build(folder)["InferenceService"]
        claim = build("overlays/embedded")["PersistentVolumeClaim"]["metadata"]["name"]
        name = service["metadata"]["name"]
        assert service["apiVersion"] == "serving.kserve.io/v1beta1"
        assert service["spec"]["predictor"]["model"]["storageUri"] == f"pvc://{claim}/{name}"
