"""What the operating system grants, read from a made-up /proc and /sys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models import cpu


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_a_quota_every_core_of_the_affinity_counts(tmp_path: Path) -> None:
    assert cpu.available_threads(tmp_path) == 16
    lay(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"})
    assert cpu.available_threads(tmp_path) == 16


@pytest.mark.parametrize(
    ("quota", "threads"), [("200000 100000", 2), ("250000 100000", 3), ("50000 100000", 1), ("9900000 100000", 16)]
)
def test_a_version_2_quota_limits_the_threads_and_a_fraction_rounds_up(
    tmp_path: Path, quota: str, threads: int
) -> None:
    lay(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{quota}\n"})
    assert cpu.available_threads(tmp_path) == threads


def test_the_tightest_quota_on_the_way_to_the_root_binds(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/pod/container\n",
        "sys/fs/cgroup/pod/cpu.max": "300000 100000\n",
        "sys/fs/cgroup/pod/container/cpu.max": "max 100000\n",
    }
    assert cpu.available_threads(lay(tmp_path, files)) == 3
    lay(tmp_path, {"sys/fs/cgroup/pod/container/cpu.max": "400000 200000\n"})
    assert cpu.available_threads(tmp_path) == 2


def test_a_group_that_is_mounted_as_the_root_is_found_under_its_path_on_the_host(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/docker/0123abcd\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}
    assert cpu.available_threads(lay(tmp_path, files)) == 2


@pytest.mark.parametrize(("quota", "threads"), [("-1", 16), ("350000", 4)])
def test_a_version_1_quota_is_read_from_its_two_files(tmp_path: Path, quota: str, threads: int) -> None:
    files = {
        "proc/self/cgroup": "5:memory:/job\n4:cpu,cpuacct:/job\n3:cpuset:/other\n",
        "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": f"{quota}\n",
        "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
    }
    assert cpu.available_threads(lay(tmp_path, files)) == threads


def test_an_affinity_below_the_quota_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert cpu.available_threads(tmp_path) == 1


def test_the_name_is_that_of_the_first_core(tmp_path: Path) -> None:
    text = "processor\t: 0\nvendor_id\t: X\nmodel name\t: Some CPU @ 3: GHz\n\nprocessor\t: 1\nmodel name\t: Other\n"
    assert cpu.model_name(lay(tmp_path, {"proc/cpuinfo": text})) == "Some CPU @ 3: GHz"


def test_a_cpu_without_a_name_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.processor", lambda: "")
    assert cpu.model_name(lay(tmp_path, {"proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 50.00\n"})) == "unknown"
