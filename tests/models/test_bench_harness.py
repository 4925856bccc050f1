"""The benchmark harness on a clock that only the alternatives move, so that every duration is known."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import numpy
import pytest
from rich.console import Console

from models.bench import (
    Alternative,
    Comparison,
    Machine,
    Ratio,
    compare,
    compare_measured,
    describe_machine,
    print_table,
    progress,
    to_json,
    to_markdown,
)
from models.bench.report import duration

MACHINE = Machine(
    cpu="Some CPU",
    cpu_flags=("avx2",),
    cores=2,
    memory_bytes=2**31,
    system="Linux",
    python="CPython 3.11",
    libraries={"numpy": "2.0"},
    threads={"engine": "2"},
    devices=("Some GPU, driver 1",),
    date="2025-01-01T00:00:00+00:00",
)


class FakeTime:
    """A clock in seconds, and work that moves it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.now

    def takes(self, name: str, seconds: float | Sequence[float]) -> Alternative:
        """An alternative that takes this long; of several durations, one after another."""
        upcoming = cycle([seconds] if isinstance(seconds, float | int) else seconds)

        def run() -> None:
            self.log.append(name)
            self.now += next(upcoming)

        return Alternative(name, run)

    def compare(self, *alternatives: Alternative, **options: Any) -> Comparison:
        defaults: dict[str, Any] = {"baseline": alternatives[0].name, "warmup": 0, "machine": MACHINE, "clock": self}
        return compare(alternatives, **(defaults | options))


def rounds_of(log: list[str], size: int) -> list[list[str]]:
    return [log[start : start + size] for start in range(0, len(log), size)]


def test_constant_durations_give_the_exact_ratio_and_an_interval_of_no_width() -> None:
    time = FakeTime()
    comparison = time.compare(time.takes("slow", 8.0), time.takes("fast", 2.0))
    assert comparison.rounds == 20
    assert comparison["slow"].durations_s == (8.0,) * 20
    assert comparison["fast"].median_s == 2.0
    assert comparison["fast"].quartiles_s == (2.0, 2.0)
    ratio = comparison["fast"].ratio
    assert (ratio.value, ratio.low, ratio.high) == (0.25, 0.25, 0.25)
    assert ratio.inverse.value == 4.0
    own = comparison["slow"].ratio
    assert (own.value, own.low, own.high) == (1.0, 1.0, 1.0)


def test_the_baseline_may_stand_anywhere() -> None:
    time = FakeTime()
    comparison = time.compare(time.takes("a", [2.0, 4.0]), time.takes("b", [8.0, 16.0]), baseline="b", rounds=2)
    assert comparison["a"].ratio == Ratio(0.25, 0.25, 0.25)
    assert comparison["b"].ratio == Ratio(1.0, 1.0, 1.0)


def test_the_ratio_is_that_of_the_medians_not_of_the_means() -> None:
    time = FakeTime()
    comparison = time.compare(time.takes("base", 1.0), time.takes("spiky", [2.0, 2.0, 2.0, 2.0, 1000.0]), rounds=5)
    assert comparison["spiky"].ratio.value == 2.0
    assert comparison["spiky"].quartiles_s == (2.0, 2.0)


@pytest.mark.parametrize(("rounds", "confidence"), [(5, 0.95), (7, 0.95), (15, 0.95), (15, 0.5), (41, 0.9)])
def test_the_interval_is_the_bootstraps_exact_one(rounds: int, confidence: float) -> None:
    # Against a constant baseline and for an odd number of rounds n, a resample's median is at most the k-th smallest
    # duration when (n + 1)/2 or more of n draws fall among the k smallest: a binomial tail, and the interval's ends are
    # the order statistics at which it passes the two levels.
    def at_most(k: int) -> float:
        share = k / rounds
        return math.fsum(
            math.comb(rounds, j) * share**j * (1 - share) ** (rounds - j) for j in range((rounds + 1) // 2, rounds + 1)
        )

    tail = (1 - confidence) / 2
    low, high = (next(k for k in range(1, rounds + 1) if at_most(k) >= level) for level in (tail, 1 - tail))
    time = FakeTime()
    durations = [1.0 + k for k in range(rounds)]
    comparison = time.compare(
        time.takes("base", 1.0), time.takes("x", durations[::-1]), rounds=rounds, confidence=confidence
    )
    ratio = comparison["x"].ratio
    assert (ratio.low, ratio.value, ratio.high) == (durations[low - 1], median(durations), durations[high - 1])


def test_a_slow_phase_that_hits_all_of_a_round_moves_neither_ratio_nor_interval() -> None:
    time = FakeTime()
    machine_slowness = [2.0**k for k in (0, 0, 3, 5, 1, 0, 2, 4, 0, 1)]
    comparison = time.compare(
        time.takes("base", machine_slowness), time.takes("x", [3 * f for f in machine_slowness]), rounds=20
    )
    ratio = comparison["x"].ratio
    assert (ratio.low, ratio.value, ratio.high) == (3.0, 3.0, 3.0)
    assert comparison["base"].quartiles_s != (1.0, 1.0)


def test_each_round_runs_every_alternative_once_in_changing_order() -> None:
    time = FakeTime()
    time.compare(*(time.takes(name, 1.0) for name in "abc"), rounds=60)
    rounds = rounds_of(time.log, 3)
    assert len(rounds) == 60
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert {"".join(names) for names in rounds} == {"abc", "acb", "bac", "bca", "cab", "cba"}


def test_the_seed_decides_order_and_interval() -> None:
    def run(seed: int) -> tuple[list[str], Comparison]:
        time = FakeTime()
        noisy = time.takes("noisy", [1.0, 2.0, 5.0, 3.0, 8.0, 13.0, 1.5])
        comparison = time.compare(time.takes("base", [1.0, 1.1, 1.3]), noisy, seed=seed, resamples=200)
        return time.log, comparison

    assert run(1) == run(1)
    assert run(1)[0] != run(2)[0]
    assert run(1)[1]["noisy"].ratio != run(2)[1]["noisy"].ratio


def test_the_warm_up_is_run_but_not_measured() -> None:
    time = FakeTime()
    cold_then_warm = time.takes("x", [100.0, 50.0, *[1.0] * 10])
    comparison = time.compare(cold_then_warm, time.takes("y", 1.0), warmup=2, rounds=10)
    assert comparison["x"].durations_s == (1.0,) * 10
    assert time.log[:4] == ["x", "x", "y", "y"]


def test_repeats_are_divided_out() -> None:
    time = FakeTime()
    short = Alternative("short", time.takes("short", 0.5).run, repeats=8)
    comparison = time.compare(time.takes("base", 1.0), short, rounds=3)
    assert time.log.count("short") == 24
    assert comparison["short"].durations_s == (0.5,) * 3
    assert comparison["short"].ratio.value == 0.5


def test_the_time_limit_ends_the_rounds_but_never_within_one() -> None:
    time = FakeTime()
    comparison = time.compare(time.takes("a", 1.0), time.takes("b", 2.0), rounds=100, time_limit_s=7.0)
    assert comparison.rounds == 3
    assert comparison.stopped_by == "time limit"
    assert len(comparison["a"].durations_s) == len(comparison["b"].durations_s) == 3
    assert time.compare(time.takes("a", 1.0), rounds=5, time_limit_s=0.0).rounds == 1
    assert time.compare(time.takes("a", 1.0), rounds=5, time_limit_s=1000.0).stopped_by == "rounds"


def test_a_devices_queued_work_is_waited_for_outside_and_inside_the_measurement() -> None:
    time = FakeTime()
    queued = {"seconds": 50.0}  # left over from before

    def launch() -> None:
        queued["seconds"] += 3.0

    def synchronize() -> None:
        time.now += queued["seconds"]
        queued["seconds"] = 0.0

    comparison = time.compare(Alternative("kernel", launch, repeats=2), rounds=4, synchronize=synchronize)
    assert comparison["kernel"].durations_s == (3.0,) * 4


def test_progress_is_told_after_every_round() -> None:
    time = FakeTime()
    told: list[tuple[int, int]] = []
    time.compare(time.takes("a", 1.0), rounds=3, on_round=lambda done, wanted: told.append((done, wanted)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    with progress("x") as on_round:
        time.compare(time.takes("a", 1.0), rounds=3, on_round=on_round)


def test_alternatives_that_measure_themselves_are_compared_as_those_by_the_clock_are() -> None:
    durations = {"a": [1.0, 3.0, 2.0, 8.0], "b": [4.0, 1.0, 9.0, 2.5]}
    time = FakeTime()
    by_clock = time.compare(*(time.takes(name, taken) for name, taken in durations.items()), rounds=4)
    log: list[str] = []

    def measure(name: str, upcoming: Iterator[float]) -> float:
        log.append(name)
        return next(upcoming)

    measures = {name: partial(measure, name, iter(taken)) for name, taken in durations.items()}
    own = compare_measured(measures, baseline="a", rounds=4, warmup=0, machine=MACHINE)
    assert own == by_clock
    assert log == time.log


def test_a_measured_duration_must_be_one() -> None:
    with pytest.raises(ValueError, match="'b'"):
        compare_measured({"a": lambda: 1.0, "b": lambda: 0.0}, baseline="a", rounds=1, machine=MACHINE)


def test_many_rounds_are_resampled_in_bounded_memory_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def ratios() -> Comparison:
        time = FakeTime()
        return time.compare(time.takes("a", 1.0), time.takes("b", [1.0, 4.0, 2.0, 9.0, 5.0]), rounds=25, resamples=500)

    whole = ratios()
    monkeypatch.setattr("models.bench.harness._CELLS_AT_ONCE", 1000)
    assert ratios() == whole


def test_an_alternatives_failure_says_whose_it_is() -> None:
    def fails() -> None:
        raise RuntimeError("no luck")

    time = FakeTime()
    with pytest.raises(RuntimeError, match="no luck") as caught:
        time.compare(time.takes("a", 1.0), Alternative("b", fails))
    assert caught.value.__notes__ == ["while running the alternative 'b'"]


def test_work_too_short_for_the_clock_is_refused() -> None:
    time = FakeTime()
    with pytest.raises(ValueError, match="the clock stood still during 'b'"):
        time.compare(time.takes("a", 1.0), time.takes("b", 0.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "c"}, "none of the alternatives: a, b"),
        ({"rounds": 0}, "at least 1"),
        ({"warmup": -1}, "at least"),
        ({"resamples": 0}, "at least 1"),
        ({"confidence": 1.0}, "confidence"),
    ],
)
def test_what_makes_no_comparison_is_refused_before_anything_runs(options: dict[str, Any], message: str) -> None:
    time = FakeTime()
    with pytest.raises(ValueError, match=message):
        time.compare(time.takes("a", 1.0), time.takes("b", 1.0), **options)
    assert time.log == []


def test_alternatives_with_the_same_name_are_refused() -> None:
    time = FakeTime()
    with pytest.raises(ValueError, match="the same name: a, a"):
        time.compare(time.takes("a", 1.0), time.takes("a", 1.0))


def small_comparison(**options: Any) -> Comparison:
    time = FakeTime()
    return time.compare(
        time.takes("base [x]", 0.25), time.takes("a | b", [0.0005, 0.001, 0.0015]), title="Title", rounds=3, **options
    )


def test_the_json_document_holds_every_measurement_and_the_machine() -> None:
    document = json.loads(to_json(small_comparison()))
    assert document["schema"] == "lmht-bench/1"
    assert document["settings"] == {
        "rounds": 3,
        "warmup": 0,
        "seed": 0,
        "confidence": 0.95,
        "resamples": 10_000,
        "stopped_by": "rounds",
    }
    base, other = document["results"]
    assert document["baseline"] == base["name"] == "base [x]"
    assert other["durations_s"] == pytest.approx([0.0005, 0.001, 0.0015])
    assert other["median_s"] == pytest.approx(0.001)
    assert other["quartiles_s"] == pytest.approx([0.00075, 0.00125])
    assert other["ratio"] == pytest.approx({"value": 0.004, "low": 0.002, "high": 0.006})
    assert document["machine"]["cpu"] == "Some CPU"
    assert document["machine"]["threads"] == {"engine": "2"}


@pytest.mark.parametrize("write", [to_markdown, lambda c: printed(c)])
def test_tables_name_ratios_intervals_and_the_machine(write: Callable[[Comparison], str]) -> None:
    text = write(small_comparison(time_limit_s=100.0)).replace("\\|", "|")
    for expected in (
        "Title",
        "base [x]",
        "250 ms",
        "a | b",
        "1.00 ms",
        "0.750 – 1.25 ms",
        "0.00400 [0.00200, 0.00600]",
        "250 [167, 500]",
        "3 interleaved rounds; ratios of medians with 95 % bootstrap intervals; seed 0",
        "Some CPU, 2 cores, 2.0 GiB",
        "Some GPU, driver 1",
        "avx2",
        "numpy 2.0",
        "threads: engine 2",
        "2025-01-01",
    ):
        assert expected in text
    assert "stopped by the time limit" not in text
    assert "stopped by the time limit" in write(small_comparison(time_limit_s=0.0))


def printed(comparison: Comparison) -> str:
    console = Console(file=io.StringIO(), width=160)
    print_table(comparison, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (123.4, "123 s"),
        (0.9999, "1.00 s"),
        (0.99949, "999 ms"),
        (0.01234, "12.3 ms"),
        (5e-6, "5.00 µs"),
        (2e-10, "0.200 ns"),
    ],
)
def test_durations_have_three_digits_in_the_unit_that_suits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def write_system(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return root


def test_the_machine_is_read_from_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr("models.machine._TELLING_LIBRARIES", ("numpy", "no-such-library"))
    root = write_system(
        tmp_path,
        {
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: Chip 9\nflags\t\t: fpu avx2 avx512_vnni avx512f\n\n"
            "processor\t: 1\nmodel name\t: other\n",
            "proc/meminfo": "MemTotal:       2048 kB\nMemFree:  1 kB\n",
            "sys/fs/cgroup/memory.max": "1048576\n",
        },
    )
    machine = describe_machine(threads={"engine": 2}, devices=["GPU"], root=root)
    assert machine.cpu == "Chip 9"
    assert machine.cpu_flags == ("avx2", "avx512f", "avx512_vnni")
    assert machine.memory_bytes == 1048576
    assert machine.devices == ("GPU",)
    assert machine.threads["OMP_NUM_THREADS"] == "3"
    assert machine.threads["engine"] == "2"
    assert dict(machine.libraries) == {"numpy": numpy.__version__}


def test_a_machine_that_tells_nothing_is_described_all_the_same(tmp_path: Path) -> None:
    machine = describe_machine(root=tmp_path)
    assert machine.cpu
    assert machine.cpu_flags == ()
    assert machine.memory_bytes is None
    assert machine.cores >= 1
    assert to_json(small_comparison(machine=machine))
    assert "GiB" not in to_markdown(small_comparison(machine=machine))


def test_measuring_needs_neither_rich_nor_a_web_server_nor_torch() -> None:
    program = (
        "import sys\n"
        "for name in ('rich', 'fastapi', 'torch', 'pydantic'): sys.modules[name] = None\n"
        "from models.bench import Alternative, compare, to_json, to_markdown\n"
        "c = compare([Alternative('a', lambda: sum(range(1000)))], baseline='a', rounds=2)\n"
        "to_json(c), to_markdown(c)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
