"""The CPU as the scheduler of the operating system grants it."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def available_threads(root: Path = Path("/")) -> int:
    """How many threads can run at once, at least 1.

    That is the cores this process may run on, or the CPU quota of its cgroup where that is less: a container limited
    to 2 of 64 cores that starts 64 threads is stopped for most of every period. A fraction of a core is rounded up.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas(root))]))


def model_name(root: Path = Path("/")) -> str:
    """The CPU's name for people, ``unknown`` where it cannot be had."""
    # ARM's cpuinfo has no name.
    return _cpuinfo(root).get("model name") or platform.processor() or "unknown"


def flags(root: Path = Path("/")) -> tuple[str, ...]:
    """The instruction sets and other features of the first core, as Linux names them; none where it does not say."""
    found = _cpuinfo(root)
    return tuple((found.get("flags") or found.get("Features") or "").split())


def _cpuinfo(root: Path) -> dict[str, str]:
    """The first core's entries."""
    first = _read(root / "proc/cpuinfo").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _quotas(root: Path) -> Iterator[float]:
    """The quotas in cores that bind this process: its cgroup's and those of every group around it.

    A container may see its group at the mount's root although ``/proc/self/cgroup`` still gives the path on the host;
    levels that do not exist are skipped, which covers both.
    """
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        group = PurePosixPath(path.lstrip("/"))
        for level in (group, *group.parents):
            if not controllers:  # version 2
                yield from _quotient(_read(mount / level / "cpu.max"))
            elif "cpu" in controllers.split(","):
                folder = mount / "cpu" / level
                yield from _quotient(f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}")


def _quotient(text: str) -> Iterator[float]:
    """``quota period`` as cores; nothing for no limit: ``max`` in version 2, -1 in version 1, or no such file."""
    try:
        quota, period = (int(word) for word in text.split())
    except ValueError:
        return
    if quota > 0 and period > 0:
        yield quota / period


def _read(path: Path) -> str:
    """A file's text; empty where the system has no such file or keeps it to itself."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
