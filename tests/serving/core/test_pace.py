import numpy as np

from protocol.pipelines import Prepared
from serving.core.batching import Pace

SMALL = [Prepared({"x": np.zeros(8)}, rows=8, batch_key=None)]
LARGE = [Prepared({"x": np.zeros(80_000)}, rows=80_000, batch_key=None)]


def after(*runs_s: float) -> Pace:
    pace = Pace()
    for seconds in runs_s:
        pace.observe(seconds)
    return pace


def test_a_new_queue_is_not_trusted() -> None:
    assert not after().is_light(SMALL)
    assert not after(0.0001).is_light(SMALL)


def test_many_short_runs_make_it_light() -> None:
    assert after(*[0.0001] * 200).is_light(SMALL)
    assert not after(*[0.0001] * 200).is_light(LARGE)


def test_one_slow_run_is_remembered() -> None:
    assert not after(*[0.0001] * 200, 0.01).is_light(SMALL)
    assert after(*[0.0001] * 200, 0.01, *[0.0001] * 50).is_light(SMALL)
