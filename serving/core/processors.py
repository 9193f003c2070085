"""How many processors this process may use: fewer than there are, in a container with a limit."""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def usable_processors(cgroups: Path = CGROUPS) -> int:
    """Returns how many run at once: of the affinity, and of the control group's quota, rounded up.

    Args:
        cgroups: where the process's control group is mounted, version 2 or 1.
    """
    affinity = hasattr(os, "sched_getaffinity")  # on Linux
    allowed = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
    quota = _quota(cgroups)
    return allowed if quota is None else min(allowed, math.ceil(quota))


def _quota(cgroups: Path) -> float | None:
    """Returns processor time for each second of time, None for no limit."""
    try:
        quota, period = (cgroups / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = (
                (cgroups / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
            )
        except OSError:
            return None
    try:
        return int(quota) / int(period) if int(quota) > 0 else None
    except (ValueError, ZeroDivisionError):  # "max"
        return None


USABLE_PROCESSORS = usable_processors()
