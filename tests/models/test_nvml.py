from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from models.nvml import GpuState, NvmlError, NvmlGpu


class Driver:
    """Stands in for the driver's library below nvidia-ml-py, whose functions must be there to be replaced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[Any] = []
        self.fails: dict[str, int] = {}
        answers = {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetHandleByPciBusId": lambda place: f"handle of {place}",
            "nvmlDeviceGetName": lambda _: "NVIDIA X",
            "nvmlSystemGetDriverVersion": lambda: "600.1",
            "nvmlDeviceGetTotalEnergyConsumption": lambda _: 1_234_567,
            "nvmlDeviceGetPowerUsage": lambda _: 350_500,
            "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(used=5, total=80, free=75),
            "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=37, memory=9),
        }
        for name, answer in answers.items():
            monkeypatch.setattr(pynvml, name, lambda *given, n=name, a=answer: self._answer(n, a, given))
        place = SimpleNamespace(pci_domain_id=1, pci_bus_id=0xCA, pci_device_id=0)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_properties", {0: place}.__getitem__)
        monkeypatch.setattr(torch.cuda, "memory_reserved", {0: 3}.__getitem__)

    def _answer(self, name: str, answer: Any, given: tuple[Any, ...]) -> Any:
        self.asked.append((name, *given))
        if name in self.fails:
            raise pynvml.NVMLError(self.fails[name])
        return answer(*given)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(monkeypatch)


def test_it_is_the_gpu_that_cuda_means_and_its_units_are_joules_and_watts(driver: Driver) -> None:
    gpu = NvmlGpu()
    assert gpu.name == "NVIDIA X, driver 600.1"
    assert gpu.energy_j() == 1234.567
    assert gpu.state() == GpuState(
        power_w=350.5, memory_bytes=5, memory_limit_bytes=80, utilization=0.37, reserved_bytes=3
    )
    gpu.close()
    handle = "handle of 00000001:CA:00.0"
    assert ("nvmlDeviceGetTotalEnergyConsumption", handle) in driver.asked
    assert driver.asked[0] == ("nvmlInit",)
    assert driver.asked[-1] == ("nvmlShutdown",)


@pytest.mark.parametrize(
    ("function", "ask"),
    [
        ("nvmlDeviceGetTotalEnergyConsumption", NvmlGpu.energy_j),
        ("nvmlDeviceGetUtilizationRates", NvmlGpu.state),
        ("nvmlShutdown", NvmlGpu.close),
    ],
)
def test_what_the_driver_does_not_tell_is_an_error_in_its_words(driver: Driver, function: str, ask: Any) -> None:
    gpu = NvmlGpu()
    driver.fails[function] = pynvml.NVML_ERROR_NOT_SUPPORTED
    with pytest.raises(NvmlError, match="NVML: Not Supported"):
        ask(gpu)


def test_without_the_drivers_library_it_cannot_be_opened(driver: Driver) -> None:
    driver.fails["nvmlInit"] = pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
    with pytest.raises(NvmlError, match="Shared Library Not Found"):
        NvmlGpu()


def test_without_the_package_the_error_says_what_to_install(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NvmlError, match=r"pip install 'lmht-serve\[gpu\]'"):
        NvmlGpu()


def test_without_a_device_of_cudas_there_is_none_to_ask(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NvmlError, match="no CUDA device"):
        NvmlGpu()
    assert driver.asked == []
