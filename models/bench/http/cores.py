"""One core for the server, another for the load generator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.bench.http.errors import BenchError


@dataclass(frozen=True)
class Cores:
    """Logical processors by the system's numbers. ``siblings``: they are two threads of one physical core."""

    server: int
    client: int
    siblings: bool


def choose(available: frozenset[int] | None = None, root: Path = Path("/")) -> Cores:
    """Choose two of the processors that this process may run on, on two physical cores where there are as many.

    Args:
        available: the processors; this process's own unless given.
        root: where ``sys`` is.

    Raises BenchError when there is only one, or the system does not pin processes.
    """
    if available is None:
        if not hasattr(os, "sched_getaffinity"):
            raise BenchError("this system cannot pin a process to a core: run the benchmark on Linux")
        available = frozenset(os.sched_getaffinity(0))
    if len(available) < 2:
        raise BenchError("the server and wrk need a core each, and this process may run on one only")
    server, *others = sorted(available)
    siblings = _siblings(root, server)
    apart = [core for core in others if core not in siblings]
    return Cores(server, apart[0] if apart else others[0], siblings=not apart)


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Have this thread, and the processes and threads that it starts meanwhile, run on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _siblings(root: Path, core: int) -> set[int]:
    """The processors of the same physical core, as lists such as ``0,4`` or ``0-1`` say; none where nothing is said."""
    path = root / f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return set()
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
