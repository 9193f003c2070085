import asyncio
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from serving.core.servable import ServableHandle, ServableId, ServableState

S = ServableState


def test_id_reads_as_tensorflow_serving_prints_it() -> None:
    assert str(ServableId("sentiment", 3)) == "{name: sentiment version: 3}"


def test_states_only_move_forward() -> None:
    allowed = {(a, b) for a, b in product(S, S) if a.may_become(b)}
    assert allowed == {
        (S.START, S.LOADING),
        (S.START, S.END),
        (S.LOADING, S.AVAILABLE),
        (S.LOADING, S.END),
        (S.AVAILABLE, S.UNLOADING),
        (S.UNLOADING, S.END),
    }
    assert all(a < b for a, b in allowed)


async def test_handle_waits_for_its_last_user() -> None:
    servable: Any = object()
    handle = ServableHandle(ServableId("m", 1), servable, Path())
    with handle:
        with handle:
            assert handle.users == 2
            waiting = asyncio.ensure_future(handle.unused())
        done, _ = await asyncio.wait({waiting}, timeout=0)
        assert not done
    await asyncio.wait_for(waiting, 1)
    assert handle.users == 0


async def test_handle_is_released_when_the_request_fails() -> None:
    servable: Any = object()
    handle = ServableHandle(ServableId("m", 1), servable, Path())
    with pytest.raises(ValueError), handle:
        raise ValueError
    await asyncio.wait_for(handle.unused(), 1)
