"""`face`: verify, and a gallery from enrolment to removal."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clients.command_line import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def gallery(run: Run, people: Path, tmp_path: Path) -> Path:
    """A gallery of Olive and Ruby."""
    path = tmp_path / "people.gallery"
    status, output, _ = run("face", "enrol", "--people", people, "--gallery", path)
    assert (status, output) == (0, "Olive: 2 photos enrolled\nRuby: 2 photos enrolled\n")
    return path


def rows(output: str) -> list[Any]:
    return [json.loads(line) for line in output.splitlines()]


def test_embed(run: Run, people: Path) -> None:
    photo = people / "Ruby" / "1.png"
    _, output, _ = run("face", "embed", photo)
    assert output == f"{photo}  model 'face' version 3  +0.990 +0.099 +0.099 +0.005 ...\n"
    [row] = rows(run("face", "embed", "--json", photo)[1])
    assert len(row["embedding"]) == 128
    assert row["version"] == 3
    assert row["thresholds"] == pytest.approx({"0.01": 0.2, "0.001": 0.05})


def test_verify(run: Run, people: Path, tmp_path: Path) -> None:
    ruby, olive = people / "Ruby" / "1.png", people / "Olive" / "1.png"
    status, output, _ = run("face", "verify", ruby, olive)
    assert status == 0
    assert output.startswith("different people: distance 1.5")
    assert output.endswith("threshold 0.200 (false accepts 1.0%)\n")
    _, output, _ = run("face", "verify", "--far", "0.001", ruby, people / "Ruby" / "2.png")
    assert output.startswith("same person: distance 0.000, threshold 0.050 (false accepts 0.1%)")
    out = tmp_path / "out"
    [row] = rows(run("face", "verify", "--json", "--threshold", "4", ruby, olive, "--save", out)[1])
    assert (row["same"], row["threshold"], row["far"]) == (True, 4, None)
    assert Path(row["saved"][0]).is_file()


def test_verify_a_person(run: Run, people: Path, gallery: Path, tmp_path: Path) -> None:
    photo = people / "Ruby" / "1.png"
    out = tmp_path / "out"
    _, output, _ = run(
        *("face", "verify", photo, "--person", "Ruby", "--gallery", gallery, "--save", out)
    )
    assert output.startswith("same person")
    assert (out / "1.verify.png").is_file()
    status, _, errors = run("face", "verify", photo, "--person", "Eve", "--gallery", gallery)
    assert status == 1
    assert "no person 'Eve'" in errors


def test_identify(run: Run, people: Path, gallery: Path, tmp_path: Path) -> None:
    photo = people / "Ruby" / "1.png"
    _, output, _ = run("face", "identify", photo, "--gallery", gallery)
    lines = output.splitlines()
    assert lines[0] == f"{photo}: Ruby (threshold 0.050 (false accepts 0.1%))"
    assert lines[1] == "  Ruby   0.000"
    assert lines[2].startswith("  Olive  1.5")
    [row] = rows(
        run(
            *("face", "identify", photo, "--gallery", gallery, "--json", "--top", "1"),
            *("--threshold", "0", "--save", tmp_path / "out"),
        )[1]
    )
    assert len(row["candidates"]) == 1
    assert (tmp_path / "out" / "1.identify.png").is_file()


def test_enrol_a_person(run: Run, people: Path, gallery: Path) -> None:
    photo = people / "Ruby" / "1.png"
    _, output, _ = run(
        *("face", "enrol", "Zoe", photo, people / "Olive", "--gallery", gallery),
        *("--consent", "form 9", "--json"),
    )
    [row] = rows(output)
    assert (row["name"], len(row["ids"])) == ("Zoe", 3)
    _, output, _ = run("face", "list", "--gallery", gallery)
    assert output.splitlines()[0] == "embeddings of model face, version 3"
    assert "form 9" in output


def test_list_and_remove(run: Run, gallery: Path) -> None:
    people = rows(run("face", "list", "--gallery", gallery, "--json")[1])
    assert [(person["name"], len(person["examples"])) for person in people] == [
        ("Olive", 2),
        ("Ruby", 2),
    ]
    example = people[1]["examples"][0]["id"]
    _, output, _ = run("face", "remove", "--example", str(example), "--gallery", gallery)
    assert output == f"{example}: 1 examples deleted\n"
    assert run("face", "remove", "Olive", "Ruby", "--gallery", gallery, "--json")[1] == (
        '{"removed": "Olive", "examples": 2}\n{"removed": "Ruby", "examples": 1}\n'
    )
    assert run("face", "list", "--gallery", gallery)[1] == "the gallery is empty\n"
    status, _, errors = run("face", "remove", "Ruby", "--gallery", gallery)
    assert status == 1
    assert errors.endswith("it knows nobody (NOT_FOUND)\n")


def test_the_gallery_of_another_model(run: Run, people: Path, gallery: Path) -> None:
    from clients import Gallery
    from tests.clients.faces import face

    for name in ("Olive", "Ruby"):
        run("face", "remove", name, "--gallery", gallery)
    with Gallery(gallery) as opened:
        opened.enrol("Ada", [face(version=1)])
    status, _, errors = run("face", "identify", people / "Ruby", "--gallery", gallery)
    assert status == 1
    assert "model 'face' version 1" in errors
    assert "model 'face' version 3" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["face"], "ACTION"),
        (["face", "verify", "a.png"], "either two images, or one and --person NAME"),
        (["face", "verify", "a.png", "b.png", "--person", "x"], "either two images"),
        (["face", "verify", "a.png", "b.png", "--far", "0.5"], "invalid choice"),
        (["face", "verify", "a.png", "b.png"], "there is no file a.png"),
        (["face", "identify", "a.png"], "--gallery"),
        (["face", "enrol", "--gallery", "g"], "either NAME and images, or --people DIR"),
        (["face", "enrol", "Ada", "--gallery", "g"], "either NAME and images"),
        (["face", "enrol", "A", "a.png", "--people", "d", "--gallery", "g"], "either NAME"),
        (["face", "list", "--gallery", "no.gallery"], "there is no gallery no.gallery"),
        (["face", "remove", "--gallery", "no.gallery"], "expected names, or --example ID"),
        (["face", "remove", "Ada", "--gallery", "no.gallery"], "there is no gallery"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
