"""A server's process with all that this one started: what it costs, its pauses and its end."""

import re
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_STOP_TIMEOUT_S = 10.0
_GONE = (psutil.NoSuchProcess, psutil.ZombieProcess, FileNotFoundError, ProcessLookupError)


def tree(pid: int) -> Iterator[psutil.Process]:
    """Yields a process and its descendants."""
    with suppress(*_GONE):
        root = psutil.Process(pid)
        yield root
        yield from root.children(recursive=True)


def cpu_s(pid: int) -> float:
    """Adds up the processor time of a tree, in seconds, with that of children that have ended."""
    total = 0.0
    for process in tree(pid):
        with suppress(*_GONE):
            total += sum(process.cpu_times()[:4])  # user, system; the same of ended children
    return total


def peak_mb(pid: int) -> float:
    """Adds up the largest resident memory that each process of a tree ever had.

    Pages that processes share count for each of them.
    """
    total = 0.0
    for process in tree(pid):
        with suppress(*_GONE):
            total += read_peak_mb(Path(f"/proc/{process.pid}/status").read_text())
    return total


def read_peak_mb(status: str) -> float:
    """Finds the largest resident memory in the text of /proc/PID/status."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def pause(pid: int) -> None:
    """Stops a tree where it is: some servers take processor time even when nobody asks them."""
    _signal(tree(pid), signal.SIGSTOP)


def resume(pid: int) -> None:
    """Lets a tree go on."""
    _signal(tree(pid), signal.SIGCONT)


@contextmanager
def awake(pid: int) -> Iterator[None]:
    """Lets a paused tree run for a while."""
    resume(pid)
    try:
        yield
    finally:
        pause(pid)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process, then whatever it leaves behind."""
    family = list(tree(process.pid))
    resume(process.pid)
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_TIMEOUT_S)
    _signal(family, signal.SIGKILL)
    process.wait()


def _signal(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(*_GONE):
            process.send_signal(number)
