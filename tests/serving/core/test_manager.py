import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidRequestError,
    NotFoundError,
)
from serving.core import manager as manager_module
from serving.core.manager import LoadRetries, Manager, ModelChoice
from serving.core.servable import AspiredVersion, ServableId, ServableState

S = ServableState


class FakeServable:
    def __init__(self, servable_id: ServableId) -> None:
        self.id = servable_id
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


class FakeLoader:
    """Loads at once, unless a version is held back or told to fail."""

    def __init__(self) -> None:
        self.gates: dict[int, threading.Event] = {}
        self.failures: dict[int, int] = {}
        self.attempts: dict[int, int] = {}
        self.loaded: dict[int, FakeServable] = {}
        self.files: dict[int, int] = {}

    def fingerprint(self, aspired: AspiredVersion) -> Any:
        return self.files.get(aspired.version, 0)

    def load(self, servable_id: ServableId, aspired: AspiredVersion) -> Any:
        version = servable_id.version
        self.attempts[version] = self.attempts.get(version, 0) + 1
        if version in self.gates:
            assert self.gates[version].wait(10)
        if self.attempts[version] <= self.failures.get(version, 0):
            raise DataLossError(f"version {version} is damaged")
        self.loaded[version] = FakeServable(servable_id)
        return self.loaded[version]


class Bench:
    """A manager over a fake loader, and words to steer it."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self.loader = FakeLoader()
        self.manager = Manager(self.loader, executor, LoadRetries(count=2, interval_s=0.01))
        self.changed = asyncio.Event()
        self.history: list[tuple[int, ServableState]] = []
        self.manager.subscribe(self._record)

    def _record(self, status: Any, handle: Any) -> None:
        self.history.append((status.id.version, status.state))
        self.changed.set()

    def want(self, *versions: int, name: str = "m") -> None:
        self.manager.aspire(name, [AspiredVersion(version, Path(name)) for version in versions])

    def states(self, name: str = "m") -> dict[int, ServableState]:
        return {status.id.version: status.state for status in self.manager.statuses(name)}

    def latest(self) -> int:
        return self.manager.find(ModelChoice("m")).id.version

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    with ThreadPoolExecutor(4) as executor:
        bench = Bench(executor)
        yield bench
        for gate in bench.loader.gates.values():
            gate.set()
        await asyncio.wait_for(bench.manager.close(), 10)


async def test_a_version_becomes_available_after_its_load(bench: Bench) -> None:
    bench.want(1)
    assert bench.states() == {1: S.LOADING}
    await bench.manager.settled(["m"])
    assert bench.states() == {1: S.AVAILABLE}
    assert bench.latest() == 1


async def test_the_old_version_serves_until_the_new_one_is_warm(bench: Bench) -> None:
    bench.want(1)
    await bench.manager.settled(["m"])
    bench.loader.gates[2] = threading.Event()
    bench.want(2)
    assert bench.latest() == 1
    bench.loader.gates[2].set()
    await bench.until(lambda: bench.states() == {2: S.AVAILABLE, 1: S.END})
    assert bench.latest() == 2
    assert bench.loader.loaded[1].closed.is_set()
    available = bench.history.index((2, S.AVAILABLE))
    assert available < bench.history.index((1, S.UNLOADING))


async def test_requests_under_way_keep_their_version(bench: Bench) -> None:
    bench.want(1)
    await bench.manager.settled(["m"])
    with bench.manager.find(ModelChoice("m")) as handle:
        bench.want(2)
        await bench.until(lambda: bench.states() == {2: S.AVAILABLE, 1: S.UNLOADING})
        assert handle.id.version == 1
        assert not bench.loader.loaded[1].closed.is_set()
    await bench.until(lambda: bench.states()[1] is S.END)
    assert bench.loader.loaded[1].closed.is_set()


async def test_a_failed_load_leaves_the_old_version_and_is_retried(bench: Bench) -> None:
    bench.want(1)
    await bench.manager.settled(["m"])
    bench.loader.failures[2] = 99
    bench.want(2)
    await bench.until(lambda: bench.states()[2] is S.END)
    assert bench.loader.attempts[2] == 3
    assert bench.states() == {2: S.END, 1: S.AVAILABLE}
    assert bench.latest() == 1
    [failure] = bench.manager.failures("m")
    assert str(failure.error) == "version 2 is damaged"


async def test_a_retry_can_succeed(bench: Bench) -> None:
    bench.loader.failures[1] = 2
    bench.want(1)
    await bench.until(lambda: bench.states()[1] is S.AVAILABLE)
    [status] = bench.manager.statuses("m")
    assert status.error is None


async def test_settled_does_not_wait_for_retries(bench: Bench) -> None:
    bench.manager._retries = LoadRetries(count=5, interval_s=3600)
    bench.loader.failures[1] = 99
    bench.want(1)
    await asyncio.wait_for(bench.manager.settled(["m"]), 10)
    assert bench.states() == {1: S.LOADING}


async def test_a_version_no_longer_wanted_stops_retrying(bench: Bench) -> None:
    bench.manager._retries = LoadRetries(count=5, interval_s=3600)
    bench.loader.failures[1] = 99
    bench.want(1)
    await bench.manager.settled(["m"])
    bench.want()
    await bench.until(lambda: bench.states() == {1: S.END})
    assert bench.loader.attempts[1] == 1


async def test_an_ended_version_is_loaded_again_when_it_comes_back(bench: Bench) -> None:
    bench.want(1)
    await bench.manager.settled(["m"])
    bench.want(2)
    await bench.until(lambda: bench.states() == {2: S.AVAILABLE, 1: S.END})
    bench.want(1)
    await bench.until(lambda: bench.states() == {2: S.END, 1: S.AVAILABLE})


async def test_a_failed_version_is_tried_again_only_after_it_went(bench: Bench) -> None:
    bench.loader.failures[1] = 3
    bench.want(1)
    await bench.until(lambda: bench.states() == {1: S.END})
    bench.want(1)
    assert bench.states() == {1: S.END}
    bench.want()
    bench.want(1)
    await bench.until(lambda: bench.states() == {1: S.AVAILABLE})


async def test_nothing_wanted_unloads_everything(bench: Bench) -> None:
    bench.want(1, 2)
    await bench.manager.settled(["m"])
    assert bench.latest() == 2
    bench.want()
    await bench.until(lambda: set(bench.states().values()) == {S.END})
    with pytest.raises(NotFoundError, match=r"Servable not found for request: Latest\(m\)"):
        bench.latest()


async def test_find_by_number(bench: Bench) -> None:
    bench.want(0, 2)
    await bench.manager.settled(["m"])
    assert bench.manager.find(ModelChoice("m", version=0)).id.version == 0
    with pytest.raises(NotFoundError, match=r"Specific\(m, 1\); available versions of m: 0, 2"):
        bench.manager.find(ModelChoice("m", version=1))


async def test_an_unknown_model_is_told_what_is_served(bench: Bench) -> None:
    bench.want(1)
    await bench.manager.settled(["m"])
    with pytest.raises(NotFoundError, match=r"Latest\(x\); served models: m"):
        bench.manager.find(ModelChoice("x"))
    with pytest.raises(NotFoundError, match="Could not find any versions of model x"):
        bench.manager.statuses("x")
    with pytest.raises(NotFoundError, match="Could not find version 7 of model m"):
        bench.manager.statuses("m", 7)


async def test_find_by_label(bench: Bench) -> None:
    bench.want(1, 2)
    await bench.manager.settled(["m"])
    bench.manager.set_labels("m", {"stable": 1, "gone": 9})
    assert bench.manager.find(ModelChoice("m", label="stable")).id.version == 1
    with pytest.raises(NotFoundError, match=r"Specific\(m, 9\)"):
        bench.manager.find(ModelChoice("m", label="gone"))
    with pytest.raises(InvalidRequestError, match="Unrecognized servable version label: canary"):
        bench.manager.find(ModelChoice("m", label="canary"))


async def test_labels_must_name_available_versions(bench: Bench) -> None:
    bench.want(1)
    await bench.manager.settled(["m"])
    bench.manager.check_labels("m", {"stable": 1})
    with pytest.raises(FailedPreconditionError, match="assign label to version 2 of model m"):
        bench.manager.check_labels("m", {"stable": 2})
    bench.manager.check_labels("m", {"canary": 2}, new_may_wait=True)
    bench.manager.set_labels("m", {"canary": 1})
    with pytest.raises(FailedPreconditionError):
        bench.manager.check_labels("m", {"canary": 2}, new_may_wait=True)


async def test_only_the_last_ended_versions_are_remembered(bench: Bench) -> None:
    for version in range(1, 31):
        bench.want(version)
        await bench.until(lambda: bench.states()[version] is S.AVAILABLE)  # noqa: B023
    await bench.until(lambda: list(bench.states().values()).count(S.AVAILABLE) == 1)
    await bench.until(lambda: S.UNLOADING not in bench.states().values())
    assert len(bench.states()) == 11


async def test_unexpected_errors_are_statuses_too(bench: Bench) -> None:
    def load(servable_id: ServableId, aspired: AspiredVersion) -> Any:
        raise RuntimeError("surprise")

    bench.loader.load = load  # type: ignore[method-assign]
    bench.want(1)
    await bench.until(lambda: bench.states() == {1: S.END})
    assert "RuntimeError: surprise" in str(bench.manager.statuses("m")[0].error)


# Changes of files.


async def test_a_failed_version_is_tried_again_when_its_files_change(bench: Bench) -> None:
    bench.manager._retries = LoadRetries(count=1, interval_s=3600)
    bench.loader.failures[1] = 4
    bench.want(1)
    await bench.manager.settled(["m"])
    # None of these counts as a retry.
    for copied in (1, 2, 3):
        bench.loader.files[1] = copied
        bench.want(1)
        await bench.until(lambda: bench.loader.attempts[1] == copied + 1)  # noqa: B023
        bench.want(1)
        assert bench.states() == {1: S.LOADING}
    bench.loader.files[1] = 4
    bench.want(1)
    await bench.until(lambda: bench.states() == {1: S.AVAILABLE})
    assert bench.loader.attempts[1] == 5


async def test_files_that_do_not_change_are_left_alone(bench: Bench) -> None:
    bench.manager._retries = LoadRetries(count=0)
    bench.loader.failures[1] = 99
    bench.want(1)
    await bench.until(lambda: bench.states() == {1: S.END})
    for _ in range(3):
        bench.want(1)
        await asyncio.gather(*bench.manager._tasks)
    assert bench.loader.attempts[1] == 1


async def test_a_version_given_up_is_tried_again_when_its_files_change(bench: Bench) -> None:
    bench.want(1)
    await bench.manager.settled(["m"])
    bench.manager._retries = LoadRetries(count=0)
    bench.loader.failures[2] = 1
    bench.want(2)
    await bench.until(lambda: bench.states() == {2: S.END, 1: S.AVAILABLE})
    bench.loader.files[2] = 1
    bench.want(2)
    await bench.until(lambda: bench.states() == {2: S.AVAILABLE, 1: S.END})


async def test_a_version_overwritten_while_it_serves_stays_unnoticed(bench: Bench) -> None:
    bench.want(1)
    await bench.manager.settled(["m"])
    bench.loader.files[1] = 1
    bench.want(1)
    await asyncio.gather(*bench.manager._tasks)
    assert bench.loader.attempts[1] == 1


async def test_a_failed_version_is_sought_where_its_folder_is_now(bench: Bench) -> None:
    bench.manager._retries = LoadRetries(count=1, interval_s=3600)
    bench.loader.failures[1] = 1
    bench.want(1)
    await bench.manager.settled(["m"])
    bench.loader.files[1] = 1
    bench.manager.aspire("m", [AspiredVersion(1, Path("m/001"))])
    await bench.until(lambda: bench.states() == {1: S.AVAILABLE})
    [status] = bench.manager.statuses("m")
    assert status.folder == Path("m/001")


# Several versions.


async def test_the_lowest_go_first_and_the_newest_serves_until_a_wanted_one_can(
    bench: Bench,
) -> None:
    bench.want(1, 2, 3)
    await bench.manager.settled(["m"])
    bench.loader.gates[4] = threading.Event()
    bench.want(4)
    await bench.until(lambda: bench.states()[1] is bench.states()[2] is S.END)
    assert bench.states() == {4: S.LOADING, 3: S.AVAILABLE, 2: S.END, 1: S.END}
    assert bench.latest() == 3
    bench.loader.gates[4].set()
    await bench.until(lambda: bench.states()[3] is S.END)
    assert bench.latest() == 4


async def test_a_model_that_never_loads_does_not_hold_up_another(bench: Bench) -> None:
    bench.loader.failures[7] = 99
    bench.want(7, name="broken")
    bench.want(1)
    await bench.until(lambda: bench.states() == {1: S.AVAILABLE})
    await bench.until(lambda: bench.states("broken") == {7: S.END})


async def test_ended_versions_are_forgotten_after_a_day(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.want(1)
    await bench.manager.settled(["m"])
    bench.want(2)
    await bench.until(lambda: bench.states() == {2: S.AVAILABLE, 1: S.END})
    now = manager_module.time.monotonic()
    monkeypatch.setattr(manager_module.time, "monotonic", lambda: now + 25 * 3600)
    bench.want(2)
    assert bench.states() == {2: S.AVAILABLE}


async def test_closing_has_threads_of_its_own(bench: Bench) -> None:
    with ThreadPoolExecutor(1) as loading, ThreadPoolExecutor(1, "close") as closing:
        manager = Manager(bench.loader, loading, closing=closing)
        threads: list[str] = []
        bench.loader.gates[2] = threading.Event()
        manager.aspire("m", [AspiredVersion(1, Path("m"))])
        await manager.settled(["m"])
        servable = bench.loader.loaded[1]
        servable.close = lambda: threads.append(threading.current_thread().name)  # type: ignore[method-assign]
        manager.aspire("other", [AspiredVersion(2, Path("other"))])
        # The only thread for loading is busy.
        manager.aspire("m", [])
        async with asyncio.timeout(10):
            while not threads:
                await asyncio.sleep(0.001)
        assert threads == ["close_0"]
        bench.loader.gates[2].set()
        await manager.close()


async def test_nothing_is_loaded_once_closed(bench: Bench) -> None:
    bench.want(1)
    await bench.manager.settled(["m"])
    await bench.manager.close()
    bench.want(2)
    assert bench.states() == {1: S.END}
