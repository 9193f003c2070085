import numpy as np

from protocol.pipelines import Prepared
from serving.core.batching import Pace

SMALL = [Prepared({"x": np.zeros(8)}, rows=8, batch_key=None)]
LARGE = [Prepared({"x": np.zeros(80_000)}, rows=80_000, batch_key=None)]


def after(*runs_s: float) -> Pace:
    pace = Pace()
    for seconds in runs_s:
        pace.observe(seconds, SMALL)
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


def test_a_request_that_takes_its_time_is_better_off_in_a_thread() -> None:
    assert not after(*[0.001] * 200).is_light(SMALL)
    joined = Pace()
    for _ in range(200):
        joined.observe(0.001, SMALL * 20)
    assert joined.is_light(SMALL * 20)


def test_larger_input_proves_itself_step_by_step() -> None:
    pace = after(*[0.0001] * 200)
    sizes = []
    for count in (1_500, 3_000, 6_000, 12_000, 40_000, 80_000):
        items = [Prepared({"x": np.zeros(count)}, rows=count, batch_key=None)]
        sizes.append(pace.is_light(items))
        pace.observe(0.0001, items)
    assert sizes == [True, True, True, True, False, True]
    pace.observe(0.01, LARGE)
    for _ in range(50):
        pace.observe(0.0001, SMALL)
    assert pace.is_light(SMALL)
    assert not pace.is_light(LARGE)


def test_what_is_known_to_be_light_need_not_prove_itself() -> None:
    assert Pace(runs_inline=True).is_light(SMALL)
    assert not Pace().is_light(SMALL)
