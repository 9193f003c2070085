"""A process and its children, measured, paused and ended."""

import os
import subprocess
import sys

import psutil
import pytest

from tests.bench.process_tree import awake, cpu_s, pause, peak_mb, read_peak_mb, stop, tree

CHILD_OF_A_CHILD = (
    "import subprocess, sys;"
    "child = subprocess.Popen(['sleep', '60'], start_new_session=True);"
    "print(child.pid, flush=True);"
    "child.wait()"
)


@pytest.fixture
def family():
    command = [sys.executable, "-c", CHILD_OF_A_CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        yield process, int(process.stdout.readline())
        if process.poll() is None:
            stop(process)


def test_memory_and_time_of_a_tree():
    assert peak_mb(os.getpid()) > 1
    assert cpu_s(os.getpid()) > 0
    assert peak_mb(1 << 22) == 0  # larger than any process's number


def test_the_peak_is_read_from_the_status():
    assert read_peak_mb("Name:\tpython\nVmHWM:\t    1000 kB\nVmRSS:\t 500 kB\n") == 1.024
    assert read_peak_mb("Name:\tkthreadd\n") == 0


def test_children_belong_to_it(family):
    process, child = family
    assert [each.pid for each in tree(process.pid)] == [process.pid, child]


def test_it_pauses_and_goes_on(family):
    process, _ = family
    pause(process.pid)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    with awake(process.pid):
        assert os.WIFCONTINUED(os.waitpid(process.pid, os.WCONTINUED)[1])
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])


def test_nothing_stays_behind(family):
    process, child = family
    orphan = psutil.Process(child)
    pause(process.pid)
    stop(process)
    assert process.poll() is not None
    orphan.wait(timeout=10)
