"""The promises of the repository as a whole: its tree, its pins, its manual, its stack."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from export.served_models import SERVED
from serving import config_files, flags

# Models that ship weights; others are trained small where they are asked for.
FINISHED = [name for name, model in SERVED.items() if model.shipped_run() is not None]

TOP_LEVEL = {
    # what it is made of
    "clients",
    "export",
    "models",
    "protocol",
    "serving",
    "tests",
    "docs",
    # what a reader starts with
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    # settings
    ".ci",
    ".dockerignore",
    ".env",
    ".gitattributes",
    ".gitignore",
    ".pre-commit-config.yaml",
    "constraints.txt",
    "docker-compose.yml",
    "pyproject.toml",
}
TARGETS = (
    "setup demo test lint type train evaluate export publish rollback serve bench up down clean"
)
HEAVY = {"keras", "tensorflow", "tensorflow-serving-api", "tf2onnx", "onnx", "scikit-learn"}

# Folders that exist on somebody's machine, not in a container or in this repository.
_PERSONAL_PATH = re.compile(
    r"""(?:^|[\s"'`=(:])/(?:home|Users|root|work|mnt(?!/models\b))/""", re.MULTILINE
)
_ADDRESS = re.compile(r"https?://(?!127\.0\.0\.1|localhost|engine[:/])")


def tracked_files(repository: Path) -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [repository / line for line in listing.stdout.splitlines()]


def text_of(path: Path) -> str:
    """Returns the text of a file; empty for a binary or a deleted one."""
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, FileNotFoundError):
        return ""


def project(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


def pins(repository: Path) -> dict[str, Version]:
    lines = (repository / "constraints.txt").read_text().splitlines()
    found = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in found}


def compose(repository: Path) -> dict[str, Any]:
    return yaml.safe_load((repository / "docker-compose.yml").read_text())


def imported_names(path: Path) -> set[str]:
    """Returns the top-level packages that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


class TestTree:
    def test_the_top_level_is_as_fixed(self, repository: Path) -> None:
        found = {path.relative_to(repository).parts[0] for path in tracked_files(repository)}
        assert found == TOP_LEVEL

    def test_no_file_names_a_folder_of_somebodys_machine(self, repository: Path) -> None:
        named = {
            str(path.relative_to(repository)): match.group()
            for path in tracked_files(repository)
            if (match := _PERSONAL_PATH.search(text_of(path)))
        }
        assert named == {}

    @pytest.mark.parametrize(
        "name",
        [
            "Makefile",
            "constraints.txt",
            "docker-compose.yml",
            "pyproject.toml",
            ".ci/run",
            ".env",
            ".pre-commit-config.yaml",
            "serving/docker/Dockerfile",
        ],
    )
    def test_nothing_that_installs_names_an_address(self, repository: Path, name: str) -> None:
        text = (repository / name).read_text()
        assert not _ADDRESS.search(text)
        assert "index-url" not in text

    def test_the_licence_is_complete(self, repository: Path) -> None:
        text = (repository / "LICENSE").read_text()
        assert "Version 2.0, January 2004" in text
        assert "END OF TERMS AND CONDITIONS" in text


class TestPins:
    def test_every_line_is_an_exact_version(self, repository: Path) -> None:
        lines = (repository / "constraints.txt").read_text().splitlines()
        loose = [
            line
            for line in lines
            if not line.startswith("#") and not re.fullmatch(r"[a-z0-9.-]+==[A-Za-z0-9.+!]+", line)
        ]
        assert loose == []

    def test_every_requirement_is_pinned_within_its_range(self, repository: Path) -> None:
        description, pinned = project(repository), pins(repository)
        extras = description["optional-dependencies"].values()
        for line in [*description["dependencies"], *(line for extra in extras for line in extra)]:
            requirement = Requirement(line)
            version = pinned.get(canonicalize_name(requirement.name))
            assert version is not None, f"{requirement.name} is not in constraints.txt"
            assert version in requirement.specifier, f"{line}, but pinned is {version}"

    def test_what_the_requirements_need_is_pinned_too(self, repository: Path) -> None:
        description, pinned = project(repository), pins(repository)
        extras = description["optional-dependencies"].values()
        lines = [*description["dependencies"], *(line for extra in extras for line in extra)]
        # Each requirement with the extras of the package that has it.
        todo = [(line, frozenset({""})) for line in lines]
        seen: set[tuple[str, frozenset[str]]] = set()
        while todo:
            line, wanted = todo.pop()
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is not None and not any(marker.evaluate({"extra": each}) for each in wanted):
                continue
            name = canonicalize_name(requirement.name)
            asked = frozenset({"", *requirement.extras})
            if (name, asked) in seen:
                continue
            seen.add((name, asked))
            assert name in pinned, f"{name} is not in constraints.txt"
            todo += [(child, asked) for child in metadata.requires(name) or []]

    def test_the_base_is_the_thin_client_and_the_server_has_no_tensorflow(
        self, repository: Path
    ) -> None:
        description = project(repository)
        base = {Requirement(line).name for line in description["dependencies"]}
        serve = {Requirement(line).name for line in description["optional-dependencies"]["serve"]}
        assert base == {"grpcio", "ml_dtypes", "numpy", "protobuf"}
        assert not HEAVY & serve


class TestImports:
    EXTRAS: ClassVar = {
        "clients": [],
        "protocol": [],
        "serving": ["serve"],
        "export": ["tensorflow"],
        "models": ["tensorflow"],
    }
    # The runtimes of SavedModels and of LiteRT, the protocol's compiler, client metrics, drawing.
    OPTIONAL: ClassVar = {
        "nicegui",
        "tensorflow",
        "ai_edge_litert",
        "flatbuffers",
        "grpc_tools",
        "prometheus_client",
        "PIL",
    }

    @pytest.mark.parametrize("package", EXTRAS)
    def test_a_package_imports_what_its_extra_installs(
        self, repository: Path, package: str
    ) -> None:
        description = project(repository)
        lines = list(description["dependencies"])
        for extra in self.EXTRAS[package]:
            lines += description["optional-dependencies"][extra]
        installed = {canonicalize_name(Requirement(line).name) for line in lines}
        owners = metadata.packages_distributions()
        ours = {*self.EXTRAS, *sys.stdlib_module_names}
        for path in (repository / package).rglob("*.py"):
            for name in imported_names(path) - ours - self.OPTIONAL:
                found = {canonicalize_name(owner) for owner in owners.get(name, [])}
                assert found & installed, f"{path.relative_to(repository)} imports {name}"


class TestTelemetry:
    @pytest.mark.parametrize("package", ["models", "serving"])
    def test_packages_switch_onnx_runtime_telemetry_off(
        self, repository: Path, package: str
    ) -> None:
        name = "ORT_DISABLE_TELEMETRY"
        environment = {key: value for key, value in os.environ.items() if key != name}
        code = f"import os, {package}; print(os.environ[{name!r}])"
        printed = subprocess.run(
            [sys.executable, "-c", code],
            cwd=repository,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert printed.stdout.strip() == "1"


class TestMakefile:
    def test_every_target_is_documented(self, repository: Path) -> None:
        text = (repository / "Makefile").read_text()
        phony = re.findall(r"^\.PHONY: (\S+)$", text, re.MULTILINE)
        documented = re.findall(r"^([a-z-]+):.*## \S", text, re.MULTILINE)
        assert phony == documented
        assert set(TARGETS.split()) <= set(phony)

    def test_make_alone_prints_targets_and_variables(self, repository: Path) -> None:
        printed = subprocess.run(
            ["make"], cwd=repository, capture_output=True, text=True, check=True
        ).stdout
        for target in TARGETS.split():
            assert f"make {target} " in printed
        for variable in ("MODEL", "PRESET", "DATA", "RUN", "BACKEND", "SPLIT", "PORT"):
            assert re.search(rf"^  {variable} +\S", printed, re.MULTILINE)

    def test_it_knows_the_same_models_as_the_programs(self, repository: Path) -> None:
        text = (repository / "Makefile").read_text()
        [line] = re.findall(r"^MODELS := (.*)$", text, re.MULTILINE)
        assert line.split() == FINISHED


class TestHooks:
    def test_they_download_nothing(self, repository: Path) -> None:
        config = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text())
        assert [repo["repo"] for repo in config["repos"]] == ["local"]
        assert {hook["language"] for hook in config["repos"][0]["hooks"]} == {"system"}


class TestStack:
    CONFIG = Path("serving/docker/config")

    def test_the_engines_differ_in_image_and_health_only(self, repository: Path) -> None:
        services = compose(repository)["services"]
        own = {"build", "healthcheck", "image", "profiles", "stop_grace_period", "stop_signal"}
        shared = [
            {key: value for key, value in services[engine].items() if key not in own}
            for engine in ("embedded", "tfserving")
        ]
        assert shared[0] == shared[1]
        assert {port.rpartition(":")[2] for port in shared[0]["ports"]} == {"8500", "8501"}

    def test_the_flags_are_flags_of_the_server(self, repository: Path) -> None:
        command_line = flags.parse(compose(repository)["services"]["embedded"]["command"])
        assert command_line.unknown == ()
        assert command_line.ignored == ()

    def test_the_flags_name_files_that_are_there(self, repository: Path) -> None:
        command = compose(repository)["services"]["embedded"]["command"]
        named = [match for flag in command for match in re.findall(r"=/config/(.+)", flag)]
        assert sorted(named) == ["batching.config", "models.config", "monitoring.config"]
        for name in named:
            assert (repository / self.CONFIG / name).is_file()

    def test_the_model_config_lists_every_model(self, repository: Path) -> None:
        configs = config_files.read_model_configs(repository / self.CONFIG / "models.config")
        assert {config.name: config.base_path for config in configs} == {
            name: f"/models/{name}" for name in FINISHED
        }
        assert {config.platform for config in configs} == {"tensorflow"}

    def test_the_batching_config_is_read(self, repository: Path) -> None:
        path = repository / self.CONFIG / "batching.config"
        options = config_files.read_batching_options(path)
        assert options.max_batch_size == 64
        assert options.batch_timeout_micros == 0

    def test_prometheus_reads_where_the_engines_write(self, repository: Path) -> None:
        folder = repository / self.CONFIG
        [job] = yaml.safe_load((folder / "prometheus.yml").read_text())["scrape_configs"]
        assert job["metrics_path"] == config_files.read_metrics_path(folder / "monitoring.config")
        assert job["static_configs"] == [{"targets": ["engine:8501"]}]

    def test_every_container_is_locked_up(self, repository: Path) -> None:
        for name, service in compose(repository)["services"].items():
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name

    def test_every_image_has_a_version_and_env_says_the_same(self, repository: Path) -> None:
        text = (repository / "docker-compose.yml").read_text()
        defaults = dict(re.findall(r"\$\{([A-Z_]+):-([^}]+)\}", text))
        lines = (repository / ".env").read_text().splitlines()
        settings = dict(line.split("=", 1) for line in lines if line and line[0] != "#")
        for name, default in defaults.items():
            assert settings[name] == default
        for name in ("BASE_IMAGE", "EMBEDDED_IMAGE", "PROMETHEUS_IMAGE", "TFSERVING_IMAGE"):
            assert re.search(r":v?\d+\.\d+\.\d+", settings[name]), name
        assert settings["EMBEDDED_IMAGE"].endswith(f":{project(repository)['version']}")
        assert settings["ENGINE"] in compose(repository)["services"]
