from __future__ import annotations

import pytest

from models.bench.gpu.energy import Drawn, drawn
from models.nvml import NvmlError


class Bench:
    """Work of 7 ms for 3 images, on a GPU that draws 200 W and says so every 100 ms."""

    def __init__(self, broken_at: float = float("inf")) -> None:
        self.now = 0.06
        self._broken_at = broken_at

    def work(self) -> int:
        self.now += 0.007
        return 3

    def clock(self) -> float:
        return self.now

    def energy_j(self) -> float:
        return 200 * (min(self.now, self._broken_at) // 0.1) * 0.1


def test_it_is_measured_from_step_to_step_and_over_the_least_time() -> None:
    bench = Bench()
    found = drawn(bench.work, bench.energy_j, least_s=1.0, clock=bench.clock)
    assert found.seconds >= 1.0
    # Both ends lie within one run of a step, where the counter is right.
    assert found.power_w == pytest.approx(200, rel=2 * 0.007)
    assert found.images / found.seconds == pytest.approx(3 / 0.007, rel=1e-9)
    assert found.images_per_joule == pytest.approx(3 / 0.007 / 200, rel=2 * 0.007)


def test_a_counter_that_stands_still_is_no_measurement() -> None:
    bench = Bench(broken_at=0.5)
    with pytest.raises(NvmlError, match="stands still"):
        drawn(bench.work, bench.energy_j, least_s=1.0, clock=bench.clock)
    assert bench.now < 10


def test_images_a_joule_are_images_a_second_and_watt() -> None:
    found = Drawn(images=600, seconds=2.0, joules=300.0)
    assert found.power_w == 150
    assert found.images_per_joule == 2 == 600 / 2.0 / found.power_w
