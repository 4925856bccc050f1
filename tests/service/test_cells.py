"""Counts of several processes; but for the one that is killed, each is a `Cells` with a lock of its own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from service.cells import Cells, totals

ROOT = Path(__file__).parents[2]
KEY = ("lmht_things", ("a", "1"))


def test_in_one_process_cells_start_at_zero_and_are_nobody_elses() -> None:
    cells = Cells()
    first, second = cells.take("a", ("x",), 3), cells.take("b", (), 2)
    first[0], first[2], second[1] = 1.5, 2.0, 4.0
    assert cells.totals() == {("a", ("x",)): [1.5, 0.0, 2.0], ("b", ()): [0.0, 4.0]}
    cells.close()


def test_what_all_have_counted_is_added_up(tmp_path: Path) -> None:
    several = [Cells(tmp_path) for _ in range(3)]
    for number, cells in enumerate(several, 1):
        cells.take(*KEY, 2)[1] = number
        cells.take(f"only_{number}", (), 1)[0] = 1.0
    for cells in several:
        found = cells.totals()
        assert found.pop(KEY) == [0.0, 6.0]
        assert found == {(f"only_{number}", ()): [1.0] for number in (1, 2, 3)}
    # Whoever lives goes on counting, however often the others have looked.
    again = several[1].take("more", (), 1)
    assert totals(tmp_path)["more", ()] == [0.0]
    again[0] = 7.0
    assert totals(tmp_path)["more", ()] == [7.0]
    for cells in several:
        cells.close()


def test_a_killed_process_has_counted_to_its_last(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from service.cells import Cells\n"
        "cells = Cells(Path(sys.argv[1])).take('lmht_things', ('a', '1'), 1)\n"
        "for _ in range(12345): cells[0] += 1\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert totals(tmp_path) == {KEY: [12345.0]}
    assert not list(tmp_path.glob("*.cells"))  # added to what is gone, once and for all
    assert totals(tmp_path) == {KEY: [12345.0]}
    mine = Cells(tmp_path)
    mine.take(*KEY, 1)[0] = 5.0
    assert mine.totals() == {KEY: [12350.0]}
    mine.close()


def test_sums_are_exact_and_do_not_change_when_processes_end(tmp_path: Path) -> None:
    """Rounded in another order they would fall by a last digit, which Prometheus takes for a restart."""
    numbers = random.Random(3)
    changed = 0
    for trial in range(20):
        folder = tmp_path / str(trial)
        folder.mkdir()
        values = [numbers.random() * 10.0 ** numbers.randint(-9, 9) for _ in range(7)]
        several = [Cells(folder) for _ in values]
        for cells, value in zip(several, values, strict=True):
            cells.take(*KEY, 1)[0] = value
        expected = float(sum(map(Fraction, values)))
        changed += sum(values) != expected
        ending = list(several)
        numbers.shuffle(ending)
        for cells in ending:
            assert totals(folder) == {KEY: [expected]}
            cells.close()
        assert totals(folder) == {KEY: [expected]}
    assert changed  # the naive sum would have differed somewhere


def test_who_was_added_up_but_not_yet_removed_counts_once(tmp_path: Path) -> None:
    ended = Cells(tmp_path)
    ended.take(*KEY, 1)[0] = 2.0
    ended.close()
    left = {path: path.read_bytes() for path in tmp_path.iterdir() if path.suffix in (".cells", ".index")}
    assert len(left) == 2
    assert totals(tmp_path) == {KEY: [2.0]}
    for path, content in left.items():  # as where the one that added it up was killed at that moment
        path.write_bytes(content)
    assert totals(tmp_path) == {KEY: [2.0]}
    assert not list(tmp_path.glob("*.cells"))


def test_a_process_that_died_while_it_began_leaves_nothing_that_hurts(tmp_path: Path) -> None:
    early, late = Cells(tmp_path), Cells(tmp_path)
    late.take(*KEY, 1)[0] = 1.0
    index = next(path for path in tmp_path.glob("*.index") if path.stat().st_size)
    with index.open("ab") as file:
        file.write(b'["lmht_things",["b')
    early.close()
    late.close()
    assert totals(tmp_path) == {KEY: [1.0]}


def test_there_is_room_for_any_number_of_models(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        cells = Cells(folder)
        for number in range(2500):
            taken = cells.take("lmht_things", (str(number),), 18)
            taken[0], taken[17] = number, 1.0
        found = cells.totals()
        assert len(found) == 2500
        assert all(found["lmht_things", (str(n),)] == [n, *[0.0] * 16, 1.0] for n in range(2500))
        cells.close()


def test_where_there_is_no_room_that_is_said_before_it_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int, start: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    cells = Cells(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        cells.take(*KEY, 1)
    cells.close()
    assert totals(tmp_path) == {}
