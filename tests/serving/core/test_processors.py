import os
from pathlib import Path

import pytest

from serving.core.processors import usable_processors

ALL = len(os.sched_getaffinity(0))


def version_1(folder: Path, quota: str, period: str = "100000") -> None:
    (folder / "cpu").mkdir()
    (folder / "cpu/cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu/cpu.cfs_period_us").write_text(f"{period}\n")


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_processors(tmp_path) == ALL


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000", ALL),
        ("50000 100000", 1),
        ("100000 100000", 1),
        ("150000 100000", min(2, ALL)),
        ("6400000 100000", ALL),
        ("nonsense", ALL),
        ("0 0", ALL),
    ],
)
def test_version_2_of_control_groups(tmp_path: Path, limit: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert usable_processors(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", ALL), ("20000", 1), ("9900000", ALL)])
def test_version_1_of_control_groups(tmp_path: Path, quota: str, expected: int) -> None:
    version_1(tmp_path, quota)
    assert usable_processors(tmp_path) == expected


def test_one_processor_of_the_affinity(tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_processors(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, allowed)
