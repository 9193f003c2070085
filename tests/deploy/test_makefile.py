"""What the Makefile runs is what the programs understand."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

import clients.command_line
import export.__main__
import models.__main__
from export.served_models import SERVED
from serving import flags

TEXT_MODELS = ("translation", "translation_dates", "sentiment")


@pytest.fixture
def command(repository: Path, tmp_path: Path):
    """Returns the arguments of the last Python module that a target would run."""

    def dry_run(target: str, **variables: str) -> tuple[str, list[str]]:
        settings = {"VENV": str(tmp_path / "venv"), "PYTHON": "python3", **variables}
        printed = subprocess.run(
            ["make", "--dry-run", target, *(f"{name}={value}" for name, value in settings.items())],
            cwd=repository,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.replace("\\\n", " ")
        last = [line for line in printed.splitlines() if "/bin/python -m " in line][-1]
        _, _, module, *arguments = shlex.split(last)
        return module, arguments

    return dry_run


def test_train(command) -> None:
    module, arguments = command("train", MODEL="sentiment", PRESET="tiny", DATA="one two", RUN="r")
    assert module == "models"
    parsed = models.__main__.build_parser().parse_args(arguments)
    assert (parsed.command, parsed.task, parsed.preset) == ("train", "sentiment", "tiny")
    assert parsed.data == [Path("one"), Path("two")]
    assert parsed.run == Path("r")


def test_train_from_weights(command) -> None:
    _, arguments = command("train", MODEL="face", WEIGHTS="runs/other/best.weights.h5")
    parsed = models.__main__.build_parser().parse_args(arguments)
    assert parsed.weights == Path("runs/other/best.weights.h5")


@pytest.mark.parametrize("model", SERVED)
def test_ask_asks_every_model(command, model: str, tmp_path: Path) -> None:
    (tmp_path / model / "10" / "assets" / "samples").mkdir(parents=True)
    (tmp_path / model / "9" / "assets" / "samples").mkdir(parents=True)
    module, arguments = command("ask", MODEL=model, PORT="9500", REPOSITORY=str(tmp_path))
    assert module == "clients"
    parsed = vars(clients.command_line.build_parser().parse_args(arguments))
    assert parsed["target"] == "localhost:9500"
    samples = tmp_path / model / "10" / "assets" / "samples"
    assert model in TEXT_MODELS or str(samples) in map(str, parsed["images"])


def test_train_has_a_run_folder_of_its_own(command) -> None:
    _, arguments = command("train", MODEL="sentiment")
    assert models.__main__.build_parser().parse_args(arguments).run == Path("runs/sentiment")


@pytest.mark.parametrize("backend", ["keras", "saved_model", "onnx", "grpc"])
def test_evaluate(command, backend: str) -> None:
    module, arguments = command(
        "evaluate", MODEL="sentiment", DATA="d", BACKEND=backend, SPLIT="dev"
    )
    assert module == "models"
    parsed = models.__main__.build_parser().parse_args(arguments)
    assert (parsed.command, parsed.backend, parsed.split) == ("evaluate", backend, "dev")
    assert parsed.data == Path("d")
    assert parsed.run is None


def test_export_and_publish_meet_in_the_same_folder(command) -> None:
    module, arguments = command("export", MODEL="sentiment", RUN="runs/mine")
    assert module == "export"
    exported = export.__main__.build_parser().parse_args(arguments)
    assert exported.out == Path("runs/mine/export")
    _, arguments = command("publish", MODEL="sentiment", FOLDER="runs/mine/export")
    assert export.__main__.build_parser().parse_args(arguments).folder == exported.out


@pytest.mark.parametrize("target", ["publish", "rollback", "prune"])
def test_releases(command, target: str) -> None:
    module, arguments = command(target, MODEL="sentiment", REPOSITORY="here")
    assert module == "export"
    parsed = export.__main__.build_parser().parse_args(arguments)
    models = parsed.models if target == "publish" else [parsed.model]
    assert (parsed.command, models, parsed.repository) == (target, ["sentiment"], Path("here"))


@pytest.mark.parametrize(("model", "named"), [("face", ["face"]), ("", [])])
def test_tune_serving(command, model: str, named: list[str]) -> None:
    module, arguments = command("tune-serving", MODEL=model, REPOSITORY="here")
    assert module == "export"
    parsed = export.__main__.build_parser().parse_args(arguments)
    assert (parsed.command, parsed.models, parsed.repository) == ("tune", named, Path("here"))


def test_serve(command) -> None:
    module, arguments = command("serve", MODEL="sentiment", PORT="9500", REST_PORT="9501")
    assert module == "serving"
    parsed = flags.parse(arguments)
    assert parsed.unknown == ()
    assert (parsed.flags.port, parsed.flags.rest_api_port) == (9500, 9501)
    assert parsed.flags.model_base_path == "model_repository/sentiment"
    assert parsed.flags.enable_batching


def test_it_leaves_the_settings_of_compose_alone(repository: Path) -> None:
    """What make assigns and the environment holds, compose would see with make's value."""
    makefile = (repository / "Makefile").read_text()
    assigned = set(re.findall(r"^(\w+) *:?=", makefile, re.MULTILINE))
    lines = (repository / ".env").read_text().splitlines()
    assert not assigned & {line.partition("=")[0] for line in lines}
