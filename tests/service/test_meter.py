from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from models.nvml import Gpu, NvmlError
from service import meter as metering
from service.gauges import GAUGES
from service.meter import GpuMeter, Meter, NoMeter, open_meter
from tests.gpus import DrawingGpu

PATIENCE_S = 30.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "_LEAST_WINDOW_S", 0.1)
    monkeypatch.setattr(metering, "_EVERY_S", 0.01)


@contextmanager
def running(open_gpu: Callable[[], Gpu], shared: bool = False) -> Iterator[GpuMeter]:
    """A meter that has opened its GPU, or could not."""
    meter = GpuMeter(open_gpu, shared)
    try:
        until(lambda: meter.unavailable != "the GPU has not been opened yet")
        yield meter
    finally:
        meter.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_power_is_what_was_drawn_over_at_least_the_least_window() -> None:
    with running(lambda: DrawingGpu(power_w=250.0)) as meter:
        assert meter.unavailable is None
        assert meter.gpu == "a GPU, driver 1"
        # Asked at once, it waits until there is a window.
        power = meter.power(time.perf_counter())
        assert power.mean_w == pytest.approx(250, rel=0.05)
        assert 0.1 <= power.window_s < 1


def test_the_window_begins_before_the_moment_that_is_asked_about() -> None:
    gpu = DrawingGpu()
    stepped = time.perf_counter() + 0.3  # from then on it draws three times as much
    gpu.counter = lambda: 100.0 * time.perf_counter() + 200.0 * max(0.0, time.perf_counter() - stepped)
    with running(lambda: gpu) as meter:
        time.sleep(0.6)
        now = time.perf_counter()
        late, early = meter.power(now), meter.power(now - 0.4)
        assert late.window_s == pytest.approx(0.1, abs=0.05)
        assert late.mean_w == pytest.approx(300, rel=0.05)
        assert early.window_s >= 0.4
        drawn = 100 * early.window_s + 200 * (now - stepped)
        assert early.mean_w == pytest.approx(drawn / early.window_s, rel=0.1)


def test_what_lies_further_back_than_is_kept_is_not_covered() -> None:
    with running(DrawingGpu) as meter:
        power = meter.power(-1e9)
        assert power.window_s < 10
        assert power.mean_w == pytest.approx(100, rel=0.05)


def test_a_counter_that_began_anew_is_no_energy() -> None:
    gpu = DrawingGpu()
    with running(lambda: gpu) as meter:
        time.sleep(0.15)
        gpu.counter = lambda: 0.0
        with pytest.raises(NvmlError, match="began anew"):
            meter.power(time.perf_counter() - 0.1)


def test_processes_that_share_a_gpu_read_it_and_attribute_nothing() -> None:
    gpu, asked = DrawingGpu(), []

    def counter() -> float:
        asked.append(1)
        return float(len(asked))

    gpu.counter = counter
    with running(lambda: gpu, shared=True) as meter:
        assert meter.unavailable == "several worker processes share the GPU"
        time.sleep(0.1)
        assert len(asked) == 1  # nobody needs what is read between scrapes
        with pytest.raises(NvmlError, match="several worker processes"):
            meter.power(0.0)
        assert "lmht_gpu_energy_joules_total" in {reading.name for reading in meter.readings()}


def test_what_a_scrape_reads_is_what_there_is_a_gauge_for() -> None:
    gpu = DrawingGpu(power_w=70)
    gpu.counter = lambda: 12.5
    with running(lambda: gpu) as meter:
        found = {reading.name: reading.value for reading in meter.readings()}
    assert found == {
        "lmht_gpu_power_watts": 70,
        "lmht_gpu_memory_bytes": 1000,
        "lmht_gpu_memory_limit_bytes": 4000,
        "lmht_gpu_reserved_bytes": 300,
        "lmht_gpu_utilization_ratio": 0.5,
        "lmht_gpu_energy_joules_total": 12.5,
    }
    assert found.keys() == {gauge.name for gauge in GAUGES if gauge.name.startswith("lmht_gpu_")}
    assert gpu.closed


def test_a_gpu_without_a_counter_is_read_for_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    gpu = DrawingGpu()

    def no_counter() -> float:
        raise NvmlError("NVML: Not Supported")

    gpu.counter = no_counter
    with caplog.at_level(logging.WARNING), running(lambda: gpu) as meter:
        assert meter.unavailable == "NVML: Not Supported"
        names = {reading.name for reading in meter.readings()}
        assert "lmht_gpu_power_watts" in names
        assert "lmht_gpu_energy_joules_total" not in names
    assert "cannot be measured: NVML: Not Supported" in caplog.text


def test_a_gpu_that_cannot_be_opened_is_no_reason_not_to_serve(caplog: pytest.LogCaptureFixture) -> None:
    def missing() -> Gpu:
        raise NvmlError("nvidia-ml-py is not installed")

    with caplog.at_level(logging.WARNING), running(missing) as meter:
        assert meter.unavailable == "nvidia-ml-py is not installed"
        assert meter.readings() == []
    assert "nvidia-ml-py is not installed" in caplog.text


def test_a_gpu_that_is_lost_is_read_no_more_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    gpu = DrawingGpu()
    with caplog.at_level(logging.WARNING), running(lambda: gpu) as meter:
        gpu.broken = "NVML: GPU is lost"
        until(lambda: meter.unavailable is not None)
        assert meter.readings() == []
        with pytest.raises(NvmlError, match="GPU is lost"):
            meter.power(0.0)
    assert caplog.text.count("cannot be measured") == 1
    assert "cannot be let go of" in caplog.text


def test_a_driver_that_hangs_does_not_keep_the_server_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "_PATIENCE_S", 0.05)
    gate, gpu = threading.Event(), DrawingGpu()

    def hang() -> Gpu:
        gate.wait(PATIENCE_S)
        return gpu

    meter = GpuMeter(hang)
    assert meter.unavailable == "the GPU has not been opened yet"
    assert meter.readings() == []
    began = time.monotonic()
    meter.close()
    assert time.monotonic() - began < 5
    gate.set()


def test_on_the_cpu_nothing_is_measured_and_it_says_why() -> None:
    meter: Meter = open_meter(cuda=False, shared=False)
    assert isinstance(meter, NoMeter)
    assert meter.unavailable == "the engines run on the CPU"
    assert meter.readings() == []
    with pytest.raises(NvmlError, match="run on the CPU"):
        meter.power(0.0)
    meter.close()


def test_with_cuda_it_is_nvmls_gpu_that_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "NvmlGpu", DrawingGpu)
    meter = open_meter(cuda=True, shared=True)
    until(lambda: meter.unavailable == "several worker processes share the GPU")
    meter.close()
