import threading
import time

from serving.core.work_time import work_time, working_elsewhere


def wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_waiting_is_no_work_unless_others_work_meanwhile() -> None:
    started = work_time()
    wait(0.05)
    assert work_time() - started < 0.04
    with working_elsewhere():
        wait(0.05)
    assert 0.05 <= work_time() - started < 1


def test_own_work_is_counted_once() -> None:
    started, clock = work_time(), time.perf_counter()
    with working_elsewhere():
        spin(0.02)
    assert 0.02 <= work_time() - started <= time.perf_counter() - clock + 1e-3


def test_threads_are_counted_apart() -> None:
    started = work_time()
    other = threading.Thread(target=wait_elsewhere)
    other.start()
    other.join()
    assert work_time() - started < 0.04


def wait_elsewhere() -> None:
    with working_elsewhere():
        wait(0.05)
