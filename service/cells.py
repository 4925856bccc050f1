"""Where counts lie: in memory, or in files that outlive their process, so that a killed worker's counts are not lost.

With several worker processes each has a file of doubles in the folder where they meet, mapped into its memory: adding
to one costs what it costs in memory, and what a process had counted when it was killed, whoever reads the files still
finds. Beside it lies an index, a line of JSON for each name and its labels. A process holds a lock on its file as long
as it lives; those that nobody holds are added up in `gone.json` and removed.

A counter must never fall, not even by a rounding error, which Prometheus would take for a restart. So sums over
processes are rounded once, and what is kept of processes that are gone is exact: a list of doubles for each number.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import mmap
import os
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import orjson

# A name and the values of its labels.
Key = tuple[str, tuple[str, ...]]
Values = dict[Key, list[float]]
_BYTES = 8
# Cells that are set aside at once: enough for some hundred budgets of models.
_SEGMENT = 32_768
_CELLS, _INDEX, _GONE, _LOCK = ".cells", ".index", "gone.json", "counts.lock"


class Cells:
    """Doubles, 0 at first, by names.

    Args:
        folder: where they lie in a file; None for this process's own memory. Raises OSError where there is no room.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._taken: dict[Key, memoryview[float]] = {}
        self._free: memoryview[float] = memoryview(bytearray()).cast("d")
        self._next = 0  # the number of the first free cell
        self._file = self._index = -1
        if folder:
            path = folder / f"{os.getpid()}-{time.time_ns()}{_CELLS}"
            # Within the lock, so that nobody finds the file before it is held.
            with _locked(folder):
                self._index = _create(path.with_suffix(_INDEX))
                self._file = _create(path)
                fcntl.flock(self._file, fcntl.LOCK_EX)

    def take(self, name: str, labels: tuple[str, ...], count: int) -> memoryview[float]:
        """Some cells that are nobody else's. Raises OSError where a file cannot hold them."""
        if len(self._free) < count:
            self._free, self._next = self._segment()
        cells, self._free = self._free[:count], self._free[count:]
        if self._file >= 0:
            os.write(self._index, orjson.dumps([name, labels, self._next, count]) + b"\n")
        self._next += count
        self._taken[name, labels] = cells
        return cells

    def totals(self) -> Values:
        """What all cells hold, those of the other processes and of those that are gone added."""
        if self._folder is None:
            return {key: list(cells) for key, cells in self._taken.items()}
        return totals(self._folder)

    def close(self) -> None:
        """Leave what was counted to the others; nothing may be counted from now on."""
        if self._file >= 0:
            fcntl.flock(self._file, fcntl.LOCK_UN)  # the mapped memory holds the file open
            os.close(self._file)
            os.close(self._index)
            self._file = self._index = -1

    def _segment(self) -> tuple[memoryview[float], int]:
        """More cells, and the number of the first."""
        size = _SEGMENT * _BYTES
        if self._file < 0:
            return memoryview(bytearray(size)).cast("d"), 0
        start = os.fstat(self._file).st_size
        # Set aside on the disk, since a write to memory has no way to say that there is no room.
        os.posix_fallocate(self._file, start, size)
        return memoryview(mmap.mmap(self._file, size, offset=start)).cast("d"), start // _BYTES


def totals(folder: Path) -> Values:
    """What all processes that met in a folder have counted, those that are gone too."""
    with _locked(folder):
        gone, folded = _read_gone(folder)
        alive: list[Values] = []
        ended: list[Path] = []
        for path in sorted(folder.glob(f"*{_CELLS}")):
            if path.stem in folded:  # whoever added it up was ended before the file was removed
                _remove(path)
            elif _is_gone(path):  # asked first: what is read now is its last
                ended.append(path)
                _add(gone, _read(path))
            else:
                alive.append(_read(path))
        if ended:
            _write_gone(folder, gone, [path.stem for path in ended])
            for path in ended:
                _remove(path)
    return _sum(gone, alive)


def _sum(gone: dict[Key, list[list[float]]], alive: Iterable[Values]) -> Values:
    parts = {key: [list(cell) for cell in cells] for key, cells in gone.items()}
    for values in alive:
        for key, cells in values.items():
            for position, cell in zip(parts.setdefault(key, [[] for _ in cells]), cells, strict=True):
                position.append(cell)
    return {key: [math.fsum(cell) for cell in cells] for key, cells in parts.items()}


def _add(gone: dict[Key, list[list[float]]], values: Values) -> None:
    for key, cells in values.items():
        there = gone.setdefault(key, [[] for _ in cells])
        gone[key] = [_exact([*parts, cell]) for parts, cell in zip(there, cells, strict=True)]


def _exact(numbers: Iterable[float]) -> list[float]:
    """Doubles whose sum is exactly that of the numbers; few."""
    rest, found = sum(map(Fraction, numbers), Fraction()), []
    while rest:
        found.append(float(rest))
        rest -= Fraction(found[-1])
    return found


def _read(path: Path) -> Values:
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return {}
        # Mapped, since a double is then read whole, while it is being written to.
        with (
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped,
            memoryview(mapped) as raw,
            raw.cast("d") as cells,
        ):
            found: Values = {}
            for line in path.with_suffix(_INDEX).read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):  # the last one may be under way
                    name, labels, start, count = orjson.loads(line)
                    found[name, tuple(labels)] = list(cells[start : start + count])
            return found


def _read_gone(folder: Path) -> tuple[dict[Key, list[list[float]]], set[str]]:
    try:
        content = orjson.loads((folder / _GONE).read_bytes())
    except FileNotFoundError:
        return {}, set()
    return {(name, tuple(labels)): cells for name, labels, cells in content["counts"]}, set(content["files"])


def _write_gone(folder: Path, gone: dict[Key, list[list[float]]], files: list[str]) -> None:
    counts = [[name, labels, cells] for (name, labels), cells in gone.items()]
    written = folder / f"{_GONE}.new"
    written.write_bytes(orjson.dumps({"files": files, "counts": counts}))
    written.replace(folder / _GONE)


def _is_gone(path: Path) -> bool:
    """Whether nobody holds a file."""
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(file)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_suffix(_INDEX).unlink(missing_ok=True)


def _create(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Within it no other process, and no other thread, is in its own; it is short."""
    with (folder / _LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
