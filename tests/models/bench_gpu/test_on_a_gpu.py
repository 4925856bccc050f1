"""What only a GPU can show; left out where there is none."""

from __future__ import annotations

import time

import pytest
import torch

from models.bench.gpu import alternatives
from models.bench.gpu.alternatives import COMPILED, EAGER
from models.bench.gpu.cases import Case
from models.bench.gpu.device import CudaDevice
from models.bench.gpu.measuring import measured
from models.bench.random_network import Tgim
from models.machine import describe_machine
from models.nvml import NvmlGpu
from tests import interpreter
from tests.models.bench_gpu.stand_in import TINY

pytestmark = interpreter.on_a_gpu


@pytest.mark.parametrize("tgim", ["full", "factored"])
@pytest.mark.long
def test_every_alternative_is_timed_and_its_energy_measured(tgim: Tgim) -> None:
    case, networks, device = Case(TINY, tgim, 2, 1), alternatives.Networks((2,)), CudaDevice()
    makers = alternatives.makers(case, networks, device)
    found = measured(case.name, makers, device, describe_machine(), batch=1, rounds=3, seed=0)
    assert found["failed"] == {}
    assert found["energy_failed"] is None
    assert found["latency_s"].keys() == found["energy"].keys() == makers.keys()
    for result in found["comparison"]["results"]:
        assert 1e-6 < result["median_s"] < 1
    for name in makers:
        assert found["latency_s"][name]["p50"] <= found["latency_s"][name]["p99"] < 1
        assert 10 < found["energy"][name]["joules"] / found["energy"][name]["seconds"] < 2000


@pytest.mark.long
def test_what_is_compiled_answers_as_what_is_not() -> None:
    makers = alternatives.makers(Case(TINY, "full", 2, 4), alternatives.Networks((2,)), CudaDevice())
    (compiled,), (eager,) = makers[COMPILED]().run(), makers[EAGER]().run()
    # What is fused is rounded less often, which moves a spike here and there.
    assert (compiled - eager).abs().mean() < 0.2 * eager.abs().mean()


def test_a_graph_reads_the_images_that_it_is_given_anew() -> None:
    device = CudaDevice()
    work = device.captured(lambda x: [x * 2], torch.ones(3, device="cuda"))
    assert work.run()[0].tolist() == [2, 2, 2]
    work.images.fill_(5)
    assert work.run()[0].tolist() == [10, 10, 10]


def test_the_energy_counter_rises_by_what_the_power_comes_to() -> None:
    gpu = NvmlGpu()
    began, first = time.perf_counter(), gpu.energy_j()
    time.sleep(2)
    drawn_w = (gpu.energy_j() - first) / (time.perf_counter() - began)
    state = gpu.state()
    assert drawn_w == pytest.approx(state.power_w, rel=0.5)
    assert 0 < state.memory_bytes < state.memory_limit_bytes
    assert 0 <= state.utilization <= 1
    gpu.close()
