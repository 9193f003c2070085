"""Every pinned package that a server, a client or a device needs has a wheel for its processor."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = ("serve", "edge", "vision")
# What glibc 2.28 (Debian 10, RHEL 8) can load; pip takes names literally.
PLATFORMS = (*(f"manylinux_2_{minor}" for minor in range(28, 4, -1)), "manylinux2014")


def requirements() -> list[str]:
    extras = PROJECT["optional-dependencies"]
    return [*PROJECT["dependencies"], *(each for name in EXTRAS for each in extras[name])]


@pytest.mark.parametrize("processor", ["aarch64", "x86_64"])
def test_every_pin_has_a_wheel(processor: str, tmp_path: Path) -> None:
    if not index_answers(tmp_path):
        pytest.skip("the package index can not be reached")
    platforms = [f"--platform={platform}_{processor}" for platform in PLATFORMS]
    found = resolve(tmp_path, platforms, requirements())
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    wheels = [each["download_info"]["url"].rpartition("/")[2] for each in report["install"]]
    assert len(wheels) > len(requirements())
    assert all(name.endswith((f"{processor}.whl", "-any.whl")) for name in wheels), wheels


def index_answers(target: Path) -> bool:
    """Whether a package without requirements can be found at all."""
    return resolve(target, [], ["numpy"]).returncode == 0


def resolve(
    target: Path, platforms: list[str], packages: list[str]
) -> "subprocess.CompletedProcess[str]":
    """Lets pip choose the wheels it would install for Python 3.11; nothing is installed."""
    return subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report=-",
            "--ignore-installed", f"--target={target}", "--only-binary=:all:",
            "--implementation=cp", "--python-version=3.11", *platforms,
            f"--constraint={ROOT / 'constraints.txt'}", *packages,
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
