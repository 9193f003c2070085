import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from protocol.errors import NotFoundError
from serving.core import source as module
from serving.core.model_config import AllVersions, ModelConfig, SpecificVersions
from serving.core.servable import AspiredVersion
from serving.core.source import FileSystemSource, aspired_versions


def make_folders(base: Path, *names: str) -> Path:
    for name in names:
        (base / name).mkdir(parents=True)
    return base


def versions_of(config: ModelConfig) -> dict[int, str]:
    return {aspired.version: aspired.folder.name for aspired in aspired_versions(config)}


def test_only_folders_with_whole_numbers_are_versions(tmp_path: Path) -> None:
    make_folders(tmp_path, "0", "00000123", ".4", "5.tmp", "-6", "７", "1_0", str(2**63))
    (tmp_path / "8").write_text("a file")
    assert versions_of(ModelConfig("m", str(tmp_path), policy=AllVersions())) == {
        123: "00000123",
        0: "0",
    }


def test_two_spellings_are_one_version(tmp_path: Path) -> None:
    make_folders(tmp_path, "3", "003")
    assert list(versions_of(ModelConfig("m", str(tmp_path), policy=AllVersions()))) == [3]


def test_specific_prefers_the_plain_spelling(tmp_path: Path) -> None:
    make_folders(tmp_path, "3", "003", "04")
    policy = SpecificVersions(frozenset({3, 4, 5}))
    assert versions_of(ModelConfig("m", str(tmp_path), policy=policy)) == {4: "04", 3: "3"}


def test_a_missing_base_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"Could not read base path .*missing"):
        aspired_versions(ModelConfig("m", str(tmp_path / "missing")))


def test_a_base_path_that_may_not_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    make_folders(tmp_path, "1")
    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(NotFoundError, match=r"Could not read base path .*Permission denied"):
        aspired_versions(ModelConfig("m", str(tmp_path)))


class Wishes:
    """Records what a source aspires."""

    def __init__(self) -> None:
        self.last: dict[str, list[int]] = {}

    def __call__(self, name: str, versions: Sequence[AspiredVersion]) -> None:
        self.last[name] = [aspired.version for aspired in versions]


async def test_one_missing_base_path_does_not_hold_up_the_others(tmp_path: Path) -> None:
    make_folders(tmp_path, "good/1", "good/2")
    wishes = Wishes()
    source = FileSystemSource(wishes)
    names = ("missing", "good")
    source.configure([ModelConfig(name, str(tmp_path / name)) for name in names])
    await source.poll()
    assert wishes.last == {"good": [2]}
    assert "Could not read" in source.problem("missing")
    assert source.problem("good") == ""


async def test_a_base_path_that_disappears_keeps_its_versions(tmp_path: Path) -> None:
    make_folders(tmp_path, "m/1")
    wishes = Wishes()
    source = FileSystemSource(wishes)
    source.configure([ModelConfig("m", str(tmp_path / "m"))])
    await source.poll()
    (tmp_path / "m").rename(tmp_path / "elsewhere")
    await source.poll()
    assert wishes.last == {"m": [1]}


async def test_an_emptied_base_path_unloads(tmp_path: Path) -> None:
    make_folders(tmp_path, "m/1")
    wishes = Wishes()
    source = FileSystemSource(wishes)
    source.configure([ModelConfig("m", str(tmp_path / "m"))])
    await source.poll()
    (tmp_path / "m" / "1").rename(tmp_path / "away")
    await source.poll()
    assert wishes.last == {"m": []}


async def test_a_model_left_out_is_no_longer_wanted(tmp_path: Path) -> None:
    make_folders(tmp_path, "m/1")
    wishes = Wishes()
    source = FileSystemSource(wishes)
    source.configure([ModelConfig("m", str(tmp_path / "m"))])
    await source.poll()
    source.configure([])
    assert wishes.last == {"m": []}
    assert source.configs == {}


async def test_watching_sees_a_new_version(tmp_path: Path) -> None:
    make_folders(tmp_path, "m/1")
    seen = asyncio.Event()

    def aspire(name: str, versions: Sequence[AspiredVersion]) -> None:
        if versions and versions[0].version == 2:
            seen.set()

    source = FileSystemSource(aspire)
    source.configure([ModelConfig("m", str(tmp_path / "m"))])
    watching = asyncio.ensure_future(source.watch(0.01))
    make_folders(tmp_path, "m/2")
    await asyncio.wait_for(seen.wait(), 10)
    watching.cancel()


async def test_a_base_path_that_does_not_answer_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folders(tmp_path, "hung/1", "good/1")
    answer = threading.Event()

    def read(config: ModelConfig) -> list[AspiredVersion]:
        if config.name == "hung":
            assert answer.wait(10)
        return aspired_versions(config)

    monkeypatch.setattr(module, "aspired_versions", read)
    monkeypatch.setattr(module, "_SLOW_POLL_S", 0.01)
    monkeypatch.setattr(module, "_LONGEST_POLL_S", 0.1)
    wishes = Wishes()
    source = FileSystemSource(wishes)
    source.configure([ModelConfig(name, str(tmp_path / name)) for name in ("hung", "good")])
    await source.poll()
    assert wishes.last == {"good": [1]}
    assert "does not answer" in source.problem("hung")
    make_folders(tmp_path, "good/2")
    watching = asyncio.ensure_future(source.watch(0.01))
    async with asyncio.timeout(10):
        while wishes.last != {"good": [2]}:
            await asyncio.sleep(0.01)
        answer.set()
        while wishes.last != {"good": [2], "hung": [1]}:
            await asyncio.sleep(0.01)
    watching.cancel()
    assert source.problem("hung") == ""
